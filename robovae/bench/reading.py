"""How fast random training batches come out of the episode store, beside the formats users would pick.

The same frames go into every format. Warm: everything is in the page cache, the formats take turns and a
batch is the same for all. Cold: the files are put out of the page cache before each turn, and what is timed
is opening the dataset and the first batches.
"""

import contextlib
import gc
import importlib.util
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.bench.formats import FORMATS, LANCE, PLAIN, STORE, Format, Read, all_frames
from robovae.config import check_least
from robovae.episodes import Episode, EpisodeStore
from robovae.errors import RobovaeError

Case = tuple[Format, Path]
"""A format and where its files are."""
Batches = Iterator[NDArray[np.int64]]
Say = Callable[[str], None]
T = TypeVar("T")

TARGETS = {LANCE: 8.0, PLAIN: 0.5}
"""Frames a second of the store, warm, at least so many times those of the other."""


@dataclass(frozen=True)
class ReadingConfig:
    """What to measure."""

    frames: int = 20_000
    """At most so many frames, whole episodes, are copied into each format."""
    batch: int = 256
    """Frames a batch."""
    rounds: int = 7
    """Turns of each format, warm; the figure is their median."""
    seconds: float = 0.3
    """Length of a warm turn."""
    cold_rounds: int = 3
    """Turns of each format, cold; 0 leaves the cold case out."""
    cold_batches: int = 4
    """Batches of a cold turn."""
    formats: tuple[str, ...] = tuple(form.name for form in FORMATS)
    """Formats to compare."""
    seed: int = 0
    """Of the frame numbers."""

    def __post_init__(self) -> None:
        check_least(self, RobovaeError, seed=0)
        if min(self.frames, self.batch, self.rounds, self.cold_batches) < 1 or self.cold_rounds < 0:
            raise RobovaeError(f"expected at least one frame, round and batch, received {self}; raise them")
        known = [form.name for form in FORMATS]
        if not self.formats or set(self.formats) - set(known):
            raise RobovaeError(f"expected formats of {known}, received {list(self.formats)}; choose of those")


def run(
    source: str | os.PathLike[str] | Callable[[], gym.Env[Any, Any]],
    config: ReadingConfig | None = None,
    workdir: str | os.PathLike[str] | None = None,
    on_event: Say | None = None,
) -> dict[str, Any]:
    """Measure random batches from every format on the same frames.

    Args:
        source: A directory of episodes, or a factory of an environment that shows {"image", "state"}, whose
            frames are then collected with random actions.
        config: What to measure.
        workdir: Where the formats are written, and removed again; by default a temporary directory.
        on_event: Told in a line what is being done.

    Returns:
        JSON-able: "rows" (one a format), "ratios" of the store to the others, "targets", "config", "machine".

    Raises:
        RobovaeError: if the source cannot be read, or a format gives back other frames.
    """
    config, say = config or ReadingConfig(), on_event or (lambda _: None)
    episodes = collect(source, config.frames) if callable(source) else load(Path(source), config.frames)
    frames = all_frames(episodes)
    chosen = [form for form in FORMATS if form.name in config.formats]
    rows: dict[str, dict[str, Any]] = {form.name: {"format": form.name, "note": form.note} for form in chosen}
    with tempfile.TemporaryDirectory(dir=workdir) as folder:
        cases = []
        for form in chosen:
            if form.package is not None and importlib.util.find_spec(form.package) is None:
                rows[form.name]["missing"] = "pip install 'robovae[bench]'"
                continue
            say(f"writing {form.name}")
            cases.append((form, Path(folder) / form.name))
            rows[form.name] |= write(form, episodes, cases[-1][1])
        for figures in (warm(cases, frames, config, say), cold(cases, len(frames), config, say)):
            for name, row in figures.items():
                rows[name] |= row
    return {
        "rows": list(rows.values()),
        "ratios": ratios(rows),
        "targets": TARGETS,
        "config": asdict(config) | {"formats": list(config.formats)},
        "frames": list(frames.shape),
        "episodes": len(episodes),
        "machine": {"cpus": len(os.sched_getaffinity(0)), "python": platform.python_version()},
    }


