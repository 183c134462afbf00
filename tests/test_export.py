"""The exported graph: the same numbers as torch, refusals where it is none of the run's."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import robovae
from robovae.belief import Perceiver
from robovae.cli import export as command
from robovae.dynamics import FilterDynamics
from robovae.episodes import EpisodeStore, write_episode
from robovae.export import ExportError, Graph, export_run
from robovae.export import writing as module
from robovae.export.graph import STATE, load_graph
from robovae.filter import BeliefFilter, save_dynamics
from robovae.frames import FrameError
from robovae.monitor import Monitor, Verdict, Why
from robovae.run.directory import RunFacts, build_model, save_model
from robovae.uncertainty import (
    SCORES,
    TEMPORAL,
    CalibrateConfig,
    FrameMonitor,
    NotCalibratedError,
    Scorer,
    calibrate_run,
)
from robovae.uncertainty.following import Follower
from robovae.vae import ModelConfig
from tests.test_train import toy_episode
from tests.toy_beliefs import LATENTS, calibrate_with, make_filter

FACTS = RunFacts((16, 16, 3), 2, "Toy-v0", None)
VERDICT = Verdict(0.0, 1.0, True, 0, 0.0, False, False, Why("sigma", 0.0))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy")
    for seed in (*range(24), *range(10_000, 10_012), *range(20_000, 20_002)):
        write_episode(path, toy_episode(seed))
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    path = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    save_model(path, build_model(ModelConfig.tiny(), FACTS))
    # Dynamics that are hardly trained would predict no change, whatever they remember.
    calibrate_with(make_filter(LATENTS, 2).dynamics, path, data)
    found = export_run(path)
    assert found["largest_difference"] < module.TOLERANCE
    return path


@pytest.fixture
def run(exported: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(exported, tmp_path / "run"))


@pytest.mark.slow
class TestGraph:
    """ONNX Runtime in the place of torch."""

    def test_perceivers_see_the_same(self, exported, data):
        frames = EpisodeStore(data).split("test").frames(np.arange(7))
        for calibrated in (True, False):
            own, other = (
                Perceiver.load(exported, calibrated=calibrated, engine=engine) for engine in ("torch", "onnx")
            )
            for count in (7, 1):
                a, b = own(frames[:count]), other(frames[:count])
                for x, y in ((a, b), (a.local, b.local)):
                    np.testing.assert_allclose(y.mu, x.mu, atol=1e-4)
                    np.testing.assert_allclose(y.sigma, x.sigma, rtol=1e-3)
        assert not np.allclose(robovae.load(exported, engine="onnx")(frames).sigma, b.sigma[0]), (
            "uncalibrated"
        )

    def test_scores_of_an_episode_are_the_same_though_it_is_watched_twice(self, exported, data, monkeypatch):
        episode, told = EpisodeStore(data).split("test")[0], []
        monkeypatch.setattr(Monitor, "update", lambda self, scores, **_: told.append(scores) or VERDICT)
        for engine in ("torch", "onnx"):
            monitor = robovae.load_monitor(exported, engine=engine)
            for _ in "ab":
                monitor.watch(episode.image, episode.action)
        own, other = np.array([[*scores.values()] for scores in told]).reshape(2, 2 * len(episode.image), -1)
        for name, a, b in zip(told[0], own.T, other.T, strict=True):
            # Untrained maps that never change have deviations of rounding errors, and those weigh most.
            np.testing.assert_allclose(b, a, atol=0.2 if name == "statistics" else 2e-3, err_msg=name)

    def test_temporal_scores_follow_from_what_goes_from_frame_to_frame(self, exported, data):
        """For several robots at once, as the description says: outputs fed back as inputs."""
        episode, graph, scorer = (
            EpisodeStore(data).split("test")[0],
            load_graph(exported),
            Scorer.load(exported),
        )
        follower, state = Follower(BeliefFilter.load(exported).dynamics), None
        for t in range(6):
            frames = np.stack([episode.image[t], episode.image[t + 5]])
            action = np.stack([episode.action[t], episode.action[t + 5]]).astype(np.float32)
            _, temporal, state = graph.step(frames, action if t else None, state)
            expected = follower.update(scorer.insight(frames).total, torch.from_numpy(action) if t else None)
            np.testing.assert_allclose(temporal.numpy(), expected.numpy(), atol=2e-3)
            assert bool(temporal.any()) == (t > 0)

    def test_the_description_fits_the_graph(self, exported):
        about = json.loads((exported / "export" / "robovae.json").read_text())
        graph = load_graph(exported)
        assert graph.outputs == list(about["outputs"])
        assert about["scores"] == [*SCORES, *TEMPORAL]
        inputs = {
            name: np.zeros([3, *entry["shape"][1:]], entry["dtype"])
            for name, entry in about["inputs"].items()
        }
        assert {*STATE, "frames", "action", "first"} == set(inputs)
        for name, value in graph.run(inputs).items():
            entry = about["outputs"][name]
            assert value.dtype == entry["dtype"]
            assert [3, *entry["shape"][1:]] == [*value.shape] or entry["shape"][1:] == ["S"]

    def test_other_numbers_than_torch_are_refused(self, run, monkeypatch):
        monkeypatch.setattr(module, "TOLERANCE", 0.0)
        with pytest.raises(ExportError, match="other numbers than torch"):
            export_run(run)
        with pytest.raises(ExportError, match="received none"):  # and nothing is left to be used
            robovae.load(run, engine="onnx")

    def test_numbers_that_are_none_are_refused(self, run, monkeypatch):
        real = Graph.run

        def spoiled(self, inputs):
            return {**real(self, inputs), "mu": np.full((len(inputs["frames"]), LATENTS), np.nan, np.float32)}

        monkeypatch.setattr(Graph, "run", spoiled)
        with pytest.raises(ExportError, match="mu: the graph gives other numbers than torch"):
            export_run(run)

    def test_at_a_first_frame_nothing_else_counts(self, exported, data):
        graph, frames = load_graph(exported), EpisodeStore(data).split("test").frames(np.arange(2))
        about = json.loads((exported / "export" / "robovae.json").read_text())
        inputs = {
            name: np.full([2, *entry["shape"][1:]], np.nan, np.float32)
            for name, entry in about["inputs"].items()
        }
        found = graph.run({**inputs, "frames": frames, "first": np.ones((2, 1), np.float32)})
        assert all(np.isfinite(value).all() for value in found.values())
        assert not found["next_memory"].any()

    def test_frames_of_another_shape_are_refused(self, exported):
        monitor = FrameMonitor.load(exported, engine="onnx")
        with pytest.raises(FrameError, match="expected"):
            monitor.update(np.zeros((8, 8, 3), np.uint8))

    def test_a_graph_of_another_calibration_is_refused(self, run, data):
        calibrate_run(run, data, replace(CalibrateConfig.tiny(), seed=1))
        with pytest.raises(ExportError, match="another's; run `robovae export"):
            FrameMonitor.load(run, engine="onnx")
        assert robovae.load_monitor(run), "torch needs no graph"

    def test_a_graph_of_another_filter_is_refused(self, run):
        save_dynamics(run, FilterDynamics(LATENTS, 2, 6))
        with pytest.raises(ExportError, match="another's; run `robovae export"):
            FrameMonitor.load(run, engine="onnx")
        (run / "filter.safetensors").unlink()
        with pytest.raises(ExportError, match="another's; run `robovae export"):
            robovae.load(run, engine="onnx")
        with pytest.raises(NotCalibratedError, match=r"expected a filter .* run `robovae calibrate"):
            export_run(run)

    def test_a_graph_from_before_it_held_the_filter_is_refused(self, run):
        path = run / "export" / "robovae.json"
        about = json.loads(path.read_text())
        del about["filter.safetensors"]
        path.write_text(json.dumps(about))
        with pytest.raises(ExportError, match="another's; run `robovae export"):
            robovae.load(run, engine="onnx")

    def test_a_damaged_graph_is_refused(self, run):
        path = run / "export" / "robovae.onnx"
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ExportError, match="expected a whole graph"):
            robovae.load(run, engine="onnx")

    @pytest.mark.parametrize("as_json", [True, False])
    def test_the_command_tells_what_it_wrote(self, exported, capsys, monkeypatch, as_json):
        about = json.loads((exported / "export" / "robovae.json").read_text())
        made = {**about, "path": str(exported / "export" / "robovae.onnx"), "seconds": 1.0}
        monkeypatch.setattr(command, "export_run", lambda run: made)
        assert command.Export(exported, as_json).run() == 0
        said = capsys.readouterr().out
        assert (json.loads(said)["path"] if as_json else said).count("robovae.onnx") == 1


class TestRefusals:
    """One clear line each."""

    def test_a_run_that_is_not_calibrated(self, tmp_path):
        save_model(tmp_path, build_model(ModelConfig.tiny(), FACTS))
        with pytest.raises(NotCalibratedError, match="robovae calibrate"):
            export_run(tmp_path)
        with pytest.raises(ExportError, match=r"expected an exported graph .* run `robovae export"):
            robovae.load(tmp_path, engine="onnx")

    def test_an_engine_that_is_none(self, tmp_path):
        save_model(tmp_path, build_model(ModelConfig.tiny(), FACTS))
        with pytest.raises(ExportError, match="engine: expected torch or onnx, received 'tpu'"):
            robovae.load(tmp_path, engine="tpu")

    def test_packages_that_are_missing(self, tmp_path, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ExportError, match=r"pip install 'robovae\[export\]'"):
            export_run(tmp_path)
        with pytest.raises(ExportError, match="onnxruntime to be installed"):
            Graph(tmp_path / "none.onnx", {})
