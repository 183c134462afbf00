"""The episode store: lossless, sealed, never half-written, fast to read, split by seed."""

import errno
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open

from robovae import episodes as eps
from robovae.episodes import Episode, EpisodeError, EpisodeStore, layout, pack, verify, write_episode
from robovae.episodes.episode import ARRAYS
from robovae.errors import RobovaeError

TESTS = Path(__file__).parent
ROOT = TESTS.parent


def make_episode(seed: int, steps: int = 6, height: int = 8, width: int = 10, **meta: Any) -> Episode:
    """An episode of noise whose first pixel of frame t says (seed, t)."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (steps + 1, height, width, 3), dtype=np.uint8)
    image[:, 0, 0, 0] = seed % 256
    image[:, 0, 0, 1] = np.arange(steps + 1) % 256
    return Episode(
        image=image,
        state=rng.normal(size=(steps + 1, 4)),
        action=rng.normal(size=(steps, 2)).astype(np.float32),
        reward=rng.normal(size=steps).astype(np.float32),
        terminated=np.zeros(steps, bool),
        truncated=np.arange(steps) == steps - 1,
        extra={"qpos": rng.normal(size=(steps + 1, 3))},
        meta={"seed": seed, "env_id": "Toy-v0", "render_spec": {"height": height}, "policy": "random"} | meta,
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def core_arrays(episode: Episode) -> dict[str, np.ndarray]:
    return {name: getattr(episode, name) for name in ARRAYS}


def assert_same(left: Episode, right: Episode) -> None:
    assert left.meta == right.meta
    assert left.arrays().keys() == right.arrays().keys()
    for name, array in left.arrays().items():
        other = right.arrays()[name]
        assert (other.dtype, other.shape) == (array.dtype, array.shape), name
        assert other.tobytes() == array.tobytes(), name


@contextmanager
def directory() -> Iterator[Path]:
    """A fresh directory inside of a hypothesis example, where tmp_path would be shared."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for seed in (5, 2, 9, 10_003, 20_001, 100_000):
        write_episode(tmp_path / "data", make_episode(seed, steps=3 + seed % 7))
    return tmp_path / "data"


@st.composite
def any_episode(draw: st.DrawFn) -> Episode:
    """Any shapes, dtypes and lengths, NaN and infinity included."""
    steps = draw(st.integers(1, 5))
    rows = st.sampled_from([steps, steps + 1])

    def array(dtype: Any, *shape: int) -> np.ndarray:
        return draw(hnp.arrays(dtype, shape))

    extra = {}
    for name in draw(
        st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), max_size=3, unique=True)
    ):
        dtype = draw(
            st.sampled_from([bool, *["u1", "i1", "<u2", ">i2", "u4", "i4", "u8", "i8", "f2", "f4", ">f8"]])
        )
        extra[name] = array(dtype, draw(rows), *draw(st.lists(st.integers(0, 3), max_size=2)))
    extra = {name: value for name, value in extra.items() if name not in ARRAYS}
    height, width, wide, actions = (draw(st.integers(low, 4)) for low in (1, 1, 0, 0))
    finite = st.floats(allow_nan=False, allow_infinity=False)
    json_value = st.recursive(
        st.none() | st.booleans() | st.integers() | finite | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )
    meta = draw(st.dictionaries(st.text(), json_value, max_size=3))
    return Episode(
        image=array(np.uint8, steps + 1, height, width, 3),
        state=array(draw(st.sampled_from(["f4", "f8"])), steps + 1, wide),
        action=array("f4", steps, actions),
        reward=array("f4", steps),
        terminated=array(bool, steps),
        truncated=array(bool, steps),
        extra=extra,
        meta=meta | {"seed": draw(st.integers(0, 10**9)), "env_id": "Any-v0"},
    )