def ratios(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How many times faster the store is than each other format, warm and cold."""
    own = rows.get(STORE, {})
    result: dict[str, dict[str, float]] = {}
    for name, row in rows.items():
        shared = {"warm_frames_per_s", "cold_frames_per_s"} & own.keys() & row.keys()
        if name != STORE and shared:
            result[name] = {key.split("_")[0]: round(own[key] / row[key], 3) for key in sorted(shared)}
    return result


def load(path: Path, frames: int) -> list[Episode]:
    """The first episodes of a store, about so many frames, at least one episode."""
    store = EpisodeStore(path)
    count = int(np.searchsorted(np.cumsum(store.lengths), frames, side="right"))
    return list(store[: max(count, 1)])


def collect(make_env: Callable[[], gym.Env[Any, Any]], frames: int) -> list[Episode]:
    """Episodes of random actions, about so many frames, at least one episode."""
    env = make_env()
    episodes: list[Episode] = []
    try:
        while not episodes or sum(len(episode.image) for episode in episodes) < frames:
            episodes.append(_rollout(env, len(episodes)))
    finally:
        env.close()
    return episodes


def _rollout(env: gym.Env[Any, Any], seed: int) -> Episode:
    observation, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    seen, actions, rewards, ends = [observation], [], [], [(False, False)]
    while not any(ends[-1]):
        action = env.action_space.sample()
        observation, reward, terminated, truncated, _ = env.step(action)
        seen.append(observation)
        actions.append(np.ravel(action))
        rewards.append(reward)
        ends.append((terminated, truncated))
    return Episode(
        image=np.stack([each["image"] for each in seen]),
        state=np.stack([np.ravel(each["state"]).astype(np.float64) for each in seen]),
        action=np.array(actions, np.float32),
        reward=np.array(rewards, np.float32),
        terminated=np.array(ends, bool)[1:, 0],
        truncated=np.array(ends, bool)[1:, 1],
        meta={"seed": seed, "env_id": env.spec.id if env.spec else type(env.unwrapped).__name__},
    )


def write(form: Format, episodes: Sequence[Episode], path: Path) -> dict[str, Any]:
    """Write the episodes in one format; seconds, the disk included, and bytes."""
    path.mkdir()
    start = time.perf_counter()
    form.write(episodes, path)
    for file in _files(path):
        _with_descriptor(file, os.fsync)
    seconds = time.perf_counter() - start
    return {"write_seconds": round(seconds, 3), "bytes": sum(file.stat().st_size for file in _files(path))}


def warm(
    cases: Sequence[Case], frames: NDArray[np.uint8], config: ReadingConfig, say: Say
) -> dict[str, dict[str, Any]]:
    """Frames a second from the page cache, the formats in turns.

    Raises:
        RobovaeError: if a format gives back other frames than went in.
    """
    rates: dict[str, list[float]] = {form.name: [] for form, _ in cases}
    with contextlib.ExitStack() as stack:
        reads = {form.name: stack.enter_context(form.open(path)) for form, path in cases}
        for name, read in reads.items():
            _touch_all(name, read, frames, config)
        for turn in range(config.rounds):
            say(f"warm, round {turn + 1} of {config.rounds}")
            for name, read in reads.items():
                rates[name].append(_rate(read, _batches(len(frames), config, turn), config))
    return _figures("warm", rates)


def _touch_all(name: str, read: Read, frames: NDArray[np.uint8], config: ReadingConfig) -> None:
    """Compare every frame once, or as many batches as the turns take where a format is slow."""
    end = time.perf_counter() + config.rounds * config.seconds
    for first in range(0, len(frames), config.batch):
        numbers = np.arange(first, min(first + config.batch, len(frames)))
        if not np.array_equal(read(numbers), frames[numbers]):
            raise RobovaeError(f"{name}: expected the frames that were written, received others from {first}")
        if time.perf_counter() > end:
            return


def _rate(read: Read, batches: Batches, config: ReadingConfig) -> float:
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < config.seconds or not count:
        read(next(batches))
        count += config.batch
    return count / elapsed


def cold(cases: Sequence[Case], count: int, config: ReadingConfig, say: Say) -> dict[str, dict[str, Any]]:
    """Frames a second of the first batches after the files left the page cache, opening included."""
    cases = [(form, path) for form, path in cases if not form.in_memory]
    rates: dict[str, list[float]] = {form.name: [] for form, _ in cases}
    left: list[float] = []
    for turn in range(config.cold_rounds):
        say(f"cold, round {turn + 1} of {config.cold_rounds}")
        for form, path in cases:
            gc.collect()  # maps that linger would keep their pages in the cache
            left.append(evict(path))
            rates[form.name].append(_cold_rate(form, path, _batches(count, config, turn), config))
    if left and max(left) > 0.1:
        say(f"the cold figures are not cold: up to {max(left):.0%} of the files stayed in the page cache")
    return _figures("cold", rates)


def _cold_rate(form: Format, path: Path, batches: Batches, config: ReadingConfig) -> float:
    start = time.perf_counter()
    with form.open(path) as read:
        for numbers in itertools.islice(batches, config.cold_batches):
            read(numbers)
    return config.cold_batches * config.batch / (time.perf_counter() - start)


def evict(path: Path) -> float:
    """Put the files of a directory out of the page cache, as far as one may without being root.

    Returns:
        The share of files that are still in it, by their last page; 0 where the system does not say.
    """
    files = _files(path)
    for file in files:
        _with_descriptor(file, lambda descriptor: os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED))
    return sum(_with_descriptor(file, _is_cached) for file in files) / len(files)


def _is_cached(descriptor: int) -> bool:
    last = max(os.fstat(descriptor).st_size - 1, 0)
    try:
        return bool(os.preadv(descriptor, [bytearray(1)], last, os.RWF_NOWAIT))
    except OSError:  # it would have to wait for the disk, or the file system cannot tell
        return False


def _with_descriptor(file: Path, call: Callable[[int], T]) -> T:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return call(descriptor)
    finally:
        os.close(descriptor)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


def _batches(count: int, config: ReadingConfig, turn: int) -> Batches:
    rng = np.random.default_rng([config.seed, turn])
    while True:
        yield rng.integers(count, size=config.batch)


def _figures(kind: str, rates: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            f"{kind}_frames_per_s": round(statistics.median(each)),
            f"{kind}_rounds": list(map(round, each)),
        }
        for name, each in rates.items()
        if each
    }
