"""Dreams of the filter's dynamics beside the futures that came: figures, a chart and filmstrips."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from robovae.dreaming import Comparison, Dreamer, latent_deviation
from robovae.episodes import EpisodeStore
from robovae.episodes.episode import Episode
from robovae.filter import FILE
from robovae.report import charts, looks
from robovae.report.charts import Labels, Series
from robovae.report.pictures import Image, picture, row

BEGIN = 5
"""Frames that are seen before the dream begins."""
MOST_STEPS = 50
FILMS = 3
COLUMNS = 10
"""Frames of a film."""
TOLD = (1, 2, 5, 10, 20, 50)
"""Steps whose errors are written out, besides the last."""

Actions = NDArray[np.float32]
Errors = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Of the dream and of holding the last belief, by step."""


@dataclass(frozen=True)
class Dreams:
    """The section's material."""

    figures: dict[str, Any] | None
    """None where the run has no filter, or no test episode lasts longer than the beginning."""
    chart: Markup = field(default_factory=Markup)
    films: list[looks.Blocks] = field(default_factory=list)
    """In the order of figures["films"]."""


def gather(run: Path, test: EpisodeStore) -> Dreams:
    """Dream on from the beginning of every test episode, with the actions that were taken in it.

    Args:
        run: a run; without a filter in it there is nothing to dream with.
        test: episodes that the model was not trained on.

    Raises:
        NotCalibratedError: the filter is of other weights.
    """
    long = [index for index, frames in enumerate(test.lengths.tolist()) if frames > BEGIN]
    if not (run / FILE).is_file() or not long:
        return Dreams(None)
    dreamer, store = Dreamer.load(run), test.select(long)
    steps = min(MOST_STEPS, int(np.median(store.lengths)) - BEGIN)
    errors, deviation = measure(dreamer, store, steps)
    rows = by_step(errors, deviation)
    chosen = np.unique(np.linspace(0, len(store) - 1, FILMS).round().astype(int)).tolist()
    films = [_film(dreamer, store[index], deviation) for index in _longest(store, chosen, steps)]
    figures = {
        "begin": BEGIN,
        "episodes": len(store),
        "steps": steps,
        "deviation": deviation,
        "by_step": rows,
        "told": [step - 1 for step in sorted({*TOLD, steps}) if step <= steps],
        "ahead": ahead(rows),
        "films": [facts for facts, _ in films],
    }
    return Dreams(figures, chart(rows), [blocks for _, blocks in films])


def measure(dreamer: Dreamer, store: EpisodeStore, steps: int) -> tuple[list[Errors], float]:
    """Latent errors of each episode, as far as it goes and in units of the prior, and their deviation."""
    errors, seen = [], []
    for episode in store:
        frames, taken, recorded = _parted(episode, steps)
        belief = dreamer.perceiver(frames)
        imagined = dreamer.imagine(recorded, (belief[:BEGIN], taken), len(recorded))
        errors.append(imagined.errors(belief.mu[BEGIN:]))
        seen.append(belief.mu)
    return errors, latent_deviation(np.concatenate(seen))


def by_step(errors: Sequence[Errors], deviation: float) -> list[dict[str, Any]]:
    """Quartiles over the episodes that last as long: "step", "episodes", and "dream" and "hold" with each.

    Args:
        errors: of each episode.
        deviation: their unit.
    """
    rows = []
    for step in range(max(len(dreamt) for dreamt, _ in errors)):
        here = [[way[step] / deviation for way in both] for both in errors if step < len(both[0])]
        quartiles = np.quantile(here, (0.25, 0.5, 0.75), axis=0).T.tolist()
        ways = {
            name: dict(zip(("low", "median", "high"), three, strict=True))
            for name, three in zip(("dream", "hold"), quartiles, strict=True)
        }
        rows.append({"step": step + 1, "episodes": len(here), **ways})
    return rows


def ahead(rows: Sequence[dict[str, Any]]) -> int:
    """How many of the steps the dream's median error is below that of holding the last belief."""
    return sum(one["dream"]["median"] < one["hold"]["median"] for one in rows)


def chart(rows: Sequence[dict[str, Any]]) -> Markup:
    """Medians by step, with their quartiles as shades."""
    steps = [one["step"] for one in rows]
    series = []
    for name, key in (("dream", "dream"), ("hold last", "hold")):
        low, median, high = ([one[key][part] for one in rows] for part in ("low", "median", "high"))
        series.append(Series(name, steps, median, (low, high)))
    top = max(one[key]["high"] for one in rows for key in ("dream", "hold"))
    labels = Labels("Latent error of dreams by step, beside holding the last belief", "step", "deviations")
    return Markup(charts.line_chart(series, labels, y_range=(0.0, top)))


def _parted(episode: Episode, steps: int) -> tuple[Image, Actions, Actions]:
    """Frames of the beginning and of at most so many steps after it, actions before its end and after it."""
    frames = np.array(episode.image[: BEGIN + steps])
    actions = np.array(episode.action[: len(frames) - 1])
    return frames, actions[: BEGIN - 1], actions[BEGIN - 1 :]


def _longest(store: EpisodeStore, chosen: Sequence[int], steps: int) -> list[int]:
    """Episodes to show: those chosen if they last, else the longest ones."""
    if all(store.lengths[index] >= BEGIN + steps for index in chosen):
        return list(chosen)
    return sorted(np.argsort(-store.lengths, kind="stable")[: len(chosen)].tolist())


def _film(dreamer: Dreamer, episode: Episode, deviation: float) -> tuple[dict[str, Any], looks.Blocks]:
    frames, taken, recorded = _parted(episode, MOST_STEPS)
    dreamt, real = dreamer.dream(recorded, (frames[:BEGIN], taken), len(recorded)), frames[BEGIN:]
    found = dreamt.compare(real, dreamer.perceiver, deviation)
    columns = min(COLUMNS, max(2, len(real) // 2 * 2))  # even: two blocks stand side by side
    shown = np.unique(np.linspace(0, len(real) - 1, columns).round().astype(np.int64))
    rows = {
        "Came": real[shown],
        "Seen": dreamer.perceiver.decode(dreamer.perceiver(real[shown]).mu),
        "Dreamt": dreamt.frames[shown],
    }
    facts = {"seed": episode.seed, "steps": len(real), **_means(found)}
    return facts, _blocks(rows, shown + 1, episode.seed)


def _means(found: Comparison) -> dict[str, float]:
    """Over the steps: latent errors as they are, those of pixels as roots of the mean, in full scale."""
    latent = {name: float(getattr(found, name).mean()) for name in ("latent", "latent_hold")}
    pixel = {
        name: float(getattr(found, name).mean() ** 0.5) for name in ("pixel", "pixel_seen", "pixel_mean")
    }
    return latent | pixel


def _blocks(rows: dict[str, Image], steps: NDArray[np.int64], seed: int) -> looks.Blocks:
    half = (len(steps) + 1) // 2
    notes = {
        "Came": "the camera's frames",
        "Seen": "decoded from what each of them says",
        "Dreamt": "decoded from the dream",
    }
    blocks = []
    for part in (slice(0, half), slice(half, len(steps))):
        if some := steps[part].tolist():
            when = f"step {some[0]}" if len(some) == 1 else f"steps {', '.join(map(str, some))}"
            blocks.append(
                [
                    looks.Strip(
                        name,
                        f"{notes[name]}, {when}" if name == "Came" else notes[name],
                        picture(row(images[part]), f"{name}, episode {seed}, {when}"),
                    )
                    for name, images in rows.items()
                ]
            )
    return blocks
