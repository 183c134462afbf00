"""`robovae export`: write the graph of a run, say what it takes and gives, and compare it with torch."""

import logging
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robovae import provenance
from robovae.export.errors import ExportError
from robovae.export.graph import ABOUT, FOLDER, FORMAT, GRAPH, STATE, Graph, check_installed, sources_of
from robovae.export.whole import Whole
from robovae.filter.model import load_dynamics
from robovae.records import write_json
from robovae.run.directory import RunModel, load_model
from robovae.uncertainty.following import TEMPORAL
from robovae.uncertainty.look import ORDERS
from robovae.uncertainty.model import load_uncertainty
from robovae.uncertainty.scores import SCORES
from robovae.vae import VAE

OPSET = 20
TOLERANCE = 2e-3
"""Of every output: relative to its size where that is above 1, else absolute."""
_COMPARED = 8
"""Frames that torch and the graph are compared on."""


def export_run(run: Path) -> dict[str, Any]:
    """Write RUN/export/robovae.onnx and RUN/export/robovae.json.

    Args:
        run: a calibrated run.

    Returns:
        What is in the JSON file: the digests of what it was made of, "inputs" and "outputs" by name, each
        with "shape" ("B" is any number of robots), "dtype" and "meaning"; "scores", their names in order;
        "largest_difference" from torch; "versions". And, not in it, "path" and "seconds".

    Raises:
        NotCalibratedError: the run has no calibration or no filter, or those of other weights.
        RunError: it has no model, or one that cannot be read.
        ExportError: a package of the extra `export` is missing, or the graph gives other numbers than torch.
    """
    begin = time.monotonic()
    check_installed("onnx", "onnxscript", "onnxruntime")
    model = load_model(run)
    parts = load_uncertainty(run, model.vae), load_dynamics(run, model)
    whole = Whole(model.vae, *parts).eval().requires_grad_(False)
    memory = whole.dynamics.cell.hidden_size
    inputs, outputs = _inputs(model, memory), _outputs(model.vae, memory)
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / ABOUT).unlink(missing_ok=True)  # a graph without it is none, until it has been compared
    samples = _samples(model, inputs)
    _write(whole, samples, list(outputs), folder / GRAPH)
    widths = {name: inputs[name]["shape"][1] for name in ("action", *STATE)}
    largest = _compare(whole, Graph(folder / GRAPH, widths), samples)
    about = {
        "format": FORMAT,
        **sources_of(run),
        "env_id": model.facts.env_id,
        "scores": [*SCORES, *TEMPORAL],
        "inputs": inputs,
        "outputs": outputs,
        "largest_difference": largest,
        "versions": provenance.versions(),
    }
    write_json(folder / ABOUT, about)
    return {**about, "path": str(folder / GRAPH), "seconds": round(time.monotonic() - begin, 1)}


def _inputs(model: RunModel, memory: int) -> dict[str, dict[str, Any]]:
    latents = model.vae.config.latent_dim
    return {
        "frames": _tensor(
            [*model.facts.frame_shape], "what the camera gave, RGB, the last axis colours", dtype="uint8"
        ),
        "action": _tensor([model.facts.action_dim], "what led to these frames"),
        "first": _tensor([1], "1 at the first frame of an episode, whose other inputs do not count; else 0"),
        "last": _tensor([latents], "posterior_mu of the frame before"),
        "last_log_sigma": _tensor([latents], "next_log_sigma of the frame before"),
        "memory": _tensor([memory], "next_memory of the frame before"),
        "seen": _tensor([latents], "mu of the frame before"),
    }


def _outputs(vae: VAE, memory: int) -> dict[str, dict[str, Any]]:
    latents, grid, cells = [vae.config.latent_dim], [*vae.grid_shape], [*vae.grid_shape[1:]]
    log_sigma = "log of its standard deviation"
    return {
        "mu": _tensor(latents, "calibrated belief of the frame alone: mean"),
        "log_sigma": _tensor(latents, log_sigma),
        "lone_mu": _tensor(latents, "the same as the encoder has it, not calibrated"),
        "lone_log_sigma": _tensor(latents, log_sigma),
        "local_mu": _tensor(grid, "belief of the grid of local latents: mean"),
        "local_log_sigma": _tensor(grid, log_sigma),
        "surprise": _tensor(cells, "nats of each cell that the belief does not account for"),
        "statistics": _tensor(["S"], "means and deviations of the feature maps"),
        "spectrum": _tensor([2 * ORDERS], "log power of the frame by fineness of structure"),
        "scores": _tensor([len(SCORES) + len(TEMPORAL)], "higher = stranger; the temporal ones 0 at first"),
        "posterior_mu": _tensor(latents, "belief of the sequence so far: mean"),
        "posterior_log_sigma": _tensor(latents, log_sigma),
        "next_log_sigma": _tensor(latents, "the same, faded: what the next frame's prediction goes on from"),
        "next_memory": _tensor([memory], "what the dynamics remember"),
    }


def _tensor(shape: list[Any], meaning: str, dtype: str = "float32") -> dict[str, Any]:
    return {"shape": ["B", *shape], "dtype": dtype, "meaning": meaning}


def _samples(model: RunModel, inputs: dict[str, dict[str, Any]]) -> dict[str, Tensor]:
    """The mean frame under ever more noise, and a state like those that come up."""
    rng = np.random.default_rng(0)
    mean = model.vae.mean_frame.permute(1, 2, 0).numpy() * 255.0
    spread = np.geomspace(1.0, 200.0, _COMPARED)[:, None, None, None]
    frames = (mean + spread * rng.standard_normal((_COMPARED, *mean.shape))).clip(0, 255).astype(np.uint8)
    state = {
        name: rng.uniform(-1.0, 1.0, (_COMPARED, *about["shape"][1:])).astype(np.float32)
        for name, about in inputs.items()
        if name != "frames"
    }
    state["first"] = (np.arange(_COMPARED) % 2).astype(np.float32)[:, None]
    return {name: torch.from_numpy(value) for name, value in {"frames": frames, **state}.items()}


def _write(whole: Whole, samples: dict[str, Tensor], outputs: list[str], path: Path) -> None:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the exporter tells of packages that it does without
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                whole,
                (),
                str(path),
                kwargs=samples,
                input_names=list(samples),
                output_names=outputs,
                dynamic_shapes={name: {0: torch.export.Dim.DYNAMIC} for name in samples},
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        logging.disable(before)


def _compare(whole: Whole, graph: Graph, samples: dict[str, Tensor]) -> float:
    """The largest difference between both, over the frames together and the first of them alone.

    Raises:
        ExportError: it is above the tolerance.
    """
    largest = 0.0
    for count in (_COMPARED, 1):
        some = {name: value[:count] for name, value in samples.items()}
        with torch.inference_mode():
            expected = whole(**some)
        found = graph.run({name: value.numpy() for name, value in some.items()})
        for (name, other), own in zip(found.items(), expected, strict=True):
            error = np.abs(own.numpy() - other) / np.maximum(np.abs(own.numpy()), 1.0)
            worst = float(error.max())
            if not worst <= TOLERANCE:  # nor where it is NaN
                raise ExportError(f"{name}: the graph gives other numbers than torch ({worst:.2g} off)")
            largest = max(largest, worst)
    return largest
