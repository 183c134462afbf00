"""The exported graph at work: ONNX Runtime in the place of torch, the same numbers out."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robovae.export.errors import ExportError
from robovae.frames import check_frames
from robovae.gaussian import Gaussian
from robovae.records import file_digest, read_json
from robovae.run.files import SCORING
from robovae.uncertainty.look import Look
from robovae.uncertainty.model import Insight
from robovae.uncertainty.scores import SCORES

ENGINES = ("torch", "onnx")
"""Who can compute the beliefs and scores of a run."""
FOLDER, GRAPH, ABOUT = "export", "robovae.onnx", "robovae.json"
"""In a run directory: the folder, the graph, and what it takes and gives."""
FORMAT = 7
"""Version of the names in them."""
STATE = ("last", "last_log_sigma", "memory", "seen")
"""Inputs that come from the frame before."""

Frames = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Graph:
    """A session of ONNX Runtime on one thread.

    Args:
        path: the graph.
        widths: of the inputs `action` and `STATE`.

    Raises:
        ExportError: ONNX Runtime is not installed, or it cannot read the graph.
    """

    def __init__(self, path: Path, widths: dict[str, int]) -> None:
        check_installed("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            line = str(error).splitlines()[0]
            raise ExportError(f"{path}: expected a whole graph, received {line}; export again") from error
        self._widths = widths
        self.outputs = [output.name for output in self._session.get_outputs()]
        """Their names, in order."""

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, Floats]:
        """All inputs by name -> all outputs by name, as `robovae.json` describes them."""
        return dict(zip(self.outputs, self._session.run(None, inputs), strict=True))

    def __call__(self, frames: Frames) -> Insight:
        """All that is known of frames on their own, (B, H, W, 3)."""
        return self.step(frames, None, None)[0]

    def step(
        self, frames: Frames, action: Floats | None, state: dict[str, Floats] | None
    ) -> tuple[Insight, Tensor, dict[str, Floats]]:
        """The next frames of B robots.

        Args:
            frames: (B, H, W, 3).
            action: what led to them, (B, A); zeros if None.
            state: what the step before gave; None at the first frames.

        Returns:
            The insight, the temporal scores (B, len(TEMPORAL)), and the next state.
        """
        blank = ("action",) if state else ("action", *STATE)
        inputs: dict[str, NDArray[Any]] = {
            name: np.zeros((len(frames), self._widths[name]), np.float32) for name in blank
        }
        first = np.full((len(frames), 1), state is None, np.float32)
        inputs |= {"frames": frames, "first": first, **(state or {})}
        if action is not None:
            inputs["action"] = action
        found = self.run(inputs)
        tensors = {name: torch.from_numpy(value) for name, value in found.items()}
        after = {
            "last": found["posterior_mu"],
            "last_log_sigma": found["next_log_sigma"],
            "memory": found["next_memory"],
            "seen": found["mu"],
        }
        return _insight(tensors), tensors["scores"][:, len(SCORES) :], after

    def watch(self, frame_shape: tuple[int, int, int]) -> "GraphWatch":
        """What follows the frames (H, W, 3) of a robot, one by one."""
        return GraphWatch(self, frame_shape)


class GraphWatch:
    """A `Watch` in one pass of a graph a frame.

    Args:
        graph: of a run.
        frame_shape: (H, W, 3) of its frames.
    """

    def __init__(self, graph: Graph, frame_shape: tuple[int, int, int]) -> None:
        self._graph, self._frame_shape = graph, frame_shape
        self.reset()

    def reset(self) -> None:
        """The next frame is the first one."""
        self._state: dict[str, Floats] | None = None

    def step(self, frames: Frames, action: Tensor | None) -> tuple[Insight, Tensor]:
        """See `Watch.step`."""
        taken, checked = None if action is None else action.numpy(), check_frames(frames, self._frame_shape)
        seen, temporal, self._state = self._graph.step(checked, taken, self._state)
        return seen, temporal


def load_graph(run: Path) -> Graph:
    """Read what `export_run` wrote.

    Raises:
        ExportError: nothing was exported, or of other weights, another calibration or another filter.
    """
    about = read_json(run / FOLDER / ABOUT)
    mend = f"run `robovae export {run}`"
    if about is None or not (run / FOLDER / GRAPH).is_file():
        raise ExportError(f"{run}: expected an exported graph ({FOLDER}/{GRAPH}), received none; {mend}")
    wanted = {"format": FORMAT, **sources_of(run)}
    if {name: about.get(name) for name in wanted} != wanted:
        raise ExportError(f"{run / FOLDER}: expected the graph of these weights, received another's; {mend}")
    inputs = about["inputs"]
    return Graph(run / FOLDER / GRAPH, {name: inputs[name]["shape"][1] for name in ("action", *STATE)})


def graph_of(run: Path, engine: str) -> Graph | None:
    """The graph of a run where that is the engine; None for torch, which needs none.

    Raises:
        ExportError: there is no such engine, or nothing was exported for it.
    """
    if engine not in ENGINES:
        raise ExportError(f"engine: expected {' or '.join(ENGINES)}, received {engine!r}")
    return load_graph(run) if engine == "onnx" else None


def sources_of(run: Path) -> dict[str, str]:
    """Digests of the files that a graph is made of; "" for one that is missing."""
    return {name: file_digest(run / name) if (run / name).is_file() else "" for name in SCORING}


def check_installed(*packages: str) -> None:
    """Refuse to go on without the packages of the extra.

    Raises:
        ExportError: one is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"expected {' and '.join(missing)} to be installed, found none; pip install 'robovae[export]'"
        )


def _insight(found: dict[str, Tensor]) -> Insight:
    look = Look(
        found["statistics"],
        found["spectrum"],
        Gaussian(found["local_mu"], found["local_log_sigma"]),
        Gaussian(found["lone_mu"], found["lone_log_sigma"]),
        found["surprise"],
    )
    total = Gaussian(found["mu"], found["log_sigma"])
    return Insight(look, total, found["scores"][:, : len(SCORES)])
