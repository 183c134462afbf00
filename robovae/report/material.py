"""Gather what the page shows: numbers and pictures from a run and its dataset."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from robovae.belief import Perceiver
from robovae.episodes import EpisodeStore, split_of
from robovae.evaluate import EvaluateConfig, HolesConfig, compare_holes, evaluate, held_out
from robovae.records import read_json
from robovae.report import control, dreams, looks, uncertainty
from robovae.report.filmchart import Watched
from robovae.report.pictures import Image, Picture
from robovae.run.directory import RunModel, check_data
from robovae.train import read_metrics

MANY = 2000
"""Frames of the test split that averages are taken over."""


@dataclass(frozen=True)
class Material:
    """All that the page is made of."""

    figures: dict[str, Any]
    """Every number, JSON-able: figures.json."""
    film: looks.Blocks
    film_png: bytes
    maps: looks.Blocks
    history: dict[str, Picture]
    """Spring and capacity of each dimension over training; empty where training did not record them."""
    traversals: list[looks.Strip]
    samples: looks.Blocks
    walks: looks.Blocks
    """VAE over plain autoencoder; empty where there is none."""
    films: list[Watched]
    """Faults under the monitor, in the order of the figures; empty where none were kept."""
    dreams: dreams.Dreams
    """Of the filter's dynamics; without figures where the run has no filter."""
    control: control.Control
    """Of policies and the closed loop; without figures where the run has no policy."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    quality: EvaluateConfig = field(default_factory=EvaluateConfig)
    """Of the figures."""
    holes: HolesConfig = field(default_factory=HolesConfig)
    """Of the comparison with a plain autoencoder."""
    seconds: float = 1.0
    """Time spent on timing the encoder, each way."""

    @classmethod
    def tiny(cls) -> Self:
        """Seconds, for tests and quick looks: probe and smoothness come out too low."""
        quality = EvaluateConfig.tiny()
        return cls(quality, HolesConfig(pairs=8, pool=200, probe=quality.probe), 0.01)


def gather(run: Path, data: Path, effort: Effort) -> Material:
    """Measure and draw.

    Args:
        run: the run directory.
        data: the dataset; its test split is judged on, its train split fits probes.
        effort: how much is measured.

    Raises:
        RunError: no model in `run`, or a dataset of another environment or camera.
        EpisodeError: the dataset is missing, damaged, or lacks a split.
        FrameError: the frames are not those of the model.
    """
    # What the VAE itself has learnt; what calibration makes of it has a section of its own.
    perceiver, store = Perceiver.load(run, calibrated=False), EpisodeStore(data)
    check_data(perceiver.model.facts, store)
    test, train = held_out(store)
    # What may be of an older format comes before what takes minutes.
    findings, dreamt, acting = uncertainty.gather(run), dreams.gather(run, test), control.gather(run)
    many, rows = looks.spread(test, min(MANY, test.num_frames)), read_metrics(run)
    quality = evaluate(perceiver, test, train, effort.quality)
    dimensions = rank_dimensions(quality, perceiver(many).sigma.mean(0))
    film, film_png, film_numbers = looks.filmstrip(perceiver, looks.spread(test, looks.FILM_FRAMES))
    few = looks.spread(test, looks.FILM_FRAMES - 1)
    maps, map_numbers = looks.map_rows(perceiver.model.vae, few, many)
    walks, walk_numbers = walk(run, perceiver, test, train, effort.holes)
    return Material(
        figures={
            "run": describe_run(perceiver.model),
            "data": describe_data(store),
            "quality": quality,
            "dimensions": dimensions,
            "information": {key: sum(one[key] for one in dimensions) for key in ("spring", "capacity")},
            "training": {"rows": rows, **training_totals(rows)},
            "speed": {**encoding_speed(perceiver, many, effort.seconds), **recorded_speed(rows, data)},
            "film": film_numbers,
            "maps": map_numbers,
            "walks": walk_numbers,
            "dreams": dreamt.figures,
            "uncertainty": findings.figures,
            "control": acting.figures,
            "provenance": read_json(run / "provenance.json") or {},
        },
        film=film,
        film_png=film_png,
        maps=maps,
        history=history(rows, [one["dim"] for one in dimensions]),
        traversals=looks.traversals(perceiver, few[1], dimensions),
        samples=looks.samples(perceiver, looks.spread(test, looks.SAMPLES)),
        walks=walks,
        films=findings.films,
        dreams=dreamt,
        control=acting,
    )


def describe_run(model: RunModel) -> dict[str, Any]:
    """Sizes of a model."""
    vae = model.vae
    encoder = (*vae.local_encoder.parameters(), *vae.global_encoder.parameters())
    return {
        "env_id": model.facts.env_id,
        "frame_shape": list(model.facts.frame_shape),
        "latent_dim": vae.config.latent_dim,
        "grid_shape": list(vae.grid_shape),
        "pixel_std": float(vae.pixel_std),
        "parameters": sum(p.numel() for p in (*vae.parameters(), *model.dynamics.parameters())),
        "encoder_parameters": sum(p.numel() for p in encoder),
        "render_spec": model.facts.render_spec,
    }


def describe_data(store: EpisodeStore) -> dict[str, Any]:
    """Episodes and frames by split, and the seeds they came from."""
    splits: dict[str, dict[str, int]] = {}
    for seed, length in zip(store.seeds, store.lengths.tolist(), strict=True):
        one = splits.setdefault(
            split_of(seed), {"episodes": 0, "frames": 0, "first_seed": seed, "last_seed": seed}
        )
        one["episodes"] += 1
        one["frames"] += length
        one["last_seed"] = seed
    return {"name": store.path.name, "env_id": store.env_id, "splits": splits}


def rank_dimensions(quality: dict[str, Any], sigma: NDArray[np.floating[Any]]) -> list[dict[str, Any]]:
    """What each dimension of a lone frame's belief carries on average, the most informative first."""
    parts = zip(quality["spring"], quality["capacity"], sigma.tolist(), strict=True)
    rows = [
        {"dim": dim, "nats": spring + capacity, "spring": spring, "capacity": capacity, "sigma": width}
        for dim, (spring, capacity, width) in enumerate(parts)
    ]
    return sorted(rows, key=lambda one: -one["nats"])


