"""Training: bound falls, same seed same weights, kills and resumes, collapse and bad numbers refused."""

import itertools
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robovae.collect import CollectConfig, collect
from robovae.episodes import Episode, EpisodeError, EpisodeStore, write_episode
from robovae.errors import RobovaeError
from robovae.run.directory import (
    RunError,
    RunFacts,
    build_model,
    load_model,
    read_tensors,
    save_model,
    write_tensors,
)
from robovae.train import CollapseError, TrainConfig, TrainError, TrainEvent, read_metrics, train
from robovae.train import _size as size_of
from robovae.train.data import Sequences
from robovae.train.muon import Muon
from robovae.train.objectives import learning_rate, ramp
from robovae.vae import ModelConfig, ModelError
from tests.toy_env import make_toy

ROOT = Path(__file__).resolve().parents[1]
TINY = TrainConfig.tiny()


def toy_episode(seed: int, frames: int = 12, bad_action: bool = False) -> Episode:
    rng = np.random.default_rng(seed)
    image = np.full((frames, 16, 16, 3), 30, np.uint8)
    place = rng.uniform(1, 12, 2)
    step = rng.uniform(-0.8, 0.8, 2)
    for index in range(frames):
        row, column = np.clip(place + index * step, 0, 13).astype(int)
        image[index, row : row + 3, column : column + 3] = (220, 180, 40)
    action = np.tile(step, (frames - 1, 1)).astype(np.float32)
    if bad_action:
        action[3, 1] = np.nan
    flags = np.zeros(frames - 1, bool)
    return Episode(
        image=image,
        state=np.zeros((frames, 2), np.float32),
        action=action,
        reward=np.zeros(frames - 1, np.float32),
        terminated=flags,
        truncated=flags,
        meta={"seed": seed, "env_id": "Toy-v0", "render_spec": None},
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy")
    for seed in range(24):
        write_episode(path, toy_episode(seed))
    return path


def digest_of(run: Path) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in read_tensors(run / "model.safetensors").items()}


def test_the_bound_rises_and_the_run_is_whole(data: Path, tmp_path: Path) -> None:
    # On so few pixels the square is worth little more than it costs: the KL has to come in slowly.
    config = replace(TINY, local_steps=400, global_steps=120, kl_warmup=0.5, allow_collapse=True)
    events: list[TrainEvent] = []
    result = train(data, tmp_path / "run", config, events.append)
    rows = read_metrics(tmp_path / "run")
    local = [row for row in rows if row["phase"] == "local"]
    globally = [row for row in rows if row["phase"] == "global"]
    assert local[-1]["elbo"] > local[0]["elbo"] + 100
    assert local[-1]["ev"] > 0.3
    assert globally[-1]["elbo"] > globally[0]["elbo"]
    assert result["final"]["global"]["information"] > 0
    assert {event.kind for event in events} >= {"start", "step", "evaluation"}
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "provenance.json",
        "training.json",
    }
    model = load_model(tmp_path / "run")
    assert model.facts.frame_shape == (16, 16, 3)
    assert float(model.vae.pixel_std) < 0.2
    # One bound: its parts add up to it, and the spring and capacity to the information.
    last = globally[-1]
    assert last["reconstruction"] - last["local_kl"] - last["global_kl"] == pytest.approx(
        last["elbo"], rel=1e-4
    )
    assert sum(last["spring"]) + sum(last["capacity"]) == pytest.approx(last["information"], rel=1e-3)


def test_same_seed_same_weights_other_seed_others(data: Path, tmp_path: Path) -> None:
    short = replace(TINY, local_steps=8, global_steps=8, evaluate_every=4, allow_collapse=True)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(data, tmp_path / name, replace(short, seed=seed))
    assert digest_of(tmp_path / "a") == digest_of(tmp_path / "b")
    assert digest_of(tmp_path / "a") != digest_of(tmp_path / "c")


@pytest.mark.parametrize(("phase", "step"), [("local", 5), ("global", 3), ("global", 7)])
def test_an_interrupted_run_goes_on_to_the_same_weights(
    data: Path, tmp_path: Path, phase: str, step: int
) -> None:
    config = replace(TINY, local_steps=8, global_steps=8, evaluate_every=3, allow_collapse=True)
    train(data, tmp_path / "whole", config)

    def interrupt(event: TrainEvent) -> None:
        if (event.kind, event.phase, event.step) == ("step", phase, step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "parted", config, interrupt)
    kinds: list[str] = []
    train(data, tmp_path / "parted", config, lambda event: kinds.append(event.kind))
    assert "resume" in kinds
    assert digest_of(tmp_path / "whole") == digest_of(tmp_path / "parted")
    steps = [(row["phase"], row["step"]) for row in read_metrics(tmp_path / "parted")]
    assert steps == [(row["phase"], row["step"]) for row in read_metrics(tmp_path / "whole")]