class TestRoundTrip:
    @settings(max_examples=60)
    @given(any_episode())
    def test_any_episode_comes_back_bit_for_bit(self, episode: Episode) -> None:
        with directory() as folder:
            write_episode(folder, episode)
            back = EpisodeStore(folder)[0]
            little = {
                name: array.astype(array.dtype.newbyteorder("<")) for name, array in episode.arrays().items()
            }
            assert back.meta == episode.meta
            assert {name: array.tobytes() for name, array in back.arrays().items()} == {
                name: array.tobytes() for name, array in little.items()
            }
            assert back.signature() == episode.signature()
            damage = [problem for problem in verify(folder) if "expected finite" not in problem.what]
            assert damage == []

    def test_file_name_carries_the_seed_and_replaces_the_earlier_one(self, tmp_path: Path) -> None:
        first = write_episode(tmp_path, make_episode(7, steps=2))
        second = write_episode(tmp_path, make_episode(7, steps=4))
        assert first == second == tmp_path / "episode-00000007.safetensors"
        assert len(EpisodeStore(tmp_path)[0]) == 4
        assert names(tmp_path) == [first.name]

    def test_the_safetensors_library_reads_the_file(self, tmp_path: Path) -> None:
        episode = make_episode(1)
        with safe_open(write_episode(tmp_path, episode), "np") as file:
            about = json.loads(file.metadata()["robovae"])
            assert np.array_equal(file.get_tensor("image"), episode.image)
        assert about["episodes"][0]["meta"] == episode.meta
        assert (about["format"], about["version"]) == ("robovae-episodes", 1)

    def test_images_start_at_a_page_and_all_arrays_are_aligned(self, tmp_path: Path) -> None:
        write_episode(tmp_path / "data", make_episode(3, steps=4))
        write_episode(tmp_path / "data", make_episode(4, steps=5))
        pack(tmp_path / "data", tmp_path / "out")
        for record in [*EpisodeStore(tmp_path / "data").records, EpisodeStore(tmp_path / "out").records[0]]:
            assert record.spans["image"].offset % 4096 < 8
        for episode in [*EpisodeStore(tmp_path / "data"), *EpisodeStore(tmp_path / "out")]:
            assert all(array.flags.aligned for array in episode.arrays().values())

    def test_same_episode_gives_same_bytes(self, tmp_path: Path) -> None:
        paths = [write_episode(tmp_path / name, make_episode(3)) for name in "ab"]
        assert paths[0].read_bytes() == paths[1].read_bytes()

    def test_strided_and_big_endian_arrays_are_written_by_value(self, tmp_path: Path) -> None:
        episode = make_episode(1)
        flipped = Episode(
            **core_arrays(episode) | {"image": episode.image[:, ::-1], "state": episode.state.astype(">f8")},
            meta=episode.meta,
        )
        write_episode(tmp_path, flipped)
        back = EpisodeStore(tmp_path)[0]
        assert np.array_equal(back.image, episode.image[:, ::-1])
        assert np.array_equal(back.state, episode.state)

    def test_views_are_read_only_and_outlive_the_store(self, dataset: Path) -> None:
        episode = EpisodeStore(dataset)[0]
        with pytest.raises(ValueError, match="read-only"):
            episode.image[0] = 0
        assert not episode.image.flags.owndata
        assert_same(episode, make_episode(2, steps=5))

    def test_importing_the_store_does_not_import_torch(self) -> None:
        code = "import sys, robovae.episodes; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


