"""Training of the filter's dynamics: on a system that can be learnt, from end to end, and the same twice."""

import math
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from robovae.config import from_mapping, to_plain
from robovae.dynamics import FilterDynamics, Rollout
from robovae.episodes import Episode, EpisodeStore, write_episode
from robovae.errors import RobovaeError
from robovae.filter import BeliefFilter, FilterConfig, fitting
from robovae.filter.beliefs import Beliefs, Ruler
from robovae.filter.fitting import (
    MOST,
    _alike,
    _batches,
    _Frames,
    _loss,
    _parted,
    _perceive,
    _widen,
    fit_dynamics,
    silenced,
)
from robovae.filter.judging import coasted, predicted
from robovae.gaussian import Gaussian
from robovae.monitor import CalibrationError
from robovae.run.directory import RunFacts, build_model, load_model, read_tensors, save_model
from robovae.run.pipeline import CALIBRATION
from robovae.uncertainty import CalibrateConfig, CalibrateEvent, calibrate_run
from robovae.uncertainty.model import load_uncertainty
from robovae.vae import ModelConfig
from tests.test_train import toy_episode

TINY = FilterConfig.tiny()
FRAMES = 13
"""Of an episode."""


def pushed(seed: int) -> Episode:
    """A square that goes where it is pushed, by up to two pixels a step."""
    rng = np.random.default_rng(seed)
    action = rng.uniform(-1.0, 1.0, (FRAMES - 1, 2)).astype(np.float32)
    image, place = np.full((FRAMES, 16, 16, 3), 30, np.uint8), rng.integers(3, 10, 2)
    for index in range(FRAMES):
        row, column = place
        image[index, row : row + 3, column : column + 3] = (220, 180, 40)
        if index < len(action):
            place = np.clip(place + np.rint(2.0 * action[index]).astype(int), 0, 13)
    return replace(toy_episode(seed, FRAMES), image=image, action=action)


class Sees(nn.Module):
    """A perceiver that reads the square's place off the pixels; what is no square says nothing."""

    def forward(self, vae, images):
        bright = (images[:, 0] > 0.5).float()
        mass = bright.sum((1, 2))
        places = torch.linspace(-2.0, 2.0, images.shape[-1])
        mu = torch.stack([(bright * places[:, None]).sum((1, 2)), (bright * places).sum((1, 2))], 1)
        mu = mu / mass.clamp_min(1.0)[:, None]
        log_sigma = torch.where(mass == 9.0, -2.5, 0.0)[:, None].expand_as(mu)
        lone = Gaussian(mu, torch.full_like(mu, -2.6))
        total = Gaussian(torch.where(log_sigma < 0, mu, torch.zeros(())), log_sigma)
        return SimpleNamespace(look=SimpleNamespace(lone=lone), total=total)


