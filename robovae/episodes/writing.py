"""Write episode files so that nothing half-written is ever seen, whenever the process or the power goes."""

import contextlib
import os
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from robovae.episodes.episode import Episode, EpisodeError, dtype_code
from robovae.episodes.layout import content_digest, dtype_of, encode_header, meta_text
from robovae.episodes.loading import SUFFIX
from robovae.records import sync

Whole = tuple[Mapping[str, tuple[str, str]], Mapping[str, NDArray[Any]]]
"""What goes into one file: {array name prefix: (metadata text, digest)}, and arrays by prefix + name."""
_ASIDE = re.compile(r"\.(?:episode|shard)-.*\.safetensors\.(?P<host>[^/]*)\.(?P<pid>\d+)\.tmp")


def write_episode(directory: str | os.PathLike[str], episode: Episode) -> Path:
    """Write one episode as `episode-<seed>.safetensors`, replacing an earlier one of that seed.

    The file appears under its name only when it is whole and on the disk.

    Returns:
        The path of the file.

    Raises:
        EpisodeError: if the directory or the disk does not take it; nothing is left behind.
    """
    return write_episodes(directory, [episode])[0]


def write_episodes(directory: str | os.PathLike[str], episodes: Sequence[Episode]) -> list[Path]:
    """Write several episodes as `write_episode`, for less: they share the waits for the disk.

    Raises:
        EpisodeError: as `write_episode`; episodes before the one that failed may be there, whole.
    """
    wholes: dict[Path, Whole] = {}
    for episode in episodes:
        arrays = {name: _plain(array) for name, array in episode.arrays().items()}
        text = meta_text(episode.meta)
        path = Path(directory) / f"episode-{episode.seed:08d}{SUFFIX}"
        wholes[path] = {"": (text, content_digest(text, arrays))}, arrays
    _write_all(wholes)
    return list(wholes)


def write_whole(
    path: Path, episodes: Mapping[str, tuple[str, str]], arrays: Mapping[str, NDArray[Any]]
) -> Path:
    """Write a file aside, bring it to the disk and rename it.

    Args:
        path: Final name; its directory is made if need be.
        episodes: {array name prefix: (metadata text, digest)}.
        arrays: C-contiguous little-endian arrays by prefix + name.

    Raises:
        EpisodeError: if the file cannot be written.
    """
    _write_all({path: (episodes, arrays)})
    return path


def _write_all(wholes: Mapping[Path, Whole]) -> None:
    asides = {
        path: path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp") for path in wholes
    }
    try:
        with contextlib.ExitStack() as stack:
            files = []
            for path, (episodes, arrays) in wholes.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                files.append(stack.enter_context(asides[path].open("wb")))
                _write_contents(files[-1], *encode_header(episodes, arrays), arrays)
            for file in files:
                os.fsync(file.fileno())
        for path, aside in asides.items():
            aside.rename(path)
        for directory in {path.parent for path in asides}:
            sync(directory)
    except OSError as error:
        raise EpisodeError(
            f"{path}: cannot be written: {error.strerror}; free space or choose another directory"
        ) from error
    finally:
        for aside in asides.values():
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)


def _write_contents(
    file: BinaryIO, header: bytes, order: Sequence[str], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write one file, and have the disk begin: then the first fsync of several waits for all of them."""
    file.write(header)
    for name in order:
        file.write(arrays[name].data if arrays[name].size else b"")
    file.flush()
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def remove_stale(directory: str | os.PathLike[str]) -> list[Path]:
    """Remove what killed writers of this machine left in a directory.

    Files of living processes and of other machines stay.

    Returns:
        The files removed.
    """
    stale = [path for path in sorted(Path(directory).glob(".*.tmp")) if _is_stale(path.name)]
    for path in stale:
        path.unlink(missing_ok=True)
    return stale


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, dtype=dtype_of(dtype_code(array.dtype)))


def _is_stale(name: str) -> bool:
    match = _ASIDE.fullmatch(name)
    if not match or match["host"] != socket.gethostname():
        return False
    try:
        os.kill(int(match["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
