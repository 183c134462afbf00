"""The bytes of an episode file: a safetensors header that carries metadata and digests, strictly checked.

The header's `__metadata__` holds one JSON string. `header_sha256` in it covers the header with that digest
itself as zeros, and each episode's `sha256` covers its metadata and its arrays; the arrays fill the rest of
the file without a gap. So every byte of a file is under a digest, and a damaged header is found on opening.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from robovae.episodes.episode import ARRAYS, Episode, EpisodeError, check_meta, check_signature, dtype_code

FORMAT = "robovae-episodes"
VERSION = 1
_PREFIX = b'{"__metadata__":{"robovae":"{\\"header_sha256\\":\\"'
_ZEROS = b"0" * 64
_MAX_HEADER = 100_000_000  # the limit of the safetensors library
_CODES = {"BOOL": "bool"} | {
    f"{kind}{8 * size}": f"{kind.lower()}{size}" for kind in "UI" for size in (1, 2, 4, 8)
}
_CODES |= {f"F{8 * size}": f"f{size}" for size in (2, 4, 8)}
_NAMES = {code: name for name, code in _CODES.items()}
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class Span:
    """Where one array lies in a file: dtype code, shape, and the first byte counted from the file's start."""

    code: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * dtype_of(self.code).itemsize


@dataclass(frozen=True, slots=True)
class Record:
    """One episode inside a file: metadata as JSON text, digest, and where its arrays are."""

    path: Path
    file_size: int
    seed: int
    steps: int
    meta_json: str
    sha256: str
    spans: Mapping[str, Span]

    @property
    def meta(self) -> dict[str, Any]:
        """A fresh copy of the metadata."""
        meta: dict[str, Any] = json.loads(self.meta_json)
        return meta

    @property
    def nbytes(self) -> int:
        """Bytes of the episode's arrays."""
        return sum(span.nbytes for span in self.spans.values())

    def views(self, buffer: memoryview) -> dict[str, NDArray[Any]]:
        """Read-only arrays on the file's bytes, nothing copied."""
        return {
            name: np.ndarray(span.shape, dtype_of(span.code), buffer, span.offset)
            for name, span in self.spans.items()
        }

    def is_whole(self, buffer: memoryview) -> bool:
        """Whether metadata and bytes, in the buffer of its file, match the digest; reads all of them."""
        return content_digest(self.meta_json, self.views(buffer)) == self.sha256

    def episode(self, buffer: memoryview) -> Episode:
        """The episode as views on the file's bytes."""
        arrays = self.views(buffer)
        core = {name: arrays.pop(name) for name in ARRAYS}
        return Episode(**core, extra=arrays, meta=self.meta)


def dtype_of(code: str) -> np.dtype[Any]:
    """The little-endian dtype of a code."""
    return np.dtype(np.bool_) if code == "bool" else np.dtype(f"<{code}")


