"""The reading benchmark: same frames in every format, honest rows, clear errors."""

import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from robovae.bench import reading
from robovae.bench.formats import FORMATS, PLAIN, STORE, Format, Read, open_array, open_store, write_store
from robovae.bench.reading import ReadingConfig, run
from robovae.episodes import Episode, EpisodeStore, write_episode
from robovae.errors import RobovaeError
from tests.toy_env import make_toy

QUICK = ReadingConfig(frames=60, batch=8, rounds=2, seconds=0.01, cold_rounds=1, cold_batches=1)
toy = partial(make_toy, max_steps=9)


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return reading.collect(toy, 60)


@pytest.fixture
def dataset(tmp_path: Path, episodes: list[Episode]) -> Path:
    for episode in episodes:
        write_episode(tmp_path / "data", episode)
    return tmp_path / "data"


def test_collect_gives_whole_episodes_of_random_actions(episodes: list[Episode]) -> None:
    assert [episode.seed for episode in episodes] == list(range(6))
    assert all(len(episode) == 9 and episode.truncated[-1] for episode in episodes)
    again = reading.collect(toy, 60)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(episodes, again, strict=True))
    assert not np.array_equal(episodes[0].action, episodes[1].action)


@pytest.mark.filterwarnings("default")  # of the packages compared
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_every_format_gives_the_frames_back(form: Format, episodes: list[Episode], tmp_path: Path) -> None:
    if form.package:
        pytest.importorskip(form.package)
    form.write(episodes, tmp_path)
    frames = np.concatenate([episode.image for episode in episodes])
    numbers = np.random.default_rng(0).integers(0, len(frames), 40)
    with form.open(tmp_path) as read:
        batch = read(numbers)
        assert batch.dtype == np.uint8
        assert np.array_equal(batch, frames[numbers])


@pytest.mark.filterwarnings("default")
def test_run_reports_every_format(dataset: Path) -> None:
    lines: list[str] = []
    report = run(dataset, QUICK, on_event=lines.append)
    assert json.loads(json.dumps(report)) == report
    assert [row["format"] for row in report["rows"]] == [form.name for form in FORMATS]
    rows = {row["format"]: row for row in report["rows"] if "missing" not in row}
    assert all(row["warm_frames_per_s"] > 0 and len(row["warm_rounds"]) == 2 for row in rows.values())
    assert {name for name, row in rows.items() if "cold_frames_per_s" not in row} == {PLAIN}
    assert report["ratios"].keys() == rows.keys() - {STORE}
    ratio = rows[STORE]["warm_frames_per_s"] / rows[PLAIN]["warm_frames_per_s"]
    assert report["ratios"][PLAIN] == {"warm": pytest.approx(ratio, abs=1e-3)}
    assert report["frames"] == [60, 16, 16, 3]
    assert "warm, round 2 of 2" in lines


def test_run_collects_from_an_environment() -> None:
    report = run(toy, ReadingConfig(frames=25, rounds=1, seconds=0.01, cold_rounds=0, formats=(PLAIN, STORE)))
    assert report["frames"][0] == 30
    assert all("cold_frames_per_s" not in row for row in report["rows"])


def test_load_takes_whole_episodes_up_to_the_limit(dataset: Path) -> None:
    assert [len(reading.load(dataset, frames)) for frames in (1, 25, 60, 999)] == [1, 2, 6, 6]


def test_missing_packages_are_named(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lance" else find(name))
    config = ReadingConfig(frames=60, rounds=1, seconds=0.01, cold_rounds=0, formats=(STORE, "Lance take"))
    report = run(dataset, config)
    assert report["rows"][1]["missing"] == "pip install 'robovae[bench]'"
    assert "warm_frames_per_s" not in report["rows"][1]
    assert report["ratios"] == {}


def test_a_format_that_gives_other_frames_is_refused(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def open_shifted(path: Path) -> Iterator[Read]:
        with open_store(path) as read:
            yield lambda numbers: read((numbers + 1) % 60)

    monkeypatch.setattr(reading, "FORMATS", (Format("shifted", write_store, open_shifted),))
    with pytest.raises(RobovaeError, match="shifted: expected the frames that were written, received others"):
        run(dataset, ReadingConfig(frames=60, rounds=1, formats=("shifted",), cold_rounds=0))


def test_a_slow_format_shows_as_slow(
    dataset: Path, episodes: Sequence[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def open_slow(path: Path) -> Iterator[Read]:
        with open_store(path) as read:

            def slow(numbers: np.ndarray) -> np.ndarray:
                for _ in range(30):
                    read(numbers)
                return read(numbers)

            yield slow

    fast = next(form for form in FORMATS if form.name == STORE)
    monkeypatch.setattr(reading, "FORMATS", (fast, Format("slow", write_store, open_slow)))
    config = ReadingConfig(frames=60, rounds=3, seconds=0.02, formats=(STORE, "slow"), cold_rounds=0)
    assert run(dataset, config)["ratios"]["slow"]["warm"] > 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "at least one frame, round and batch"),
        ({"cold_rounds": -1}, "at least one frame, round and batch"),
        ({"formats": ()}, "expected formats of"),
        ({"formats": ("zarr",)}, r"expected formats of .* received \['zarr'\]"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(RobovaeError, match=message):
        ReadingConfig(**change)


def test_evict_leaves_the_content_alone(dataset: Path) -> None:
    before = EpisodeStore(dataset).frames(range(60))
    assert 0 <= reading.evict(dataset) <= 1
    assert np.array_equal(EpisodeStore(dataset).frames(range(60)), before)


def test_formats_open_what_they_wrote_only(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), open_array(tmp_path):
        pass
