"""The command line: what it prints where, its exit codes, and one line for everything the user can mend."""

import errno
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from robovae import cli
from robovae.cli import doctor
from robovae.cli.console import number, show, table_of
from robovae.cli.parse import parse
from robovae.collect import CollectConfig, collect
from robovae.episodes import EpisodeStore
from robovae.errors import InterruptionError, RobovaeError
from robovae_envs.errors import EnvError
from tests.toy_env import make_toy


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "toy"
    collect(partial(make_toy, max_steps=4), path, CollectConfig(episodes=3, workers=1))
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    code = cli.main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


def refuse(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line that bad input gets."""
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def test_help_takes_well_under_a_second():
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "robovae", "--help"], capture_output=True, text=True, check=True
    )
    assert time.monotonic() - begin < 1.0
    assert all(name in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_exists_and_explains_itself_with_an_example(capsys, name):
    with pytest.raises(SystemExit) as stop:
        cli.main([*name.split(), "--help"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"usage: robovae {name}" in said
    assert "Examples:" in said
    assert f"robovae {name}" in said.split("Examples:")[1]
    assert "--json" in said


def test_no_command_prints_the_help_and_fails(capsys):
    code, out, _ = run(capsys)
    assert code == 2
    assert "usage: robovae COMMAND" in out


def test_a_group_lists_its_commands(capsys):
    code, out, _ = run(capsys, "data", "--help")
    assert code == 0
    assert "data verify" in out
    assert "doctor" not in out


def test_the_version(capsys):
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.strip()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["colect"], "no command 'colect'; did you mean 'collect'"),
        (["data", "inf"], "no command 'data inf'; did you mean 'info'"),
        (["--jsn"], "no command '--jsn'"),
        (["collect"], "Missing from robovae collect: ENV"),
        (["collect", "Reacher-v5", "--out", "x", "--episode", "3"], "Perhaps you meant: --episodes INT"),
        (["collect", "Reacher-v5", "--out", "x", "--episodes", "many"], "invalid literal .* 'many'"),
        (["collect", "Reacher-v5", "--out", "x", "--split", "tset"], "invalid choice 'tset'"),
        (
            ["collect", "Reacher-v5", "--out", "x", "--size", "big"],
            "size: expected a number of pixels",
        ),
        (
            ["collect", "Reacher-v5", "--out", "x", "--episodes", "0"],
            "episodes must be an integer",
        ),
        (
            ["collect", "Recher-v5", "--out", "x"],
            "no environment 'Recher-v5'; .*Reacher-v5",
        ),
        (["collect", "Reacher-v5", "--out", "x", "--spread", "3"], "expected a scale from 0 to 1, got 3"),
        (["data", "info", "nowhere"], "nowhere: expected a directory of episodes"),
        (["data", "verify", "nowhere"], "nowhere: expected"),
        (["data", "pack", "nowhere", "--out", "x"], "nowhere: expected"),
        (["data", "pack", "nowhere", "--out", "x", "--shard-mb", "0"], "expected at least 1, received 0"),
        (["run", "nowhere.yaml"], "nowhere.yaml: no readable recipe"),
    ],
)
def test_bad_input_gets_one_line_and_leaves_nothing(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert_match(message, refuse(capsys, *words))
    assert list(tmp_path.iterdir()) == []


def assert_match(pattern: str, text: str) -> None:
    with pytest.raises(RobovaeError, match=pattern):
        raise RobovaeError(text)


def test_info_prints_json_or_lines(capsys, dataset):
    code, out, _ = run(capsys, "data", "info", dataset, "--json")
    assert code == 0
    assert json.loads(out)["episodes"] == 3
    _, out, _ = run(capsys, "data", "info", dataset)
    assert "3 in 3 files" in out
    assert "train 3" in out


def test_verify_tells_whole_from_damaged(capsys, dataset, tmp_path):
    code, out, _ = run(capsys, "data", "verify", dataset, "--json")
    assert code == 0
    assert json.loads(out)["problems"] == []
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in dataset.glob("*.safetensors"):
        (damaged / file.name).write_bytes(file.read_bytes())
    raw = bytearray(file.read_bytes())
    raw[-10] ^= 1
    (damaged / file.name).write_bytes(raw)
    code, out, _ = run(capsys, "data", "verify", damaged)
    assert code == 1
    assert file.name in out
    assert "1 problems" in out


def test_pack_keeps_every_episode(capsys, dataset, tmp_path):
    code, out, _ = run(capsys, "data", "pack", dataset, "--out", tmp_path / "packed", "--json")
    assert code == 0
    assert json.loads(out)["shards"] == ["shard-00000.safetensors"]
    _, out, _ = run(capsys, "data", "info", tmp_path / "packed", "--json")
    assert json.loads(out)["episodes"] == 3


class Boom:
    """A command that fails with whatever it is given."""

    error: BaseException

    def run(self) -> int:
        raise self.error


@pytest.fixture
def fail_with(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def fail(error: BaseException) -> tuple[int, str, str]:
        boom = Boom()
        boom.error = error
        monkeypatch.setattr(cli, "parse", lambda *_: boom)
        return run(capsys, "doctor")

    return fail


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RobovaeError("two\n  lines"), 2, "robovae doctor: two lines\n"),
        (EnvError("no GL"), 2, "robovae doctor: no GL\n"),
        (KeyboardInterrupt(), 130, "robovae doctor: interrupted; the same command goes on\n"),
        (InterruptionError("3 episodes kept"), 130, "robovae doctor: 3 episodes kept\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/full/a"),
            2,
            "robovae doctor: No space left on device: /full/a; nothing half-written is left\n",
        ),
    ],
)
def test_what_the_user_can_mend_is_one_line(fail_with, error, code, line):
    assert fail_with(error) == (code, "", line)


def test_a_directory_that_cannot_be_made_is_one_line(capsys, dataset):
    assert "/proc/nowhere" in refuse(capsys, "train", dataset, "--out", "/proc/nowhere/run")


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), OSError(errno.EBADF, "ours")])
def test_our_own_bugs_keep_their_traceback(fail_with, error):
    with pytest.raises(type(error), match="ours"):
        fail_with(error)


@dataclass(frozen=True)
class Toy:
    """A toy.

    Examples:
      toy
    """

    count: int = 1
    """How many."""

    def run(self) -> int:
        return self.count


def test_words_become_a_command():
    assert parse(Toy, ["--count", "7"], "toy").run() == 7


def test_a_word_that_does_not_fit_is_one_line():
    with pytest.raises(RobovaeError, match=r"^Unrecognized options: x; see toy --help$"):
        parse(Toy, ["x"], "toy")


def test_results_go_to_stdout_as_lines_or_json(capsys):
    show({"a": 1}, False, table_of([{"name": "x", "frames": 12345.6}, {"name": "y", "list": [1]}]), "[done]")
    assert capsys.readouterr().out == "name  frames\nx     12 346\ny\n[done]\n"
    show({"a": 1}, True, "not shown")
    assert json.loads(capsys.readouterr().out) == {"a": 1}


@pytest.mark.parametrize(
    ("value", "text"), [(1234567, "1 234 567"), (0.123456, "0.1235"), (None, ""), ("x", "x"), (True, "True")]
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.gl
def test_the_doctor_draws_a_frame(capsys):
    code, out, _ = run(capsys, "doctor", "--gl", "--json")
    found = json.loads(out)
    assert (code, found["ok"]) == (0, True)
    assert "frames/s" in found["findings"][0]["found"]


def test_the_doctor_says_which_packages_are_missing(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_probe", lambda _: {"error": "libEGL.so.1 not found"})
    code, out, _ = run(capsys, "doctor", "--gl")
    assert code == 1
    assert "libEGL.so.1 not found" in out
    assert "apt-get install -y" in out


def test_a_chosen_backend_that_does_not_start_fails_though_another_would(capsys, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    working = {"renderer": "llvmpipe", "fps": 100, "contrast": 5.0}
    monkeypatch.setattr(doctor, "_probe", lambda backend: working if backend == "osmesa" else {"error": "no"})
    code, out, _ = run(capsys, "doctor", "--gl")
    assert code == 1
    assert "export MUJOCO_GL" in out
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert run(capsys, "doctor", "--gl")[0] == 0


def test_a_hanging_probe_is_ended(monkeypatch):
    monkeypatch.setattr(doctor, "PROBE_TIMEOUT", 0.2)
    assert doctor._run([sys.executable, "-c", "import time; time.sleep(60)"], {}) == "hangs: no answer in 0 s"


@pytest.mark.gl
def test_collect_writes_frames_of_a_real_task(capsys, tmp_path):
    words = (
        "collect",
        "Reacher-v5",
        "--out",
        tmp_path / "d",
        "--episodes",
        "2",
        "--workers",
        "1",
        "--max-steps",
        "5",
    )
    code, out, err = run(capsys, *words, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["episodes"] == 2
    code, out, _ = run(capsys, *words)
    assert "0 new, 2 were there" in out


@pytest.mark.gl
@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_in_one_line(tmp_path):
    command = [sys.executable, "-m", "robovae", "collect", "Reacher-v5", "--out", str(tmp_path / "d")]
    process = subprocess.Popen(
        [*command, "--episodes", "9000", "--workers", "1"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("d/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.startswith("robovae collect: ")
    assert said.count("\n") == 1
    assert EpisodeStore(tmp_path / "d").seeds[0] == 0