class TestEpisodeChecks:
    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("image", lambda a: a.astype(np.float32), "image: expected dtype u1, received f4"),
            ("image", lambda a: a.transpose(0, 3, 1, 2), r"image: expected \(T\+1, H, W, 3\)"),
            ("image", lambda a: a[..., :1], r"image: expected \(T\+1, H, W, 3\)"),
            ("image", lambda a: a[:1], "with T >= 1"),
            ("image", lambda a: a[0], "image: expected 4 dimensions"),
            ("state", lambda a: a[:-1], "state: expected length 7 beside 6 steps"),
            ("action", lambda a: a.astype(np.float64), "action: expected dtype f4, received f8"),
            ("action", lambda a: a[:-1], "action: expected length 6"),
            ("reward", lambda a: a[:, None], "reward: expected 1 dimensions"),
            ("terminated", lambda a: a.astype(np.uint8), "terminated: expected dtype bool"),
        ],
    )
    def test_wrong_arrays_are_refused(self, name: str, change: Any, message: str) -> None:
        episode = make_episode(0)
        core = core_arrays(episode)
        with pytest.raises(EpisodeError, match=message):
            Episode(**core | {name: change(core[name])}, meta=episode.meta)

    @pytest.mark.parametrize(
        ("meta", "message"),
        [
            ({"seed": -1}, "integer 'seed' >= 0, received -1"),
            ({"seed": True}, "integer 'seed'"),
            ({"seed": None}, "integer 'seed'"),
            ({"env_id": ""}, "'env_id'"),
        ],
    )
    def test_wrong_meta_is_refused(self, meta: dict[str, Any], message: str) -> None:
        with pytest.raises(EpisodeError, match=message):
            Episode(**core_arrays(make_episode(0)), meta={"seed": 0, "env_id": "Toy-v0"} | meta)

    def test_extra_arrays_are_checked(self) -> None:
        episode = make_episode(0)
        core = core_arrays(episode)
        for extra, message in [
            ({"qpos": np.zeros((3, 2))}, "qpos: expected length 6 or 7"),
            ({"a/b": np.zeros(6)}, "letters, digits and _"),
            ({"when": np.zeros(6, "M8[s]")}, "expected a bool, integer or float"),
            ({"image": np.zeros(6)}, "names other than the episode's own"),
        ]:
            with pytest.raises(EpisodeError, match=message):
                Episode(**core, extra=extra, meta=episode.meta)

    def test_meta_that_json_cannot_hold_is_refused(self, tmp_path: Path) -> None:
        for value in (np.zeros(2), float("nan"), {1, 2}):
            with pytest.raises(EpisodeError, match="only what JSON can hold"):
                write_episode(tmp_path, make_episode(0, note=value))
        assert list(tmp_path.iterdir()) == []

    def test_meta_with_number_keys_keeps_its_digest(self, tmp_path: Path) -> None:
        write_episode(tmp_path, make_episode(0, order={10: "a", 2: "b"}))
        assert verify(tmp_path) == []

    def test_nonfinite_numbers_are_found(self) -> None:
        episode = make_episode(0)
        assert eps.find_nonfinite(episode) is None
        episode.reward[3] = np.nan
        assert eps.find_nonfinite(episode) == "reward at step 3"
        episode.state[2, 1] = np.inf
        assert eps.find_nonfinite(episode) == "state at frame 2"