def meta_text(meta: Mapping[str, Any]) -> str:
    """Metadata as canonical JSON text.

    Raises:
        EpisodeError: if a value cannot be written as JSON.
    """
    try:
        plain = json.loads(json.dumps(dict(meta), allow_nan=False))  # keys become text before they are sorted
        return json.dumps(plain, sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise EpisodeError(
            f"meta: expected only what JSON can hold, received: {error}; convert it"
        ) from error


def content_digest(meta_json: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over an episode's metadata and the names, dtypes, shapes and bytes of its arrays."""
    digest = hashlib.sha256(meta_json.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {dtype_code(array.dtype)} {array.shape}\n".encode())
        if array.size:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def encode_header(
    episodes: Mapping[str, tuple[str, str]], arrays: Mapping[str, NDArray[Any]]
) -> tuple[bytes, list[str]]:
    """The bytes that come before the arrays, and the order in which these follow.

    The order is that of the safetensors library, wide dtypes first. Spaces after the header, which the format
    allows, bring the images to the start of a page: batches are copied an eighth faster from there.

    Args:
        episodes: {array name prefix: (metadata text, digest)}.
        arrays: Arrays by prefix + name.
    """
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, not name.endswith("image"), name))
    rows = ",".join(
        f'{{"prefix":{json.dumps(prefix)},"sha256":"{sha256}","meta":{text}}}'
        for prefix, (text, sha256) in episodes.items()
    )
    about = (
        f'{{"header_sha256":"{_ZEROS.decode()}","format":"{FORMAT}","version":{VERSION},"episodes":[{rows}]}}'
    )
    tensors: dict[str, Any] = {"__metadata__": {"robovae": about}}
    end = 0
    for name in order:
        begin, end = end, end + arrays[name].nbytes
        code = _NAMES[dtype_code(arrays[name].dtype)]
        tensors[name] = {"dtype": code, "shape": list(arrays[name].shape), "data_offsets": [begin, end]}
    wide = sum(array.nbytes for array in arrays.values() if array.itemsize > 1)
    text = json.dumps(tensors, separators=(",", ":")).encode()
    fill = -(8 + len(text) + wide) % _PAGE
    fill += -(8 + len(text) + fill) % 8  # the wide arrays stay aligned, if the images then miss a little
    return sealed(text + b" " * fill), order


def sealed(header: bytes) -> bytes:
    """A header with its length before it and its digest put in."""
    at = len(_PREFIX)
    digest = _header_digest(header).encode()
    return struct.pack("<Q", len(header)) + header[:at] + digest + header[at + 64 :]


def read_records(path: Path) -> list[Record]:
    """Read and check the header of an episode file or a shard.

    Returns:
        Its episodes, in the order of the file.

    Raises:
        EpisodeError: if the file cannot be read, is cut short, or its header is not as written.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            header = _read_header(file, size)
        return _parse(path, size, header)
    except OSError as error:
        raise EpisodeError(
            f"{path}: cannot be read: {error.strerror}; check the path and its permissions"
        ) from error
    except EpisodeError as error:
        raise EpisodeError(
            f"{path}: {error}; restore the file, or remove it and collect its seed again"
        ) from error


def _read_header(file: BinaryIO, size: int) -> bytes:
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not len(_PREFIX) < length <= _MAX_HEADER:
        raise EpisodeError(f"expected an episode file, received a header of {length} bytes")
    if 8 + length > size:
        raise EpisodeError(f"cut short: expected at least {8 + length} bytes, received {size}")
    return file.read(length)


def _header_digest(header: bytes) -> str:
    if not header.startswith(_PREFIX):
        raise EpisodeError("expected the header of an episode file, received another one")
    at = len(_PREFIX)
    digest = hashlib.sha256(struct.pack("<Q", len(header)))
    digest.update(header[:at] + _ZEROS + header[at + 64 :])
    return digest.hexdigest()


def _parse(path: Path, size: int, header: bytes) -> list[Record]:
    expected = _header_digest(header).encode()
    if header[len(_PREFIX) : len(_PREFIX) + 64] != expected:
        raise EpisodeError("damaged: the header does not match its digest")
    try:
        tensors = json.loads(header)
        about = json.loads(tensors.pop("__metadata__")["robovae"])
        _check_version(about)
        spans = _spans(tensors, 8 + len(header), size)
        return _records(path, size, about["episodes"], spans)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EpisodeError(f"expected a header of format version {VERSION}, received: {error!r}") from error


def _check_version(about: Mapping[str, Any]) -> None:
    received = about["format"], about["version"]
    if received != (FORMAT, VERSION):
        raise EpisodeError(
            f"expected format {FORMAT} version {VERSION}, received {received[0]} version {received[1]}"
        )


def _spans(tensors: Mapping[str, Any], start: int, size: int) -> dict[str, Span]:
    spans, end = {}, start
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        if tensor["dtype"] not in _CODES:
            raise EpisodeError(f"{name}: expected a bool, integer or float dtype, received {tensor['dtype']}")
        span = Span(_CODES[tensor["dtype"]], _shape(tensor["shape"]), end)
        if tensor["data_offsets"] != [end - start, end - start + span.nbytes]:
            raise EpisodeError(
                f"{name}: expected {span.nbytes} bytes at {end}, received {tensor['data_offsets']}"
            )
        spans[name] = span
        end += span.nbytes
    if end != size:
        raise EpisodeError(
            f"{'cut short' if size < end else 'too long'}: expected {end} bytes, received {size}"
        )
    return spans


def _shape(shape: list[int]) -> tuple[int, ...]:
    if not all(type(n) is int and n >= 0 for n in shape):
        raise EpisodeError(f"expected a shape of whole numbers, received {shape}")
    return tuple(shape)


def _records(path: Path, size: int, rows: list[Any], spans: dict[str, Span]) -> list[Record]:
    owned: dict[str, dict[str, Span]] = {row["prefix"]: {} for row in rows}
    for name, span in spans.items():
        prefix, slash, last = name.rpartition("/")
        owned[prefix + slash][last] = span
    records = []
    for row in rows:
        mine = owned[row["prefix"]]
        steps = check_signature({name: (span.code, span.shape) for name, span in mine.items()})
        check_meta(row["meta"])
        seed = row["meta"]["seed"]
        records.append(Record(path, size, seed, steps, meta_text(row["meta"]), str(row["sha256"]), mine))
    return records
