"""Every measurement on something whose answer is known, and on something it must score badly."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robovae.belief import Belief, Perceiver
from robovae.elbo import lone_frame_terms
from robovae.episodes import Episode, EpisodeError, EpisodeStore, write_episode
from robovae.evaluate import (
    Codes,
    EvaluateConfig,
    EvaluateError,
    HolesConfig,
    Probe,
    ProbeConfig,
    SmoothnessConfig,
    compare_holes,
    encode,
    evaluate,
    evaluate_run,
    held_out,
    joint_targets,
    smoothness,
)
from robovae.evaluate.bound import explained, lone_bound, sequence_bound, weighted_bound
from robovae.evaluate.codes import check_apart, spread
from robovae.evaluate.holes import Reader, Realism
from robovae.evaluate.intervals import interval, mean, paired_interval, share_explained
from robovae.evaluate.probe import STILL, TRAVEL, Target, probe_table
from robovae.frames import to_tensor
from robovae.run.directory import RunFacts, build_model, save_model
from robovae.vae import ModelConfig
from tests.toy_env import ToyEnv

LIMITED = {"limited": True, "range": [-1.0, 1.0]}
JOINTS = [
    {"name": "row", "type": "slide", "qpos_index": 0, **LIMITED},
    {"name": "column", "type": "slide", "qpos_index": 1, **LIMITED},
]
TINY = EvaluateConfig.tiny()
QUICK = ProbeConfig(steps=400, batch=128, hidden=64)


def rollout(seed: int, steps: int = 20, **meta: Any) -> Episode:
    env = ToyEnv(max_steps=steps)
    seen, infos, actions = [], [], []
    observation, info = env.reset(seed=seed)
    env.action_space.seed(seed)
    seen.append(observation)
    infos.append(info)
    for _ in range(steps):
        actions.append(env.action_space.sample())
        observation, _, _, _, info = env.step(actions[-1])
        seen.append(observation)
        infos.append(info)
    flags = np.zeros(steps, bool)
    return Episode(
        image=np.stack([each["image"] for each in seen]),
        state=np.stack([each["state"] for each in seen]),
        action=np.array(actions, np.float32),
        reward=np.zeros(steps, np.float32),
        terminated=flags,
        truncated=flags,
        extra={"qpos": np.stack([each["qpos"] for each in infos])},
        meta={"seed": seed, "env_id": "Toy-v0", "render_spec": {}, "joints": JOINTS, **meta},
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy")
    for seed in range(40):
        write_episode(path, rollout(seed))
    for seed in range(20000, 20008):
        write_episode(path, rollout(seed, steps=12 + seed % 3))
    return path


@pytest.fixture(scope="module")
def stores(data: Path) -> tuple[EpisodeStore, EpisodeStore]:
    return held_out(EpisodeStore(data))


def fresh(deterministic: bool = False, seed: int = 0) -> Perceiver:
    torch.manual_seed(seed)
    config = replace(ModelConfig.tiny(), deterministic=deterministic)
    perceiver = Perceiver(build_model(config, RunFacts((16, 16, 3), 2, "Toy-v0", {})))
    perceiver.model.vae.mean_frame.fill_(20 / 255)
    return perceiver


@pytest.fixture(scope="module")
def perceiver() -> Perceiver:
    return fresh()


def codes(mu: np.ndarray, action: np.ndarray | None = None, episodes: int = 20) -> Codes:
    mu = mu.astype(np.float32)
    action = np.zeros((len(mu), 1), np.float32) if action is None else action.astype(np.float32)
    return Codes(mu, np.full_like(mu, 0.5), action, np.full(episodes, len(mu) // episodes))


# Codes


def test_windows_stay_within_their_episodes() -> None:
    some = Codes(np.zeros((8, 1)), np.ones((8, 1)), np.zeros((8, 1)), np.array([5, 3]))
    numbers, mask = some.windows(2)
    assert [row[keep].tolist() for row, keep in zip(numbers, mask, strict=True)] == [
        [0, 1],
        [2, 3],
        [4],
        [5, 6],
        [7],
    ]
    assert (numbers < 8).all()
    assert numbers[2].tolist() == [4, 4], "past the end the last frame of the own episode repeats"


def test_codes_are_beliefs_with_their_actions(
    perceiver: Perceiver, stores: tuple[EpisodeStore, EpisodeStore]
) -> None:
    test, _ = stores
    found = encode(perceiver, test)
    assert found.lengths.tolist() == test.lengths.tolist()
    second = test[1]
    rows = slice(int(test.lengths[0]), int(test.lengths[:2].sum()))
    np.testing.assert_allclose(found.mu[rows], perceiver(np.array(second.image)).mu, atol=1e-5)
    np.testing.assert_array_equal(found.action[rows][:-1], second.action)
    assert not found.action[rows][-1].any()


def test_a_share_of_a_store_is_whole_episodes_from_all_over(
    stores: tuple[EpisodeStore, EpisodeStore],
) -> None:
    _, train = stores
    few = spread(train, train.num_frames // 4)
    assert len(few) == 10
    assert (few.seeds[0], few.seeds[-1]) == (0, 39)
    assert len(spread(train, 1)) == 1
    assert len(spread(train, 10**9)) == len(train)


# Intervals


def test_an_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        values = rng.normal(size=60)
        low, high = interval(np.stack([values, np.ones(60)], 1), mean, draws=300, seed=seed)
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_an_interval_narrows_with_more_episodes() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    sums = np.stack([values, np.ones(1000)], 1)
    few, many = interval(sums[:50], mean), interval(sums, mean)
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])
    assert interval(np.array([[1.0, 4.0]] * 5), share_explained) == [0.75, 0.75]


# Probe


def circle(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random angles as codes that only an MLP can read, and their points on the circle."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-np.pi, np.pi, count)
    point = np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.tanh(2 * point @ rng_matrix()) + 0.01 * rng.normal(size=(count, 6)), point


def rng_matrix() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(2, 6))


def table(train: np.ndarray, test: np.ndarray, targets: tuple[Any, Any]) -> dict[str, Any]:
    return probe_table(codes(train), codes(test), [targets[0]], [targets[1]], QUICK)[0]


def test_the_probe_reads_what_is_there_and_nothing_that_is_not() -> None:
    (x, y), (x_test, y_test) = circle(3000, 0), circle(400, 1)
    targets = Target("hinge", "hinge", y), Target("hinge", "hinge", y_test)
    good = table(x, x_test, targets)
    assert good["r2"] > 0.98
    assert good["low"] <= good["r2"] <= good["high"]
    noise = np.random.default_rng(2)
    blind = table(noise.normal(size=x.shape), noise.normal(size=x_test.shape), targets)
    assert blind["r2"] < 0.1
    mixed = table(x, noise.permuted(x_test, axis=0), targets)
    assert mixed["r2"] < 0.2


def test_the_probe_leaves_the_random_state_alone_and_repeats() -> None:
    x, y = circle(300, 0)
    config = ProbeConfig(steps=20, hidden=16)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = Probe(x, y, config)(x)
    assert torch.rand(1) == expected
    np.testing.assert_array_equal(Probe(x, y, config)(x), first)


def store_with(
    tmp_path: Path, joints: list[dict[str, Any]], qpos: np.ndarray, state: np.ndarray, spec: dict[str, Any]
) -> EpisodeStore:
    base = rollout(0, steps=len(qpos) - 1, joints=joints, render_spec=spec)
    write_episode(tmp_path, replace(base, state=state, extra={"qpos": qpos}))
    return EpisodeStore(tmp_path)


def joint(kind: str, index: int, name: str | None = None, limited: bool = False) -> dict[str, Any]:
    return {"name": name, "type": kind, "qpos_index": index, "limited": limited, "range": [-1.0, 1.0]}


def moving(columns: int, rows: int = 9) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, columns))


def test_an_unlimited_hinge_is_a_point_of_the_circle_and_all_else_a_value(tmp_path: Path) -> None:
    qpos = moving(4)
    joints = [
        joint("hinge", 0, "turn"),
        joint("hinge", 1, "elbow", limited=True),
        joint("slide", 2),
        joint("slide", 3, "stuck"),
    ]
    qpos[:, 3] = 0.1
    turn, elbow, slide, stuck = joint_targets(store_with(tmp_path, joints, qpos, moving(2), {}))
    assert turn.values is not None
    np.testing.assert_allclose(turn.values, np.stack([np.cos(qpos[:, 0]), np.sin(qpos[:, 0])], 1))
    np.testing.assert_array_equal(elbow.values, qpos[:, 1:2])
    np.testing.assert_array_equal(slide.values, qpos[:, 2:3])
    assert slide.name == "joint 2"
    assert stuck.values is None
    assert stuck.skipped == STILL


def test_a_limited_hinge_whose_ends_nearly_meet_is_a_point_of_the_circle_too(tmp_path: Path) -> None:
    qpos = moving(2)
    wide, narrow = joint("hinge", 0, limited=True), joint("hinge", 1, limited=True)
    wide["range"], narrow["range"] = [-3.0, 3.0], [-2.3, 2.3]
    round_about, straight = joint_targets(store_with(tmp_path, [wide, narrow], qpos, moving(2), {}))
    np.testing.assert_allclose(round_about.values, np.stack([np.cos(qpos[:, 0]), np.sin(qpos[:, 0])], 1))
    np.testing.assert_array_equal(straight.values, qpos[:, 1:2])


def test_travel_that_no_camera_shows_is_left_out_with_the_reason(tmp_path: Path) -> None:
    qpos = moving(9)
    joints = [joint("free", 0, "root"), joint("slide", 7, "x"), joint("slide", 8, "z")]
    state = np.concatenate([qpos[:, 8:], moving(3)], axis=1).astype(np.float32)
    root, x, z = joint_targets(store_with(tmp_path / "travels", joints, qpos, state, {"track": "torso"}))
    np.testing.assert_array_equal(root.values, qpos[:, 2:7])
    assert (x.values, x.skipped) == (None, TRAVEL)
    np.testing.assert_array_equal(z.values, qpos[:, 8:])
    root, x, z = joint_targets(store_with(tmp_path / "fixed", joints, qpos, state, {"track": None}))
    np.testing.assert_array_equal(root.values, qpos[:, :7])
    np.testing.assert_array_equal(x.values, qpos[:, 7:8])


def test_a_store_without_joints_has_nothing_to_read(tmp_path: Path) -> None:
    write_episode(tmp_path, rollout(0, joints=[]))
    assert joint_targets(EpisodeStore(tmp_path)) == []
    assert probe_table(codes(moving(2, 20)), codes(moving(2, 20)), [], [], QUICK) == []


# Smoothness


def driven(seed: int, episodes: int = 60, length: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Codes that the actions push about."""
    action = np.random.default_rng(seed).normal(size=(episodes, length, 2))
    z = np.cumsum(np.concatenate([np.zeros((episodes, 1, 2)), action[:, :-1]], 1), axis=1)
    return z.reshape(-1, 2), action.reshape(-1, 2)