class TestDamage:
    @settings(max_examples=150)
    @given(st.data())
    def test_any_flipped_bit_is_found(self, data: st.DataObject) -> None:
        with directory() as folder:
            path = write_episode(folder, make_episode(1, steps=2, height=2, width=2))
            whole = path.read_bytes()
            # the header is where a flip could be harmless to a parser: aim at it half of the time
            last = data.draw(st.sampled_from([layout_start(whole), len(whole)])) - 1
            at, bit = data.draw(st.integers(0, last)), data.draw(st.integers(0, 7))
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            assert [problem.path for problem in verify(folder)] == [path]
            path.write_bytes(whole)
            assert verify(folder) == []

    def test_every_byte_of_a_small_shard_is_covered(self, tmp_path: Path) -> None:
        for seed in range(2):
            write_episode(tmp_path / "data", make_episode(seed, steps=1, height=1, width=1))
        (path,) = pack(tmp_path / "data", tmp_path / "out")
        whole = bytearray(path.read_bytes())
        assert verify(path) == []
        for at in range(0, len(whole), 3):
            whole[at] ^= 0x20
            path.write_bytes(whole)
            assert verify(path), f"byte {at}"
            whole[at] ^= 0x20

    @settings(max_examples=60)
    @given(st.data())
    def test_any_truncation_is_found_on_opening(self, data: st.DataObject) -> None:
        with directory() as folder:
            path = write_episode(folder, make_episode(1, steps=2, height=2, width=2))
            whole = path.read_bytes()
            path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
            with pytest.raises(EpisodeError, match=path.name):
                EpisodeStore(folder)
            assert [problem.path for problem in verify(folder)] == [path]

    def test_damaged_episode_is_named_or_skipped_aloud(self, dataset: Path) -> None:
        path = dataset / "episode-00000005.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(EpisodeError, match=r"episode-00000005.*cut short: expected \d+ bytes"):
            EpisodeStore(dataset)
        with pytest.warns(RuntimeWarning, match="skipped .*episode-00000005"):
            store = EpisodeStore(dataset, skip_damaged=True)
        told: list[RobovaeError] = []
        assert EpisodeStore(dataset, skip_damaged=True, on_skip=told.append).seeds == store.seeds
        assert 5 not in store.seeds
        assert len(told) == 1

    def test_appended_bytes_are_found(self, dataset: Path) -> None:
        path = dataset / "episode-00000005.safetensors"
        path.write_bytes(path.read_bytes() + b"\0")
        with pytest.raises(EpisodeError, match="too long"):
            EpisodeStore(dataset)

    def test_a_file_that_shrinks_under_an_open_store_is_refused(self, dataset: Path) -> None:
        store = EpisodeStore(dataset)
        path = store.records[0].path
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(EpisodeError, match="changed since it was opened"):
            store.frames([0])

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (b'\\"version\\":1', b'\\"version\\":2', "version 1, received robovae-episodes version 2"),
            (b'"dtype":"U8"', b'"dtype":"I8"', "image: expected dtype u1, received i1"),
            (b'"dtype":"U8"', b'"dtype":"Q8"', "received Q8"),
            (b'"shape":[7,8,10,3]', b'"shape":[7,8,3,10]', r"image: expected \(T\+1, H, W, 3\)"),
            (b'"shape":[7,8,10,3]', b'"shape":[7,8,11,3]', "image: expected 1848 bytes"),
            (b'"shape":[7,8,10,3]', b'"shape":[7,8,-9,3]', "shape of whole numbers"),
            (b'\\"seed\\":1', b'\\"sead\\":1', "integer 'seed'"),
            (b'"reward"', b'"reword"', "expected an array 'reward'"),
            (b'"episodes\\"', b'"episades\\"', "KeyError"),
        ],
    )
    def test_forged_headers_with_a_true_digest_are_refused(
        self, tmp_path: Path, old: bytes, new: bytes, message: str
    ) -> None:
        path = write_episode(tmp_path, make_episode(1))
        whole = path.read_bytes()
        assert old in whole
        path.write_bytes(whole.replace(old, new, 1))
        with pytest.raises(EpisodeError, match="does not match its digest"):
            EpisodeStore(tmp_path)
        start = layout_start(whole)
        forged = path.read_bytes()
        path.write_bytes(layout.sealed(forged[8:start]) + forged[start:])
        with pytest.raises(EpisodeError, match=message):
            EpisodeStore(tmp_path)

    def test_other_files_are_not_episodes(self, tmp_path: Path) -> None:
        for content in (b"", b"short", b"\xff" * 4096, b"\x80\x02}q\x00." * 99):
            (tmp_path / "episode-00000001.safetensors").write_bytes(content)
            with pytest.raises(EpisodeError, match="expected an episode file"):
                EpisodeStore(tmp_path)

    def test_verify_names_what_and_where(self, dataset: Path) -> None:
        flip(dataset / "episode-00000005.safetensors", -1)
        broken = make_episode(9, steps=4)
        broken.reward[1] = np.inf
        write_episode(dataset, broken)
        write_episode(dataset, make_episode(11, height=4))
        seen: list[tuple[int, int]] = []
        problems = verify(dataset, lambda done, total, path: seen.append((done, total)))
        assert [str(problem).removeprefix(f"{dataset}/") for problem in problems[:2]] == [
            "episode-00000005.safetensors: damaged: the bytes of seed 5 do not match their digest",
            "episode-00000009.safetensors: seed 9: expected finite numbers, received reward at step 1",
        ]
        assert "differ in frame shape" in problems[2].what
        assert len(problems) == 3
        assert seen == [(done, 7) for done in range(1, 8)]


