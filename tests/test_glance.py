"""One look for all who ask of the same frames: the same answers as looks of their own, and fewer passes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from robovae.belief import Belief, Perceiver
from robovae.episodes import EpisodeStore, write_episode
from robovae.judge import Footage
from robovae.judge.glance import Glance
from robovae.run.directory import RunFacts, build_model, save_model
from robovae.uncertainty import CalibrateConfig, FrameMonitor, calibrate_run
from robovae.vae import ModelConfig
from tests.test_train import toy_episode


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated run of an untrained model beside its data."""
    data, path = tmp_path_factory.mktemp("toy"), tmp_path_factory.mktemp("run")
    for seed in (*range(16), *range(10_000, 10_012)):
        write_episode(data, toy_episode(seed))
    torch.manual_seed(0)
    save_model(path, build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), 2, "Toy-v0", None)))
    calibrate_run(path, data, CalibrateConfig.tiny())
    (path / "data").symlink_to(data)
    return path


@pytest.fixture(scope="module")
def footage(run: Path) -> Footage:
    return Footage.of(EpisodeStore(run / "data"), episodes=3)


def both(belief: Belief) -> list[np.ndarray]:
    assert belief.local is not None
    return [belief.mu, belief.sigma, belief.local.mu, belief.local.sigma]


def test_all_is_told_from_one_look_and_as_by_looks_of_their_own(run: Path, footage: Footage) -> None:
    monitor, frames = FrameMonitor.load(run), footage.frames
    calls: list[int] = []
    look = monitor.scorer.insight
    monitor.scorer.insight = lambda some: calls.append(len(some)) or look(some)
    raw = Perceiver.load(run, calibrated=False)
    glance = Glance(monitor, raw)
    total, scores = glance.total(frames), glance.sequence_scores(footage)
    own, kept = glance(frames), glance.reconstruct(frames)
    assert calls == [len(frames)]
    other = Perceiver.load(run, calibrated=True)(frames)
    np.testing.assert_allclose(total.mu, other.mu, atol=1e-5)
    np.testing.assert_allclose(total.sigma, other.sigma, atol=1e-5)
    for mine, its in zip(both(own), both(raw(frames)), strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-5)
    assert np.abs(kept.astype(int) - raw.reconstruct(frames)).max() <= 1
    assert calls == [len(frames)]
    alone = FrameMonitor.load(run).sequence_scores(footage)
    assert scores.keys() == alone.keys()
    for name, values in alone.items():
        np.testing.assert_allclose(scores[name], values, atol=1e-5)


def test_another_array_is_another_look_and_what_is_asked_alone_is_no_look_at_all(
    run: Path, footage: Footage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor, calls = FrameMonitor.load(run), []
    look = monitor.scorer.insight
    monkeypatch.setattr(monitor.scorer, "insight", lambda some: calls.append(len(some)) or look(some))
    glance = Glance(monitor, Perceiver.load(run, calibrated=False))
    glance(footage.frames)
    glance.reconstruct(footage.frames)
    assert calls == [], "a baseline's cost is its own pass"
    dark = glance.total(footage.frames // 2)
    assert not np.array_equal(dark.mu, glance.total(footage.frames).mu)
    assert calls == [len(footage)] * 2