def test_codes_that_follow_from_actions_are_smooth_and_others_are_not() -> None:
    config = SmoothnessConfig(steps=300, hidden=32, length=20)
    (z, action), (z_test, action_test) = driven(0), driven(1, 20)
    known = smoothness(codes(z, action, 60), codes(z_test, action_test, 20), config)
    assert known["ratio"] < 0.35
    blind = smoothness(codes(z, 0 * action, 60), codes(z_test, 0 * action_test, 20), config)
    assert 0.9 < blind["ratio"] < 1.2
    noise = np.random.default_rng(0)
    crinkled = smoothness(
        codes(noise.normal(size=(1200, 2)), None, 60), codes(noise.normal(size=(400, 2))), config
    )
    assert crinkled["hold_rmse"] == pytest.approx(2**0.5, abs=0.1)
    assert crinkled["ratio"] == pytest.approx(2**-0.5, abs=0.1)


def test_smoothness_needs_episodes_of_some_length() -> None:
    short = codes(moving(2, 6), None, 2)
    with pytest.raises(EvaluateError, match="expected episodes of at least 4 frames, received at most 3"):
        smoothness(short, short, SmoothnessConfig())


# Explained variance and bounds


def test_a_model_that_draws_the_mean_frame_explains_nothing(
    stores: tuple[EpisodeStore, EpisodeStore],
) -> None:
    test, train = stores
    blind = fresh()
    images = to_tensor(train.frames(np.arange(train.num_frames)))
    blind.model.vae.mean_frame.copy_(images.mean(0))
    for weight in blind.model.vae.local_decoder.parameters():
        torch.nn.init.zeros_(weight)
    found = explained(blind.model, test, train)
    assert found["ev"] == pytest.approx(0, abs=1e-4)
    assert found["ev_global"] == pytest.approx(0, abs=1e-4)