def system(hidden: int = 16) -> SimpleNamespace:
    """A model of two latents, which only its dynamics and its sizes are asked of."""
    vae = SimpleNamespace(config=SimpleNamespace(latent_dim=2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dynamics = FilterDynamics(2, 2, hidden)
    return SimpleNamespace(vae=vae, dynamics=dynamics, facts=SimpleNamespace(action_dim=2))


def quiet(event: CalibrateEvent) -> None:
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy")
    for seed in (*range(24), *range(10_000, 10_012), *range(20_000, 20_006)):
        write_episode(path, pushed(seed))
    return path


@pytest.fixture(scope="module")
def train(data: Path) -> EpisodeStore:
    return EpisodeStore(data).split("train")


def state_of(dynamics: FilterDynamics) -> torch.Tensor:
    return torch.cat([value.flatten() for value in dynamics.state_dict().values()])


class Scores:
    """The one thing that `Beliefs.of` asks of a scorer."""

    def insight(self, frames):
        return Sees()(None, torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255.0)


def seen(store: EpisodeStore) -> Beliefs:
    still = np.zeros((1, 2), np.float32)
    return Beliefs.of(
        Scores(),
        SimpleNamespace(
            frames=store.frames(np.arange(store.num_frames)),
            lengths=store.lengths,
            action=np.concatenate([np.concatenate([one.action, still]) for one in store]),
        ),
    )


def test_what_can_be_learnt_is_learnt(data, train):
    test = seen(EpisodeStore(data).split("test"))
    nominal = seen(train)
    ruler, model = Ruler(nominal.raw.mu[nominal.here]), system()
    quick = {"steps": 120, "batch": 32, "window": FRAMES, "nominal": 1000}
    config = replace(TINY, **quick, fading=1.0, silent=1.0)  # nothing deceives
    fitted = fit_dynamics(model, Sees(), train, config, quiet)
    found, before = (predicted(one, test, ruler) for one in (fitted, model.dynamics))
    assert before["ratio"]["value"] == pytest.approx(1.0, abs=0.02)  # fresh dynamics hold the last latent
    assert found["ratio"]["high"] < 0.6
    assert 0.3 < found["nis"]["value"] < 2.0
    fading = predicted(fit_dynamics(model, Sees(), train, replace(config, fading=3.0), quiet), test, ruler)
    assert fading["nis"]["value"] < 0.7 * found["nis"]["value"]
    assert not any(weight.requires_grad for weight in fitted.parameters())


def test_it_knows_what_messages_are_usual_and_how_long_errors_stay(train):
    fitted = fit_dynamics(system(), Sees(), train, replace(TINY, persistence=5.0), quiet)
    variance = math.exp(2.0 * -2.5)  # of `Sees`
    assert fitted.usual.tolist() == pytest.approx([variance / (1.0 - variance)] * 2, rel=1e-4)
    assert float(fitted.persistence) == 5.0


def test_a_belief_that_coasts_knows_how_far_it_may_be_off(data, train):
    test, nominal = seen(EpisodeStore(data).split("test")), seen(train)
    ruler = Ruler(nominal.raw.mu[nominal.here])
    config = replace(TINY, steps=120, batch=32, window=FRAMES, nominal=1000)
    fitted = fit_dynamics(system(), Sees(), train, config, quiet)
    deaf = deepcopy(fitted)  # negative control: one step wide however long the gap was
    deaf.stretch.weight.zero_()
    deaf.stretch.bias.fill_(-10.0)
    found, before = ({row["gap"]: row for row in coasted(one, test, ruler)} for one in (fitted, deaf))
    assert found[5]["sigma"]["value"] > 1.1 * found[1]["sigma"]["value"]
    assert found[5]["coverage_90"]["value"] > before[5]["coverage_90"]["value"] + 0.05


def test_steps_are_widened_as_far_as_held_out_episodes_demand(train):
    config = replace(TINY, steps=120, batch=32, window=FRAMES, nominal=1000)
    frames = _perceive(SimpleNamespace(vae=None), Sees(), train, config, quiet)
    fitted = fit_dynamics(system(), Sees(), train, config, quiet)
    found = {}
    for more in (-1.0, 0.0, 1.0):
        dynamics = deepcopy(fitted)
        dynamics.head.bias[2:] += more
        before = dynamics.head.bias.clone()
        _widen(dynamics, *_parted(frames, train)[1], config)
        assert torch.equal(dynamics.head.bias[:2], before[:2])  # means stay
        found[more] = float((dynamics.head.bias - before)[2:].mean())
    assert found[-1.0] == pytest.approx(1.0, abs=0.11)
    assert found[0.0] == pytest.approx(0.0, abs=0.11)
    assert found[1.0] == pytest.approx(0.0, abs=1e-6)  # nothing is narrowed


def test_every_fifth_episode_is_held_out(train):
    frames = _perceive(SimpleNamespace(vae=None), Sees(), train, TINY, quiet)
    (fit, on), (held, out) = _parted(frames, train)
    assert (len(on), len(out)) == (20, 4)
    assert out.seeds == train.seeds[4::5]
    rows = np.flatnonzero(np.repeat(np.arange(24) % 5 == 4, FRAMES))
    assert torch.equal(held.raw.mu, frames.raw.mu[rows])
    assert len(fit.total.mu) == 20 * FRAMES
    few = train.select(range(3))
    frames = _perceive(SimpleNamespace(vae=None), Sees(), few, TINY, quiet)
    assert [store.seeds for _, store in _parted(frames, few)] == [few.seeds, few.seeds]


def test_what_diverges_is_refused_with_the_mend(train):
    with pytest.raises(CalibrationError, match="diverged, 3 times; take a lower --filter-lr than 25"):
        fit_dynamics(system(), Sees(), train, replace(TINY, lr=100.0), quiet)


def test_a_prior_that_is_lost_at_first_is_fitted_all_the_same(train, monkeypatch):
    first = []

    def lost(rollout, batch):
        first.append(not first)
        return 1e3 if first[-1] else 0.5

    monkeypatch.setattr(fitting, "_error", lost)
    fit_dynamics(system(), Sees(), train, TINY, quiet)
    assert len(first) == TINY.steps  # at the first attempt, to its end


def test_what_diverges_once_is_fitted_anew_at_half_of_the_rate(train, monkeypatch):
    rates, fitted = [], fitting._fitted

    def lost_at_first(dynamics, frames, part, config, tell):
        rates.append(config.lr)
        found, error = fitted(dynamics, frames, part, config, tell)
        return found, error if len(rates) > 1 else float("nan")

    monkeypatch.setattr(fitting, "_fitted", lost_at_first)
    found = fit_dynamics(system(), Sees(), train, TINY, quiet)
    assert rates == [TINY.lr, TINY.lr / 2]
    monkeypatch.undo()
    other = fit_dynamics(system(), Sees(), train, replace(TINY, lr=TINY.lr / 2), quiet)
    for name, weight in found.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])