def training_totals(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Time and frames over all phases; 0 where nothing was recorded."""
    frames: dict[str, int] = {}
    for row in rows:
        phase = row.get("phase", "")
        frames[phase] = max(frames.get(phase, 0), int(row.get("frames", 0)))
    seconds = max((float(row.get("seconds", 0.0)) for row in rows), default=0.0)
    return {"seconds": seconds, "minutes": seconds / 60.0, "frames": sum(frames.values())}


def recorded_speed(rows: Sequence[dict[str, Any]], data: Path) -> dict[str, Any]:
    """Frames a second of collecting and of each training phase, as far as they were recorded."""
    speed: dict[str, Any] = {}
    splits = ((read_json(data / "collect.json") or {}).get("result") or {}).values()
    fps = [one["fps"] for one in splits if isinstance(one, dict) and one.get("fps")]
    if fps:
        speed["collect_fps"] = max(fps)
    for row in rows:
        if "phase" in row and "frames_per_second" in row:
            speed[f"{row['phase']}_fps"] = row["frames_per_second"]
    return speed


def encoding_speed(perceiver: Perceiver, frames: Image, seconds: float) -> dict[str, float]:
    """Frame to belief: frames a second in batches of 64, and the median milliseconds of a lone frame."""
    batch = frames[:64]
    many = timed(lambda: perceiver(batch), seconds)
    lone = timed(lambda: perceiver(frames[:1]), seconds)
    return {
        "encode_fps": len(batch) / float(np.median(many)),
        "encode_ms": 1000.0 * float(np.median(lone)),
        "threads": torch.get_num_threads(),
    }


def timed(call: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call, repeated for about so long, after one to warm up."""
    call()
    each: list[float] = []
    while not each or sum(each) < seconds:
        begin = time.perf_counter()
        call()
        each.append(time.perf_counter() - begin)
    return each


def history(rows: Sequence[dict[str, Any]], order: Sequence[int]) -> dict[str, Picture]:
    """Spring and capacity as (dimension, evaluation) maps, dimensions in the order given."""
    recorded = [
        row for row in rows if len(row.get("spring", ())) == len(row.get("capacity", ())) == len(order)
    ]
    if len(recorded) < 2:
        return {}
    parts: dict[str, NDArray[np.float64]] = {
        name: np.array([[row[name][dim] for row in recorded] for dim in order], np.float64)
        for name in ("spring", "capacity")
    }
    return {
        name: looks.heat_rows(np.sqrt(values), "nats", f"{name} of each dimension over training")
        for name, values in parts.items()
    }


def walk(
    run: Path, perceiver: Perceiver, test: EpisodeStore, train: EpisodeStore, config: HolesConfig
) -> tuple[looks.Blocks, dict[str, Any] | None]:
    """Walks between frames beside the plain autoencoder in `run/ae`, and their realism; none without it."""
    if not (run / "ae" / "config.json").is_file() or perceiver.model.vae.config.deterministic:
        return [], None
    plain = Perceiver.load(run / "ae")
    both = {"VAE": perceiver, "Plain autoencoder": plain}
    strips = looks.walk_rows(both, looks.spread(test, 2 * looks.WALKS))
    return strips, compare_holes(perceiver, plain, test, train, config)