def layout_start(whole: bytes) -> int:
    """Where the arrays start."""
    return 8 + int.from_bytes(whole[:8], "little")


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


WRITER = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from test_episodes import make_episode
from robovae.episodes import write_episode
for seed in range({first}, 10_000):
    write_episode({out!r}, make_episode(seed, steps=40, height=64, width=64))
    print(seed, flush=True)
"""


class TestWriting:
    def test_sigkill_loses_nothing_finished(self, tmp_path: Path) -> None:
        rng = random.Random(0)
        finished: list[int] = []
        for _ in range(4):
            first = max(finished, default=-1) + 1
            code = WRITER.format(root=str(ROOT), tests=str(TESTS), first=first, out=str(tmp_path))
            with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                finished.append(int(process.stdout.readline()))
                signal_after(process, rng.uniform(0, 0.05))
                finished += [int(line) for line in process.stdout]
        store = EpisodeStore(tmp_path)
        assert set(finished) <= set(store.seeds)
        assert len(store) - len(finished) <= 4  # renamed, and killed before it could say so
        assert verify(tmp_path) == []
        eps.remove_stale(tmp_path)
        assert list(tmp_path.glob(".*.tmp")) == []

    def test_stale_files_of_dead_writers_only_are_removed(self, dataset: Path) -> None:
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        host = os.uname().nodename
        dead, living, other = (
            dataset / f".episode-00000001.safetensors.{where}.tmp"
            for where in (f"{host}.{process.pid}", f"{host}.{os.getppid()}", f"elsewhere.{process.pid}")
        )
        for path in (dead, living, other):
            path.write_bytes(b"half")
        assert len(EpisodeStore(dataset)) == 6
        assert verify(dataset) == []
        assert eps.remove_stale(dataset) == [dead]
        assert living.exists()
        assert other.exists()

    @pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (Path, "rename")])
    def test_full_disk_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, call: str
    ) -> None:
        write_episode(tmp_path, make_episode(1))

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(owner, call, full)
        with pytest.raises(EpisodeError, match=r"episode-00000002.*No space left on device; free space"):
            write_episode(tmp_path, make_episode(2))
        assert names(tmp_path) == ["episode-00000001.safetensors"]

    def test_file_size_limit_leaves_nothing(self, tmp_path: Path) -> None:
        code = f"""
import resource, sys
sys.path[:0] = [{str(ROOT)!r}, {str(TESTS)!r}]
from test_episodes import make_episode
from robovae.episodes import EpisodeError, write_episode
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))
write_episode({str(tmp_path)!r}, make_episode(1, height=4, width=4))
try:
    write_episode({str(tmp_path)!r}, make_episode(2, height=64, width=64))
except EpisodeError as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "episode-00000002.safetensors: cannot be written" in done.stdout
        assert done.stdout.count("\n") == 1
        assert names(tmp_path) == ["episode-00000001.safetensors"]

    def test_unwritable_directory_is_one_clear_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(EpisodeError, match=r"cannot be written: .*choose another directory"):
            write_episode(tmp_path / "file" / "data", make_episode(1))