def test_the_same_seed_gives_the_same_weights(train):
    weights = [
        state_of(fit_dynamics(system(), Sees(), train, replace(TINY, seed=seed), quiet)) for seed in (0, 0, 1)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_random_state_of_the_caller_stays(train):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    fit_dynamics(system(), Sees(), train, replace(TINY, steps=2, hidden=7), quiet)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("hidden", "same"), [(16, True), (8, False)])
def test_it_starts_from_the_temporal_prior_of_the_vae_where_that_has_the_size(train, hidden, same):
    model = system(hidden=16)
    model.dynamics.action_scale.fill_(2.0)
    config = replace(TINY, steps=1, lr=1e-12, hidden=hidden)
    fitted = fit_dynamics(model, Sees(), train, config, quiet)
    assert fitted.cell.hidden_size == hidden
    assert torch.equal(fitted.action_scale, model.dynamics.action_scale)
    own = model.dynamics.cell.weight_hh
    assert (own.shape == fitted.cell.weight_hh.shape and torch.allclose(own, fitted.cell.weight_hh)) == same


def test_listeners_hear_of_both_parts(train):
    heard: list[CalibrateEvent] = []
    fit_dynamics(system(), Sees(), train, TINY, heard.append)
    parts = {event.part: event for event in heard}
    assert list(parts) == ["filter, encode", "filter"]
    assert all(event.done == event.total for event in parts.values())
    assert parts["filter"].total == TINY.steps
    assert parts["filter, encode"].total == 195 + TINY.corrupted  # 15 whole episodes of 13 frames


def test_frames_that_were_not_corrupted_fall_silent(train):
    frames = _perceive(SimpleNamespace(vae=None), Sees(), train, replace(TINY, corrupted=30), quiet)
    says = (frames.broken.log_sigma < MOST).any(1)
    assert 0 < int(says.sum()) <= 30
    assert not frames.broken.mu[~says].any()
    assert (frames.total.log_sigma < MOST).all()  # negative control


def test_what_is_silenced_says_nothing_and_the_rest_is_left():
    belief = Gaussian(torch.randn(2, 3, 4), torch.full((2, 3, 4), -1.0))
    rows = torch.tensor([[True, False, False], [False, False, True]])
    found = silenced(belief, rows)
    assert not found.mu[rows].any()
    assert (found.log_sigma[rows] == MOST).all()
    assert torch.equal(found.mu[~rows], belief.mu[~rows])
    assert torch.equal(found.log_sigma[~rows], belief.log_sigma[~rows])
    wide = silenced(Gaussian(belief.mu, torch.zeros_like(belief.mu)), torch.zeros_like(rows))
    assert (wide.log_sigma == MOST).all()


def test_a_burst_is_silent_as_a_whole_or_not_at_all():
    rng = np.random.default_rng(0)
    lost = np.zeros((400, 12), bool)
    lost[:, 1:5] = lost[:, 7:10] = True
    silent = _alike(lost, 0.25, rng)
    for burst in (silent[:, 1:5], silent[:, 7:10]):
        assert (burst.all(1) == burst.any(1)).all()
        assert burst.mean() == pytest.approx(0.25, abs=0.08)
    assert (silent[:, 1] != silent[:, 7]).any()
    assert not _alike(lost, 0.0, rng).any()
    assert _alike(lost, 1.0, rng)[lost].all()


def test_windows_hold_bursts_of_the_share_that_was_asked_for(train):
    frames = _perceive(SimpleNamespace(vae=None), Sees(), train, replace(TINY, corrupted=1), quiet)
    config = replace(TINY, steps=1, batch=500, window=FRAMES, share=0.3)
    batch = next(_batches(frames, train, config))
    silent = (batch.seen.log_sigma == MOST).all(2).float()
    assert not silent[:, 0].any()
    assert float(silent[:, 1:].mean()) == pytest.approx(0.3, abs=0.05)
    assert not batch.mask[:, 0].any()
    assert batch.mask[:, 1:].all()