def test_a_model_that_draws_the_frame_itself_explains_everything(
    stores: tuple[EpisodeStore, EpisodeStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    test, train = stores
    seer = fresh()
    seen: list[torch.Tensor] = []
    look = seer.model.vae.encode_local
    monkeypatch.setattr(seer.model.vae, "encode_local", lambda images: (seen.append(images), look(images))[1])
    monkeypatch.setattr(seer.model.vae, "decode_grid", lambda grid: seen[-1])
    found = explained(seer.model, test, train)
    assert found["ev"] == found["ev_global"] == 1.0
    assert found["intervals"]["ev"] == [1.0, 1.0]


def test_the_lone_bound_is_the_mean_over_frames_and_its_parts_add_up(
    perceiver: Perceiver, stores: tuple[EpisodeStore, EpisodeStore]
) -> None:
    test, _ = stores
    found = lone_bound(perceiver.model, test, seed=3)
    with torch.no_grad():
        images = to_tensor(test.frames(np.arange(test.num_frames)))
        terms = lone_frame_terms(perceiver.model.vae, images, torch.Generator().manual_seed(3))
    assert found["elbo"] == pytest.approx(float(terms.elbo.mean()), rel=1e-4)
    parts = found["reconstruction"] - found["local_kl"] - found["global_kl"]
    assert found["elbo"] == pytest.approx(parts, rel=1e-6)
    low, high = found["intervals"]["elbo"]
    assert low < found["elbo"] < high


def test_the_weighted_bound_lies_above_the_elbo(
    perceiver: Perceiver, stores: tuple[EpisodeStore, EpisodeStore]
) -> None:
    found = weighted_bound(perceiver.model, stores[0], samples=16, frames=40, seed=0)
    assert found["bound"] > found["elbo"]
    assert (found["samples"], found["frames"]) == (16, 40)


def test_a_sequence_of_one_frame_has_the_lone_bound(
    perceiver: Perceiver, stores: tuple[EpisodeStore, EpisodeStore]
) -> None:
    test, _ = stores
    one = sequence_bound(perceiver.model, test, length=1, windows=8, seed=0)
    firsts = perceiver(np.stack([episode.image[0] for episode in test]))
    assert one["frames"] == 8
    assert one["global_kl"] == pytest.approx(float(firsts.information.mean()), rel=1e-3)
    assert one["prediction_ratio"] is None


def test_frames_past_the_end_of_an_episode_do_not_count(
    perceiver: Perceiver, stores: tuple[EpisodeStore, EpisodeStore]
) -> None:
    test, _ = stores
    long = sequence_bound(perceiver.model, test, length=40, windows=8, seed=0)
    assert long["frames"] == test.num_frames
    assert long["prediction_ratio"] == pytest.approx(1.0, abs=0.01), (
        "an untrained prior holds the last latent"
    )
    assert np.isfinite(long["elbo"])


# evaluate


@pytest.mark.parametrize("deterministic", [False, True])
def test_evaluate_gives_json_able_figures(
    stores: tuple[EpisodeStore, EpisodeStore], deterministic: bool
) -> None:
    found = evaluate(fresh(deterministic), *stores, TINY)
    json.dumps(found, allow_nan=False)
    assert [row["name"] for row in found["probe"]] == ["row", "column"]
    assert found["test"] == {"episodes": 8, "frames": stores[0].num_frames}
    assert (
        len(found["spring"]) == len(found["capacity"]) == len(found["variance"]) == found["latent_dim"] == 8
    )
    parts = sum(found["spring"]) + sum(found["capacity"])
    assert found["information"] == pytest.approx(parts, rel=1e-5)
    bounds = [found[name] for name in ("elbo", "reconstruction", "local_kl", "global_kl", "iwae", "sequence")]
    assert all((bound is None) == deterministic for bound in bounds)


def test_evaluate_repeats(stores: tuple[EpisodeStore, EpisodeStore]) -> None:
    first, second = (evaluate(fresh().model, *stores, TINY) for _ in range(2))
    del first["seconds"], second["seconds"]
    assert first == second


def test_a_silent_model_has_no_active_dimension(stores: tuple[EpisodeStore, EpisodeStore]) -> None:
    silent = fresh()
    last = silent.model.vae.global_encoder.body[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 0.0)
    last.bias.data[8:] = 20.0  # sigma all but 1
    found = evaluate(silent, *stores, TINY)
    assert found["active_dims"] == 0
    assert found["information"] < 0.01
    last.weight.data[0] += 50.0
    assert evaluate(silent, *stores, TINY)["active_dims"] == 1


def test_training_episodes_are_no_test(
    perceiver: Perceiver, stores: tuple[EpisodeStore, EpisodeStore]
) -> None:
    with pytest.raises(EvaluateError, match="expected held-out episodes, received training episode 0 among"):
        evaluate(perceiver, stores[1], stores[1], TINY)


def test_a_copy_of_a_training_episode_is_no_test(
    perceiver: Perceiver, stores: tuple[EpisodeStore, EpisodeStore], tmp_path: Path
) -> None:
    (tmp_path / "copy").mkdir()
    for record in stores[1].records[:2]:
        shutil.copy(record.path, tmp_path / "copy")
    with pytest.raises(EvaluateError, match="received training episode 0 among"):
        evaluate(perceiver, EpisodeStore(tmp_path / "copy"), stores[1], TINY)
    with pytest.raises(EvaluateError, match="received training episode 0 among"):
        check_apart(EpisodeStore(tmp_path / "copy"), stores[1])


def test_a_run_is_evaluated_on_the_splits_of_its_dataset(
    perceiver: Perceiver, data: Path, tmp_path: Path
) -> None:
    save_model(tmp_path / "run", perceiver.model)
    found = evaluate_run(tmp_path / "run", data, TINY)
    assert found["train"]["episodes"] == 40
    write_episode(tmp_path / "train-only", rollout(0))
    with pytest.raises(EpisodeError, match="expected episodes of split 'test'"):
        evaluate_run(tmp_path / "run", tmp_path / "train-only", TINY)


@pytest.mark.parametrize("name", ["train_frames", "iwae_samples", "iwae_frames", "sequences"])
def test_measuring_nothing_is_refused(name: str) -> None:
    with pytest.raises(EvaluateError, match=f"{name}: expected at least 1, received 0"):
        replace(TINY, **{name: 0})


# Holes


def test_realism_is_the_distance_to_the_nearest_real_frame(stores: tuple[EpisodeStore, EpisodeStore]) -> None:
    pool = stores[1].frames(np.arange(100))
    realism = Realism(pool)
    assert realism(pool[:7]) == pytest.approx(np.zeros(7), abs=1e-3)
    rng = np.random.default_rng(0)
    strange = rng.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    brute = [np.sqrt(np.square(pool / 255.0 - one / 255.0).mean((1, 2, 3))).min() for one in strange]
    assert realism(strange) == pytest.approx(brute, rel=1e-4)


def test_controls_are_ordered_and_a_model_that_draws_real_frames_wins(
    stores: tuple[EpisodeStore, EpisodeStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    test, train = stores
    vae, plain = fresh(), fresh(deterministic=True)
    real = train.frames(np.arange(train.num_frames))
    rng = np.random.default_rng(0)
    monkeypatch.setattr(vae, "decode", lambda z: real[rng.integers(len(real), size=len(z))])
    monkeypatch.setattr(plain, "decode", lambda z: rng.integers(0, 256, (len(z), 16, 16, 3), dtype=np.uint8))
    found = compare_holes(vae, plain, test, train, HolesConfig(pairs=16, pool=500, probe=QUICK))
    json.dumps(found, allow_nan=False)
    control = {name: figure["rmse"] for name, figure in found["controls"].items()}
    assert control["held-out frames"] < control["two frames faded"] < control["noise"]
    assert control["held-out frames"] < control["shuffled pixels"] < control["noise"]
    assert found["vae"]["prior"]["rmse"] < control["held-out frames"] + 0.05
    assert [one["share"] for one in found["vae"]["walk"]] == [0.25, 0.5, 0.75]
    for margin in found["margins"].values():
        assert 0 < margin["low"] <= margin["rmse"] <= margin["high"]


def test_between_two_equal_models_nobody_wins(stores: tuple[EpisodeStore, EpisodeStore]) -> None:
    vae, plain = fresh(), fresh(deterministic=True)
    found = compare_holes(vae, plain, *stores, HolesConfig(pairs=8, pool=50, probe=QUICK))
    nothing = {"rmse": 0.0, "low": 0.0, "high": 0.0}
    assert found["margins"]["middle"] == nothing
    assert found["reading"]["margin"] == nothing


class Painter:
    """A model whose code is the square's corner; it draws on every so many pixels, or sees nothing at all."""

    latent_dim = 2

    def __init__(self, deterministic: bool, every: int = 1, blind: bool = False) -> None:
        self.model, self.every, self.blind = fresh(deterministic).model, every, blind
        self.rng = np.random.default_rng(0)

    def __call__(self, frames: np.ndarray) -> Belief:
        lit = frames[..., 0] > 100
        mu = np.stack([lit.any(axis).argmax(axis=1) for axis in (2, 1)], axis=1)
        return Belief(self.rng.standard_normal(mu.shape) if self.blind else mu, np.ones_like(mu))

    def decode(self, z: np.ndarray) -> np.ndarray:
        frames = np.full((len(z), 16, 16, 3), 20, np.uint8)
        corners = ((z / self.every).round() * self.every).clip(0, 13).astype(int)
        for frame, (row, column) in zip(frames, corners, strict=True):
            frame[row : row + 3, column : column + 3] = (230, 120, 40)
        return frames


def test_a_decoder_that_draws_real_frames_in_wrong_places_is_not_understood(
    stores: tuple[EpisodeStore, EpisodeStore],
) -> None:
    config = HolesConfig(pairs=32, pool=800, probe=QUICK)
    found = compare_holes(Painter(False), Painter(True, every=6), *stores, config)
    assert found["margins"]["middle"]["rmse"] < 0.02, "by realism alone it would hardly be found"
    assert 0 < found["reading"]["margin"]["low"] <= found["reading"]["margin"]["rmse"]
    fine, coarse = found["reading"]["vae"], found["reading"]["plain"]
    assert fine["ends"]["rmse"] == 0.0
    assert [one["share"] for one in fine["walk"]] == [0.25, 0.5, 0.75]
    assert fine["walk"][1]["rmse"] < 0.25 < 0.5 < coarse["walk"][1]["rmse"]
    assert fine["stranger"]["rmse"] > 4 * fine["walk"][1]["rmse"]


def test_the_stranger_gives_away_a_probe_that_reads_nothing(
    stores: tuple[EpisodeStore, EpisodeStore],
) -> None:
    config = HolesConfig(pairs=32, pool=800, probe=QUICK)
    blind = compare_holes(Painter(False, blind=True), Painter(True), *stores, config)["reading"]["vae"]
    assert blind["stranger"]["rmse"] < 1.3 * blind["walk"][1]["rmse"]


def test_readings_are_apart_by_standard_deviations_of_the_joints() -> None:
    rng = np.random.default_rng(0)
    mu = rng.standard_normal((2000, 2)).astype(np.float32)
    joints = [
        Target("a", "slide", 5.0 * mu[:, :1].astype(float)),
        Target("b", "hinge", mu[:, 1:] * np.array([0.03, 0.04])),  # one joint of two columns
    ]
    reader = Reader(mu, joints, ProbeConfig(steps=1500, hidden=64))
    ends = np.zeros((3, 2), np.float32), np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    assert reader.distance(*ends) == pytest.approx([0.5**0.5, 0.5**0.5, 1.0], abs=0.1)
    assert not reader.distance(ends[1], ends[1]).any()


def test_without_joints_nothing_is_read(tmp_path: Path) -> None:
    for seed in (0, 1, 20000, 20001):
        write_episode(tmp_path, rollout(seed, joints=[]))
    found = compare_holes(
        fresh(), fresh(deterministic=True), *held_out(EpisodeStore(tmp_path)), HolesConfig(4, 20)
    )
    assert found["reading"] is None


def test_only_a_vae_against_a_plain_autoencoder_is_compared(
    stores: tuple[EpisodeStore, EpisodeStore],
) -> None:
    with pytest.raises(EvaluateError, match="expected a VAE and a plain autoencoder"):
        compare_holes(fresh(), fresh(), *stores)
    with pytest.raises(EvaluateError, match="at least 2 held-out episodes"):
        compare_holes(fresh(), fresh(deterministic=True), stores[0][:1], stores[1])
    with pytest.raises(EvaluateError, match="at least 2 pairs"):
        HolesConfig(pairs=1)


def test_an_interval_over_pairs_of_episodes_holds_what_it_says() -> None:
    """Values of pairs share their episodes: taken for independent, they would cover far too little."""
    rng, covered, naive = np.random.default_rng(0), 0, 0
    for trial in range(200):
        effect = rng.standard_normal(15)
        one = rng.integers(15, size=128)
        other = (one + rng.integers(1, 15, size=128)) % 15
        values = effect[one] + effect[other] + rng.standard_normal(128)
        low, high = paired_interval(values, np.stack([one, other], axis=1), draws=300, seed=trial)
        covered += low <= 0.0 <= high
        low, high = paired_interval(values, np.arange(128)[:, None], draws=300, seed=trial)
        naive += low <= 0.0 <= high
    assert covered / 200 > 0.85
    assert naive / 200 < 0.6


def test_values_of_one_episode_each_have_the_plain_interval() -> None:
    values = np.random.default_rng(1).standard_normal(50)
    plain = interval(np.stack([values, np.ones(50)], axis=1), mean)
    assert paired_interval(values, np.arange(50)[:, None]) == pytest.approx(plain)
