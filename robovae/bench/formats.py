"""Ways to keep the same episodes on a disk and read random frames back, each as its own users would."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robovae.episodes import Episode, EpisodeStore, pack, write_episode

Read = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Frame numbers (B,) -> frames (B, H, W, 3), a new array."""


@dataclass(frozen=True)
class Format:
    """One way to store frames."""

    name: str
    write: Callable[[Sequence[Episode], Path], None]
    """Write episodes into an empty directory."""
    open: Callable[[Path], AbstractContextManager[Read]]
    """Open what `write` wrote, for reading."""
    package: str | None = None
    """Module that must be installed."""
    note: str = ""
    in_memory: bool = False
    """Reads no files once it is open, so that it has no cold case."""


def all_frames(episodes: Sequence[Episode]) -> NDArray[np.uint8]:
    """The frames of all episodes in one array (N, H, W, 3)."""
    return np.concatenate([episode.image for episode in episodes])


def write_array(episodes: Sequence[Episode], path: Path) -> None:
    """One .npy file of all frames."""
    np.save(path / "frames.npy", all_frames(episodes))


@contextmanager
def open_array(path: Path) -> Iterator[Read]:
    """The whole file in memory, indexed by numpy."""
    frames = np.load(path / "frames.npy")
    yield lambda numbers: frames[numbers]


@contextmanager
def open_memmap(path: Path) -> Iterator[Read]:
    """The file mapped, indexed by numpy."""
    frames = np.load(path / "frames.npy", mmap_mode="r")
    yield lambda numbers: np.asarray(frames[numbers])


def write_store(episodes: Sequence[Episode], path: Path) -> None:
    """Our episode store, one file an episode."""
    for episode in episodes:
        write_episode(path, episode)


def write_packed(episodes: Sequence[Episode], path: Path) -> None:
    """Our episode store, packed into shards."""
    write_store(episodes, path / "episodes")
    pack(path / "episodes", path / "shards")


@contextmanager
def open_store(path: Path) -> Iterator[Read]:
    """Our episode store."""
    yield EpisodeStore(path).frames


@contextmanager
def open_packed(path: Path) -> Iterator[Read]:
    """Our episode store, packed."""
    yield EpisodeStore(path / "shards").frames


def write_lance(episodes: Sequence[Episode], path: Path) -> None:
    """A Lance dataset of one fixed-size binary column, the fastest of its layouts to take from."""
    import lance
    import pyarrow as pa

    frames = all_frames(episodes)
    size = frames[0].size
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(frames), [None, pa.py_buffer(frames)])
    lance.write_dataset(pa.table({"image": column}), str(path / "frames.lance"))
    (path / "shape.json").write_text(json.dumps(frames.shape[1:]))


@contextmanager
def open_lance(path: Path) -> Iterator[Read]:
    """Lance's random access, `take`."""
    import lance

    dataset = lance.dataset(str(path / "frames.lance"))
    shape = json.loads((path / "shape.json").read_text())

    def read(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        column = dataset.take(numbers, columns=["image"]).column("image").combine_chunks()
        start = column.offset * int(np.prod(shape))
        return np.frombuffer(column.buffers()[1], np.uint8, offset=start).reshape(-1, *shape)

    yield read


def write_hdf5(episodes: Sequence[Episode], path: Path) -> None:
    """One HDF5 dataset, a frame a chunk, not compressed."""
    import h5py

    frames = all_frames(episodes)
    with h5py.File(path / "frames.h5", "w") as file:
        file.create_dataset("image", data=frames, chunks=(1, *frames.shape[1:]))


@contextmanager
def open_hdf5(path: Path) -> Iterator[Read]:
    """Frame after frame: h5py's list indexing is tens of times slower."""
    import h5py

    with h5py.File(path / "frames.h5", "r") as file:
        frames = file["image"]
        yield lambda numbers: np.stack([frames[number] for number in numbers])


def write_minari(episodes: Sequence[Episode], path: Path) -> None:
    """A Minari dataset in HDF5, its JPEG encoding switched off."""
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    frame = Box(0, 255, episodes[0].image.shape[1:], np.uint8)
    action = Box(-np.inf, np.inf, episodes[0].action.shape[1:], np.float32)
    storage = MinariStorage.new(path / "data", frame, action, data_format="hdf5", jpeg_encoding=False)
    for number, episode in enumerate(episodes):
        buffer = EpisodeBuffer(
            id=number,
            observations=list(episode.image),
            actions=list(episode.action),
            rewards=episode.reward.tolist(),
            terminations=episode.terminated.tolist(),
            truncations=episode.truncated.tolist(),
        )
        storage.update_episodes([buffer])
    starts = np.cumsum([0] + [len(episode.image) for episode in episodes])
    (path / "starts.json").write_text(json.dumps(starts.tolist()))


@contextmanager
def open_minari(path: Path) -> Iterator[Read]:
    """Whole episodes, the only unit Minari reads; each episode of a batch once."""
    from minari.dataset.minari_storage import MinariStorage

    storage = MinariStorage.read(path / "data")
    starts = np.array(json.loads((path / "starts.json").read_text()))

    def read(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        episodes = np.searchsorted(starts, numbers, side="right") - 1
        out = np.empty((len(numbers), *storage.observation_space.shape), np.uint8)
        unique = np.unique(episodes)
        for episode, data in zip(unique, storage.get_episodes(unique.tolist()), strict=True):
            rows = np.flatnonzero(episodes == episode)
            out[rows] = data["observations"][numbers[rows] - starts[episode]]
        return out

    yield read


STORE, PLAIN, LANCE = "robovae episodes", "array in memory", "Lance take"
FORMATS = (
    Format(PLAIN, write_array, open_array, in_memory=True),
    Format(STORE, write_store, open_store),
    Format("robovae shards", write_packed, open_packed, note="bytes include the episodes packed"),
    Format("npy memmap", write_array, open_memmap),
    Format(LANCE, write_lance, open_lance, "lance", "fixed-size binary column"),
    Format("HDF5", write_hdf5, open_hdf5, "h5py", "a frame a chunk"),
    Format("Minari", write_minari, open_minari, "minari", "HDF5 without JPEG; reads whole episodes"),
)