def test_the_loss_is_least_where_the_prediction_is_right():
    truth = Gaussian(torch.randn(3, 5, 2), torch.full((3, 5, 2), -7.0))
    batch = SimpleNamespace(truth=truth, mask=torch.ones(3, 5))

    def loss(shift: float, log_sigma: float) -> float:
        prior = Gaussian(truth.mu + shift, torch.full_like(truth.mu, log_sigma))
        return float(_loss(Rollout(truth.mu, prior, prior), batch, torch.ones(2), FilterConfig()))

    assert loss(0.0, -1.0) < loss(0.3, -1.0) < loss(0.6, -1.0)
    widths = torch.linspace(-3.0, 0.0, 61).tolist()
    best = min(widths, key=lambda width: loss(0.3, width))
    assert best == pytest.approx(np.log(0.3), abs=0.05)


def test_frames_that_are_not_there_do_not_count():
    truth = Gaussian(torch.zeros(1, 2, 1), torch.zeros(1, 2, 1))
    near, far = (Gaussian(torch.tensor([[[0.0], [x]]]), torch.zeros(1, 2, 1)) for x in (0.0, 9.0))
    mask = torch.tensor([[1.0, 0.0]])
    losses = [
        float(
            _loss(
                Rollout(one.mu, one, one),
                SimpleNamespace(truth=truth, mask=mask),
                torch.ones(1),
                FilterConfig(),
            )
        )
        for one in (near, far)
    ]
    assert losses[0] == losses[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    path = tmp_path_factory.mktemp("run")
    facts = RunFacts((16, 16, 3), 2, "Toy-v0", EpisodeStore(data).render_spec)
    torch.manual_seed(0)
    save_model(path, build_model(ModelConfig.tiny(), facts))
    calibrate_run(path, data, CalibrateConfig.tiny())
    return path


class TestCalibration:
    """The last part of `robovae calibrate`."""

    def test_a_calibrated_run_has_a_filter(self, run, data):
        assert all((run / name).is_file() for name in CALIBRATION)
        belief_filter = BeliefFilter.load(run)
        assert belief_filter.memory_dim == FilterConfig.tiny().hidden
        assert belief_filter.latent_dim == ModelConfig.tiny().latent_dim

    def test_it_is_what_fitting_gives_again(self, run, data, train):
        model = load_model(run)
        model.vae.requires_grad_(False)
        uncertainty = load_uncertainty(run, model.vae)
        again = fit_dynamics(model, uncertainty, train, FilterConfig.tiny(), quiet).state_dict()
        own = read_tensors(run / "filter.safetensors")
        assert own.keys() == again.keys()
        assert all(torch.equal(own[name], again[name]) for name in own)


class TestConfig:
    """FilterConfig."""

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"steps": 0}, "steps: expected at least 1, received 0"),
            ({"window": 1}, "window: expected at least 2, received 1"),
            ({"share": 0.6}, "share: expected a share from 0 to 0.5, received 0.6"),
            ({"silent": -0.1}, "silent: expected a share from 0 to 1, received -0.1"),
            ({"mean_weight": -1.0}, "mean_weight: expected at least 0, received -1"),
            ({"fading": 0.9}, "fading: expected at least 1, received 0.9"),
            ({"persistence": 0.0}, "persistence: expected at least 1, received 0"),
            ({"persistence": float("nan")}, "persistence: expected at least 1, received nan"),
            ({"lr": 0.0}, "lr: expected more than 0, received 0"),
            ({"lr": float("nan")}, "lr: expected more than 0, received nan"),
            ({"seed": -1}, "seed: expected at least 0, received -1"),
        ],
    )
    def test_what_is_out_of_range_is_one_line(self, values, said):
        with pytest.raises(RobovaeError, match=re.escape(said)):
            FilterConfig(**values)

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"lr": -1.0}, "lr: expected more than 0, received -1"),
            ({"failing": 1.0}, "failing: expected a share between 0 and 1, received 1"),
            ({"nominal": 1}, "nominal: expected at least 2, received 1"),
        ],
    )
    def test_nor_is_the_calibration_around_it(self, values, said):
        with pytest.raises(RobovaeError, match=re.escape(said)):
            CalibrateConfig(**values)

    def test_it_goes_through_plain_data(self):
        config = CalibrateConfig(filter=FilterConfig(hidden=64, share=0.25))
        assert from_mapping(CalibrateConfig, to_plain(config), "recipe: calibrate") == config


def test_frames_are_kept_by_what_they_are(train, monkeypatch):
    monkeypatch.setattr(fitting, "corrupt", lambda images, others, generator: images)
    frames = _perceive(SimpleNamespace(vae=None), Sees(), train, replace(TINY, corrupted=30), quiet)
    assert isinstance(frames, _Frames)
    torch.testing.assert_close(frames.raw.mu, frames.total.mu)
    assert (frames.raw.log_sigma < frames.total.log_sigma).all()
    says = (frames.broken.log_sigma < MOST).any(1)
    assert int(says.sum()) == 30
    for broken, total in zip(frames.broken, frames.total, strict=True):
        assert torch.equal(broken[says], total[says])
