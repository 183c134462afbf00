"""Reward prediction: its closed form, what does not count, and that it learns what there is to learn."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from robovae.collect import CollectConfig, collect
from robovae.dynamics import TemporalPrior
from robovae.episodes import EpisodeStore
from robovae.records import read_lines
from robovae.train import TrainConfig, train
from robovae.train.config import TrainError
from robovae.train.data import Sequences
from robovae.train.objectives import GlobalObjective
from robovae.train.reward import RewardPrediction
from robovae.vae import VAE, ModelConfig
from tests.toy_env import make_toy


def silent(mean: float = 0.0, std: float = 1.0) -> RewardPrediction:
    """It always tells the mean."""
    head = RewardPrediction(3, 2, mean, std)
    torch.nn.init.zeros_(head.told[-1].weight)
    torch.nn.init.zeros_(head.told[-1].bias)
    return head


def batch(seed: int = 0, size: int = 16, length: int = 6) -> list[torch.Tensor]:
    """Latents, actions, a reward that is a product of both, and frames everywhere."""
    draw = torch.Generator().manual_seed(seed)
    z = torch.randn(size, length, 3, generator=draw)
    action = torch.randn(size, length, 2, generator=draw)
    return [z, action, z[..., 0] + 0.5 * z[..., 1] * action[..., 0], torch.ones(size, length)]


def test_who_tells_the_mean_misses_the_variance():
    z, action, reward, mask = batch()
    head = silent(mean=0.25, std=2.0)
    wanted = ((reward[:, :-1] - 0.25) / 2.0).square().mean()
    torch.testing.assert_close(head.missed(z, action, reward, mask), wanted)
    torch.testing.assert_close(head(z, action, reward, mask), 0.5 * torch.log(wanted + 1e-4))


def test_steps_past_an_episode_and_the_last_frame_do_not_count():
    z, action, reward, mask = batch()
    mask[:, 3:] = 0
    short = silent().missed(z, action, reward, mask)
    torch.testing.assert_close(short, reward[:, :2].square().mean())
    reward[:, 2:] = math.nan
    assert torch.equal(silent().missed(z, action, reward, mask), short)
    mask[:, 1:] = 0
    assert float(silent().missed(z, action, reward, mask)) == 0.0


def fitted(reward_of) -> float:
    """What is missed of unseen rewards after a short training."""
    torch.manual_seed(0)
    head = RewardPrediction(3, 2, 0.0, 1.0)
    optimizer = torch.optim.Adam(head.parameters(), 3e-3)
    for step in range(400):
        optimizer.zero_grad()
        head(*reward_of(step)).backward()
        optimizer.step()
    with torch.no_grad():
        return float(head.missed(*reward_of(10_000)))


def test_it_learns_what_latents_and_actions_tell():
    assert fitted(lambda seed: batch(seed, 64)) < 0.05


def test_nothing_is_learnt_of_rewards_that_are_drawn():  # negative control
    def drawn(seed: int) -> list[torch.Tensor]:
        z, action, reward, mask = batch(seed, 64)
        return [z, action, torch.randn(reward.shape, generator=torch.Generator().manual_seed(seed + 1)), mask]

    assert fitted(drawn) > 0.9


def objective(reward: float, rewards: tuple[float, float]) -> GlobalObjective:
    config = replace(TrainConfig.tiny(), reward=reward)
    return GlobalObjective(VAE(ModelConfig.tiny(), (16, 16, 3)), TemporalPrior(8, 2, 32), config, rewards)


VARYING, STEADY = (0.0, 1.0), (1.0, 0.0)


@pytest.mark.parametrize(
    ("weight", "rewards", "has"), [(2.0, VARYING, True), (0.0, VARYING, False), (2.0, STEADY, False)]
)
def test_a_reward_that_never_changes_is_left_out(weight, rewards, has):
    assert (objective(weight, rewards).reward is not None) == has


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy")
    collect(partial(make_toy, rim_ends=True, max_steps=12), path, CollectConfig(episodes=12, workers=1))
    return path


def test_rewards_lie_beside_the_frames_that_they_follow(data):
    store = EpisodeStore(data)
    sequences = Sequences(store)
    windows = sequences.whole(12, int(store.lengths.max()))
    for row in range(len(store)):
        steps = len(store[row])
        np.testing.assert_array_equal(windows.reward[row, :steps], store[row].reward)
    mean, std = sequences.reward_scale()
    every = np.concatenate([store[index].reward for index in range(len(store))])
    assert (mean, std) == pytest.approx((every.mean(), every.std()), rel=1e-5)


@pytest.mark.parametrize("deterministic", [False, True])
def test_training_tells_how_much_of_the_reward_is_told(data, tmp_path, deterministic):
    tiny = TrainConfig.tiny()
    config = replace(tiny, model=replace(tiny.model, deterministic=deterministic), allow_collapse=True)
    for name, weight in (("with", 2.0), ("without", 0.0)):
        train(data, tmp_path / name, replace(config, reward=weight))
    told, never = (read_lines(tmp_path / name / "metrics.jsonl")[-1] for name in ("with", "without"))
    if deterministic:
        assert "reward_r2" not in told
    else:
        assert told["reward_r2"] < 1.0
        assert never["reward_r2"] is None


def test_a_weight_below_nothing_is_refused():
    with pytest.raises(TrainError, match=r"TrainConfig.reward: expected at least 0, received -1"):
        TrainConfig(reward=-1)