class TestStore:
    def test_episodes_are_sorted_by_seed(self, dataset: Path) -> None:
        store = EpisodeStore(dataset)
        assert store.seeds == [2, 5, 9, 10_003, 20_001, 100_000]
        assert [episode.seed for episode in store] == store.seeds
        assert store.frame_shape == (8, 10, 3)
        assert store.env_id == "Toy-v0"
        assert store.render_spec == {"height": 8}
        assert store.num_frames == sum(len(episode) + 1 for episode in store)
        assert store[-1].seed == 100_000
        assert store[1:3].seeds == [5, 9]

    @settings(max_examples=40)
    @given(numbers=st.lists(st.integers(0, 44), max_size=40), maps=st.integers(1, 8))
    def test_frames_are_those_of_the_concatenated_episodes(self, numbers: list[int], maps: int) -> None:
        store = EpisodeStore(shared_dataset(), max_maps=maps)
        everything = np.concatenate([episode.image for episode in store])
        assert np.array_equal(store.frames(numbers), everything[numbers])
        assert np.array_equal(store.frames(np.array(numbers, np.int32)), everything[numbers])

    def test_threads_may_read_while_maps_come_and_go(self, dataset: Path) -> None:
        store = EpisodeStore(dataset, max_maps=2)
        everything = np.concatenate([episode.image for episode in store])

        def read(seed: int) -> bool:
            rng = np.random.default_rng(seed)
            batches = [rng.integers(0, store.num_frames, rng.integers(1, 9)) for _ in range(200)]
            return all(np.array_equal(store.frames(numbers), everything[numbers]) for numbers in batches)

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(8)))

    def test_frames_refuses_what_is_outside(self, dataset: Path) -> None:
        store = EpisodeStore(dataset)
        for numbers in ([-1], [0, store.num_frames]):
            with pytest.raises(IndexError, match="expected frame numbers from 0"):
                store.frames(numbers)

    def test_batches_give_every_frame_once(self, dataset: Path) -> None:
        store = EpisodeStore(dataset)
        everything = np.concatenate([episode.image for episode in store])
        assert np.array_equal(np.concatenate(list(store.batches(4))), everything)

    def test_pickles_without_its_maps(self, dataset: Path) -> None:
        store = EpisodeStore(dataset).split("train")
        frames = store.frames([0, 9])
        data = pickle.dumps(store)
        assert len(data) < 20_000
        assert np.array_equal(pickle.loads(data).frames([0, 9]), frames)

    def test_descriptors_stay_bounded_whatever_is_held(self, dataset: Path) -> None:
        before = len(names(Path("/proc/self/fd")))
        store = EpisodeStore(dataset, max_maps=2)
        held = list(store)
        assert len(names(Path("/proc/self/fd"))) - before <= 2
        for episode in held:
            assert_same(episode, make_episode(episode.seed, steps=len(episode)))

    def test_files_that_others_hold_leave_room_for_a_few_maps(
        self, dataset: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, bare, real, left = EpisodeStore(dataset), EpisodeStore(dataset), Path.open, [2]

        def scarce(path: Path, *how: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                left[0] = 2
                raise OSError(errno.EMFILE, "Too many open files")
            return real(path, *how)

        monkeypatch.setattr(Path, "open", scarce)
        for seed, episode in zip(store.seeds, store, strict=True):
            assert_same(episode, make_episode(seed, steps=len(episode)))
        left[0] = 0
        with pytest.raises(EpisodeError, match=r"Too many open files; raise `ulimit -n`"):
            bare.frames([0])

    @pytest.mark.parametrize(
        ("other", "what"),
        [
            (make_episode(3, env_id="Other-v0"), "env_id: Toy-v0 and Other-v0"),
            (make_episode(3, render_spec={"height": 8, "samples": 4}), "render_spec"),
            (make_episode(3, width=12, render_spec={"height": 8}), "frame shape"),
        ],
    )
    def test_mixed_episodes_are_refused(self, dataset: Path, other: Episode, what: str) -> None:
        write_episode(dataset, other)
        with pytest.raises(EpisodeError, match=rf"00000002.*and.*00000003.* differ in {what}"):
            EpisodeStore(dataset)

    def test_one_seed_in_two_files_is_refused(self, dataset: Path) -> None:
        shutil.copy(dataset / "episode-00000002.safetensors", dataset / "episode-copy.safetensors")
        with pytest.raises(EpisodeError, match=r"seed 2 is in .*00000002.* and in .*copy"):
            EpisodeStore(dataset)

    def test_missing_and_empty_directories(self, tmp_path: Path) -> None:
        with pytest.raises(EpisodeError, match="nowhere: expected a directory of episodes, found nothing"):
            EpisodeStore(tmp_path / "nowhere")
        with pytest.raises(EpisodeError, match="expected episode files, found 0 others; collect some first"):
            EpisodeStore(tmp_path)

    def test_info_sums_up(self, dataset: Path) -> None:
        about = eps.info(dataset)
        assert json.loads(json.dumps(about)) == about
        assert about["episodes"] == 6
        assert about["splits"] == {"calibrate": 1, "test": 1, "train": 4}
        assert about["bytes"] == sum(path.stat().st_size for path in dataset.iterdir())
        assert about["policy"] == "random"
        returns = [float(episode.reward.sum(dtype=np.float64)) for episode in EpisodeStore(dataset)]
        assert about["returns"]["mean"] == pytest.approx(np.mean(returns), abs=1e-5)


_SHARED: list[tempfile.TemporaryDirectory[str]] = []


def shared_dataset() -> Path:
    """One dataset of 45 frames for all examples of the property tests that only read."""
    if not _SHARED:
        _SHARED.append(tempfile.TemporaryDirectory())
        for seed in range(6):
            write_episode(_SHARED[0].name, make_episode(seed, steps=4 + seed))
    return Path(_SHARED[0].name)


class TestSplits:
    def test_seeds_belong_to_one_split(self) -> None:
        expected = {0: "train", 9_999: "train", 10_000: "calibrate", 20_000: "test", 30_000: "rare"}
        expected |= {
            40_000: "fault",
            49_999: "fault",
            50_000: "reserved",
            99_999: "reserved",
            100_000: "train",
        }
        assert {seed: eps.split_of(seed) for seed in expected} == expected
        with pytest.raises(EpisodeError, match="seed >= 0"):
            eps.split_of(-1)

    def test_split_selects_and_empty_split_is_refused(self, dataset: Path) -> None:
        store = EpisodeStore(dataset)
        assert store.split("train").seeds == [2, 5, 9, 100_000]
        assert store.split("test").seeds == [20_001]
        assert store.split("test").frames([0])[0, 0, 0, 0] == 20_001 % 256
        with pytest.raises(EpisodeError, match=r"split 'rare' \(seeds 30000 to 39999\).*--seed 30000"):
            store.split("rare")
        with pytest.raises(EpisodeError, match="expected a split of train, calibrate"):
            store.split("validation")

    @settings(max_examples=30)
    @given(fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
    def test_holdout_is_a_partition(self, fraction: float, seed: int) -> None:
        store = EpisodeStore(shared_dataset())
        train, held_out = store.holdout(fraction, seed)
        assert sorted(train.seeds + held_out.seeds) == store.seeds
        assert train.seeds == sorted(train.seeds)
        assert len(held_out) == min(max(round(fraction * 6), 1), 5)
        assert store.holdout(fraction, seed)[1].seeds == held_out.seeds

    def test_holdout_is_independent_of_the_order_of_listing(
        self, dataset: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = [part.seeds for part in EpisodeStore(dataset).holdout(0.3, 1)]
        listing = Path.iterdir

        def backwards(self: Path) -> Iterator[Path]:
            return iter(sorted(listing(self), reverse=True))

        monkeypatch.setattr(Path, "iterdir", backwards)
        assert [part.seeds for part in EpisodeStore(dataset).holdout(0.3, 1)] == expected

    def test_other_seeds_hold_out_other_episodes(self) -> None:
        store = EpisodeStore(shared_dataset())
        assert len({tuple(store.holdout(0.3, seed)[1].seeds) for seed in range(20)}) > 5

    def test_holdout_refuses_what_it_cannot_part(self, dataset: Path) -> None:
        store = EpisodeStore(dataset)
        for part, fraction in ((store, 0.0), (store, 1.0), (store.split("test"), 0.5)):
            with pytest.raises(EpisodeError, match="fraction between 0 and 1 of at least 2 episodes"):
                part.holdout(fraction, 0)


class TestPack:
    def test_shards_read_as_the_episodes_they_hold(self, dataset: Path, tmp_path: Path) -> None:
        size = sum(record.nbytes for record in EpisodeStore(dataset).records)
        shards = pack(dataset, tmp_path / "out", shard_bytes=size // 3)
        assert len(shards) > 2
        source, packed = EpisodeStore(dataset), EpisodeStore(tmp_path / "out")
        assert packed.seeds == source.seeds
        for left, right in zip(source, packed, strict=True):
            assert_same(left, right)
        numbers = np.random.default_rng(0).integers(0, source.num_frames, 50)
        assert np.array_equal(packed.frames(numbers), source.frames(numbers))
        assert packed.holdout(0.3, 0)[1].seeds == source.holdout(0.3, 0)[1].seeds
        assert verify(tmp_path / "out") == []

    def test_a_second_run_keeps_whole_shards_and_mends_damaged_ones(
        self, dataset: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        shards = pack(dataset, out, shard_bytes=3000)
        assert len(shards) >= 4
        contents = [path.read_bytes() for path in shards]
        flip(shards[1], -1)
        flip(shards[2], 200)
        shards[3].unlink()
        kept = shards[0].stat()
        seen: list[tuple[int, int]] = []
        assert pack(dataset, out, 3000, lambda done, total, path: seen.append((done, total))) == shards
        assert [path.read_bytes() for path in shards] == contents
        assert shards[0].stat().st_ino == kept.st_ino
        assert seen == [(done, len(shards)) for done in range(1, len(shards) + 1)]

    def test_damaged_sources_are_named_and_give_no_shard(self, dataset: Path, tmp_path: Path) -> None:
        flip(dataset / "episode-00000005.safetensors", -1)
        with pytest.raises(EpisodeError, match=r"episode-00000005.*seed 5 is damaged"):
            pack(dataset, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_what_reads_back_wrong_is_removed(
        self, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = eps.packing.write_whole

        def bad_disk(path: Path, *rest: Any) -> Path:
            flip(write(path, *rest), -1)
            return path

        monkeypatch.setattr(eps.packing, "write_whole", bad_disk)
        with pytest.raises(EpisodeError, match="what was read back is not what was written"):
            pack(dataset, tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    def test_out_must_be_another_directory_without_other_shards(self, dataset: Path, tmp_path: Path) -> None:
        with pytest.raises(EpisodeError, match="another directory than the episodes' own"):
            pack(dataset, dataset)
        (tmp_path / "out").mkdir()
        shutil.copy(dataset / "episode-00000002.safetensors", tmp_path / "out")
        with pytest.raises(EpisodeError, match=r"only shards of these episodes, found episode-00000002"):
            pack(dataset, tmp_path / "out")

    def test_shards_can_be_packed_again(self, dataset: Path, tmp_path: Path) -> None:
        pack(dataset, tmp_path / "small", shard_bytes=5000)
        (shard,) = pack(tmp_path / "small", tmp_path / "large")
        (direct,) = pack(dataset, tmp_path / "direct")
        assert shard.read_bytes() == direct.read_bytes()


def signal_after(process: "subprocess.Popen[str]", seconds: float) -> None:
    """SIGKILL a process some time from now, unless it ends before."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