@pytest.mark.parametrize("call", [3, 100, 200])
def test_an_interrupt_amid_an_update_does_not_leave_half_of_it(
    data: Path, tmp_path: Path, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(TINY, local_steps=8, global_steps=8, evaluate_every=3, allow_collapse=True)
    train(data, tmp_path / "whole", config)
    calls, orthogonal = itertools.count(), Muon._orthogonal

    def interrupted(self: Muon, *args: Any) -> None:
        if next(calls) == call:
            raise KeyboardInterrupt
        orthogonal(self, *args)

    monkeypatch.setattr(Muon, "_orthogonal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "parted", config)
    train(data, tmp_path / "parted", config)
    assert digest_of(tmp_path / "whole") == digest_of(tmp_path / "parted")


def test_a_finished_run_is_trained_again_where_its_weights_are_not_what_they_were(
    data: Path, tmp_path: Path
) -> None:
    config = replace(TINY, local_steps=4, global_steps=4, evaluate_every=2, allow_collapse=True)
    run, kinds = tmp_path / "run", []
    train(data, run, config)
    whole = digest_of(run)
    train(data, run, config, lambda event: kinds.append(event.kind))
    assert kinds == ["skip"]
    weights = run / "model.safetensors"
    for damage in (lambda: weights.write_bytes(weights.read_bytes()[:-100]), weights.unlink):
        damage()
        train(data, run, config)
        assert digest_of(run) == whole


def test_an_episode_whose_bytes_changed_is_refused_or_left_out(tmp_path: Path) -> None:
    for seed in range(6):
        write_episode(tmp_path / "data", toy_episode(seed))
    damaged = tmp_path / "data" / "episode-00000002.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-600:-500] = bytes(100)
    damaged.write_bytes(content)
    config = replace(TINY, local_steps=2, global_steps=2, evaluate_every=2, allow_collapse=True)
    with pytest.raises(EpisodeError, match=r"bytes of seed 2 as they were written.*--skip-damaged"):
        train(tmp_path / "data", tmp_path / "run", config)
    said: list[str] = []
    config = replace(config, skip_damaged=True)
    train(tmp_path / "data", tmp_path / "run", config, lambda event: said.append(event.message))
    assert any("left out" in line and "seed 2" in line for line in said)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: {**tensors, "foreign.x": torch.zeros(1)}, "does not have: foreign.x"),
        (
            lambda tensors: dict(list(tensors.items())[1:]),
            "expected the weights of its config, received none",
        ),
        (lambda tensors: {name: value.double() for name, value in tensors.items()}, "float64"),
        (lambda tensors: {name: value * torch.nan for name, value in tensors.items()}, "expected finite"),
    ],
)
def test_other_weights_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    save_model(tmp_path, build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), 2, "Toy-v0", None)))
    weights = tmp_path / "model.safetensors"
    write_tensors(weights, change(read_tensors(weights)))
    with pytest.raises(RunError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("frame_shape", None, "expected a list"),
        ("frame_shape", [16, 16, 1], "frame_shape: expected"),
        ("action_dim", -1, "action_dim: expected 0 or more"),
        ("render_spec", "abc", "render_spec: expected keys and values"),
    ],
)
def test_a_config_that_is_none_is_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    save_model(tmp_path, build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), 2, "Toy-v0", None)))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(RobovaeError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize(("change", "message"), [({"seed": -1}, "seed"), ({"device": "foo"}, "device")])
def test_settings_that_cannot_be_are_one_line(data: Path, tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        train(data, tmp_path / "run", replace(TINY, **change))


def test_a_file_is_no_run_directory(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(TrainError, match="expected a directory, received a file"):
        train(data, tmp_path / "run", TINY)


@pytest.mark.slow
def test_sigkill_and_again_gives_the_weights_of_an_uninterrupted_run(data: Path, tmp_path: Path) -> None:
    config = replace(TINY, local_steps=150, global_steps=150, checkpoint_seconds=0.05, allow_collapse=True)
    code = (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from robovae.train import TrainConfig, train\n"
        "config = replace(TrainConfig.tiny(), local_steps=150, global_steps=150, checkpoint_seconds=0.05, "
        "allow_collapse=True)\n"
        "train(Path(sys.argv[1]), Path(sys.argv[2]), config)\n"
    )
    command = [sys.executable, "-c", code, str(data), str(tmp_path / "killed")]
    killed = 0
    for seconds in (1.0, 1.7, 0.6):
        process = subprocess.Popen(command, cwd=ROOT, env=_env())
        waited = 0.0
        while not (tmp_path / "killed" / "checkpoint.safetensors").exists() and waited < 60:
            time.sleep(0.05)
            waited += 0.05
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed, "every attempt had ended before it was killed: nothing was tested"
    subprocess.run(command, cwd=ROOT, env=_env(), check=True)
    train(data, tmp_path / "whole", config)
    assert digest_of(tmp_path / "whole") == digest_of(tmp_path / "killed")


@pytest.mark.slow
def test_two_processes_under_torchrun_share_one_run(data: Path, tmp_path: Path) -> None:
    script = tmp_path / "go.py"
    script.write_text(
        "from pathlib import Path; from dataclasses import replace\n"
        "from robovae.train import TrainConfig, train\n"
        "config = replace(TrainConfig.tiny(), local_steps=40, global_steps=20, allow_collapse=True)\n"
        f"train(Path({str(data)!r}), Path({str(tmp_path / 'run')!r}), config)\n"
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(script),
    ]
    done = subprocess.run(command, cwd=ROOT, env=_env(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((tmp_path / "run" / "training.json").read_text())["result"]
    assert result["final"]["local"]["frames"] == 40 * TINY.local_batch * 2
    assert load_model(tmp_path / "run").facts.env_id == "Toy-v0"


def _env() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'envs'}", "OMP_NUM_THREADS": "1"}


def test_a_finished_run_is_kept_and_another_config_refused(data: Path, tmp_path: Path) -> None:
    config = replace(TINY, local_steps=3, global_steps=3, allow_collapse=True)
    first = train(data, tmp_path / "run", config)
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert train(data, tmp_path / "run", replace(config, threads=2)) == first
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(TrainError, match="choose another --out"):
        train(data, tmp_path / "run", replace(config, seed=7))


def test_nan_in_the_data_is_named(tmp_path: Path) -> None:
    for seed in range(4):
        write_episode(tmp_path / "data", toy_episode(seed, bad_action=seed == 2))
    with pytest.raises(TrainError, match="episode 2: action"):
        train(tmp_path / "data", tmp_path / "run", TINY)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_names_phase_update_and_frame(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from robovae.vae import LocalDecoder

    honest = LocalDecoder.forward

    def broken(self: LocalDecoder, grid: torch.Tensor) -> torch.Tensor:
        out = honest(self, grid)
        return out + torch.where(torch.arange(len(out)) == 5, torch.nan, 0.0)[:, None, None, None]

    monkeypatch.setattr(LocalDecoder, "forward", broken)
    with pytest.raises(TrainError, match=r"local phase, update 0, episode \d+, frame \d+"):
        train(data, tmp_path / "run", TINY)


def test_collapse_is_refused_and_allowed(data: Path, tmp_path: Path) -> None:
    config = replace(TINY, beta=1e6, local_steps=30, global_steps=3, kl_warmup=0.0)
    with pytest.raises(CollapseError, match="collapsed; lower beta"):
        train(data, tmp_path / "run", config)
    assert not (tmp_path / "run" / "training.json").exists()
    train(data, tmp_path / "allowed", replace(config, allow_collapse=True))
    assert (tmp_path / "allowed" / "training.json").exists()


def test_beta_warm_up_and_free_bits_have_their_effects(data: Path, tmp_path: Path) -> None:
    base = replace(
        TINY,
        local_steps=150,
        global_steps=1,
        evaluate_every=10,
        patience=99,
        kl_warmup=1.0,
        allow_collapse=True,
    )
    variants = {
        "plain": base,
        "beta": replace(base, beta=30.0),
        "free": replace(base, beta=30.0, free_bits=2.0),
        "cold": replace(base, kl_warmup=0.0),
    }
    early, nats = {}, {}
    for name, config in variants.items():
        train(data, tmp_path / name, config)
        rows = {row["step"]: row for row in read_metrics(tmp_path / name) if row["phase"] == "local"}
        early[name], nats[name] = rows[60]["local_kl"], rows[150]["local_kl"]
    assert nats["beta"] < 0.5 * nats["plain"]
    assert nats["free"] > nats["beta"] + 5
    # While the warm-up still holds the weight down.
    assert early["plain"] > 1.5 * early["cold"]


def test_a_deterministic_model_trains_the_same_way(data: Path, tmp_path: Path) -> None:
    model = replace(ModelConfig.tiny(), deterministic=True)
    result = train(data, tmp_path / "ae", replace(TINY, model=model, local_steps=200, allow_collapse=True))
    assert result["final"]["local"]["local_kl"] == 0.0
    assert result["final"]["local"]["ev"] > 0.3


def test_early_stop_keeps_the_best_weights(data: Path, tmp_path: Path) -> None:
    config = replace(TINY, local_lr=0.5, patience=2, evaluate_every=2, local_steps=400, global_steps=2)
    kinds: list[tuple[str, str]] = []
    train(
        data,
        tmp_path / "run",
        replace(config, allow_collapse=True),
        lambda event: kinds.append((event.kind, event.phase)),
    )
    assert ("stop", "local") in kinds
    rows = [row for row in read_metrics(tmp_path / "run") if row["phase"] == "local"]
    assert rows[-1]["step"] < 400
    best = max(rows, key=lambda row: row["elbo"])
    assert rows[-1]["elbo"] < best["elbo"]
    kept = float(load_model(tmp_path / "run").vae.pixel_std)
    assert kept == pytest.approx(best["pixel_std"], rel=1e-4)
    assert kept != pytest.approx(rows[-1]["pixel_std"], rel=1e-4)


def test_bad_settings_sizes_and_splits_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"TrainConfig.local_lr: expected more than 0, received -1"):
        TrainConfig(local_lr=-1)
    with pytest.raises(ModelError, match="latent_dim"):
        ModelConfig(latent_dim=0)
    for seed in (20000, 20001):
        write_episode(tmp_path / "test-only", toy_episode(seed))
    with pytest.raises(EpisodeError, match="split 'train'"):
        train(tmp_path / "test-only", tmp_path / "run", TINY)
    with pytest.raises(RunError, match="received none to be read; run `robovae train`"):
        load_model(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(24, 40), (96, 96)])
def test_other_frame_sizes_train(tmp_path: Path, shape: tuple[int, int]) -> None:
    make_env = partial(make_toy, height=shape[0], width=shape[1])
    collect(make_env, tmp_path / "data", CollectConfig(episodes=6, workers=1), lambda event: None)
    config = replace(TINY, local_steps=4, global_steps=4, allow_collapse=True)
    train(tmp_path / "data", tmp_path / "run", config)
    assert EpisodeStore(tmp_path / "data").frame_shape == load_model(tmp_path / "run").facts.frame_shape


def test_training_gives_the_processor_back_as_it_was(data: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    train(data, tmp_path / "run", replace(TINY, local_steps=2, global_steps=2, allow_collapse=True))
    assert float(torch.tensor([1e-40]) * 1.0) > 0.0, "denormal numbers are still flushed"
    assert torch.get_num_threads() == threads


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(1, 60), seed=st.integers(0, 99))
def test_windows_are_slices_and_their_mask_ends_with_the_episode(data: Path, length: int, seed: int) -> None:
    store = EpisodeStore(data)
    starts = np.cumsum(store.lengths) - store.lengths
    windows = Sequences(store).draw(length, 7, np.random.default_rng(seed))
    for numbers, action, mask in zip(windows.numbers, windows.action, windows.mask > 0, strict=True):
        index = int(np.searchsorted(starts, numbers[0], "right")) - 1
        first, episode = int(numbers[0] - starts[index]), store[index]
        frames, actions = episode.image[first : first + length], episode.action[first : first + length]
        assert mask.tolist() == [step < len(frames) for step in range(length)]
        assert np.array_equal(store.frames(numbers[mask.numpy()]), frames)
        assert np.array_equal(action[: len(actions)], actions)
        assert not action[len(actions) :].any()


def test_an_action_that_never_moves_is_not_divided_by_nothing() -> None:
    actions = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 0, 0, 0])
    actions += torch.tensor([0.0, 0.5, 40.0, 0.0])
    assert size_of(actions).tolist() == pytest.approx([float(actions[:, 0].std()), 1.0, 40.0, 1.0])


def test_windows_reach_every_place(data: Path) -> None:
    store = EpisodeStore(data)
    starts = np.cumsum(store.lengths) - store.lengths
    drawn = Sequences(store).draw(4, 20_000, np.random.default_rng(1)).numbers[:, 0]
    wanted = [start + np.arange(n - 3) for start, n in zip(starts, store.lengths, strict=True)]
    assert sorted(set(drawn.tolist())) == np.concatenate(wanted).tolist()


def test_schedules() -> None:
    assert ramp(0, 100, 0.5) == pytest.approx(0.02)
    assert ramp(49, 100, 0.5) == ramp(99, 100, 0.5) == ramp(0, 100, 0.0) == 1.0
    rates = [learning_rate(step, 1000, 1.0) for step in range(1000)]
    assert max(rates) == pytest.approx(rates[99], rel=1e-2)
    assert rates[-1] == pytest.approx(0.02, abs=1e-3)
