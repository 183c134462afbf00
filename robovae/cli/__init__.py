"""The command line: finds the command, runs it, and turns what the user can mend into one line.

Exit codes: 0 done, 1 a check found something wrong, 2 bad input, 130 interrupted (Ctrl-C).
"""

import errno
import importlib
import os
import sys
from collections.abc import Sequence

from robovae.cli.parse import Command, parse
from robovae.config import nearest
from robovae.errors import InterruptionError, RobovaeError
from robovae_envs.errors import EnvError

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run:Run", "a whole recipe: collect, train, report; what is finished is skipped"),
    "collect": ("collect:Collect", "run a policy in an environment, frames into a dataset"),
    "train": ("train:Train", "train the VAE on a dataset"),
    "calibrate": ("calibrate:Calibrate", "make sigma true and set the monitor's limits, on nominal episodes"),
    "evaluate": ("evaluate:Evaluate", "judge sigma, scores and monitor over the fault suite"),
    "policy": ("policy:Policy", "train a policy on the beliefs of a run"),
    "dream": ("dream:DreamOn", "dream on from a real beginning: filmstrip, video, error by step"),
    "faults": ("faults:Faults", "the ways in which a camera fails, and their severities"),
    "export": ("export:Export", "a calibrated run as one ONNX graph, checked against torch"),
    "report": ("report:Report", "draw the report of a run: one self-contained page"),
    "data info": ("data:Info", "what a dataset holds"),
    "data verify": ("data:Verify", "check every byte of a dataset"),
    "data pack": ("data:Pack", "merge episodes into large files"),
    "bench render": ("bench:Render", "frames/s of rendering, beside Gymnasium's own"),
    "bench collect": ("bench:Collect", "frames/s of collecting, beside Gymnasium's vector environments"),
    "bench read": ("bench:Read", "frames/s of random training batches, beside other formats"),
    "bench train": ("bench_model:Train", "frames/s of training, beside a plain loop and the machine's peak"),
    "bench control": ("control:Control", "what is left of a return when the camera fails"),
    "bench encode": ("bench_model:Encode", "time of one frame through the encoder"),
    "doctor": ("doctor:Doctor", "what this machine lacks, with a real frame drawn"),
}
"""Every command: "module:class" in this package, and what it does. Modules are imported when they are run."""

USER_ERRNOS = frozenset(
    {
        errno.ENOENT,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
    }
)
"""Failures of the file system that are the user's to mend."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `robovae`; by default those of this process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except KeyboardInterrupt:
        return _say(words, "interrupted; the same command goes on", 130)
    except InterruptionError as interruption:
        return _say(words, str(interruption), 130)
    except (RobovaeError, EnvError) as error:
        return _say(words, str(error), 2)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in USER_ERRNOS:
            raise
        return _say(words, f"{error.strerror}: {error.filename or 'a file'}; nothing half-written is left", 2)


def _dispatch(words: list[str]) -> int:
    name = next((name for name in _candidates(words) if name in COMMANDS), None)
    if name is None:
        return _help_or_refuse(words)
    module, _, kind = COMMANDS[name][0].partition(":")
    command: type[Command] = getattr(importlib.import_module(f"robovae.cli.{module}"), kind)
    return parse(command, words[len(name.split()) :], f"robovae {name}").run()


def _candidates(words: list[str]) -> list[str]:
    return [" ".join(words[:count]) for count in (1, 2)]


def _help_or_refuse(words: list[str]) -> int:
    """Print the commands there are, or say that a word is none of them."""
    if words[:1] == ["--version"]:
        import robovae

        print(robovae.__version__)
        return 0
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    group = words[0] if words and words[0] in groups else None
    rest = words[1:] if group else words
    if not rest or rest[0] in ("-h", "--help"):
        _print_help(group)
        return 0 if rest else 2
    known = {name.split()[-1] for name in COMMANDS if name.startswith(f"{group} ")} if group else None
    hint = nearest(rest[0], known or {name.split()[0] for name in COMMANDS})
    raise RobovaeError(f"no command {' '.join(words[: 2 if group else 1])!r}; {hint}")


def _print_help(group: str | None) -> None:
    chosen = {name: text for name, (_, text) in COMMANDS.items() if not group or name.split()[0] == group}
    width = max(map(len, chosen))
    print(f"usage: robovae {f'{group} ' if group else ''}COMMAND [OPTIONS]\n")
    if not group:
        print("Probabilistic eyes for robots: camera frames in, beliefs (mu, sigma) out.\n")
    for name, text in chosen.items():
        print(f"  {name:<{width}}  {text}")
    print("\n`robovae COMMAND --help` explains a command with examples; most take --json.")
    if not group:
        print("\nExamples:\n  robovae doctor\n  robovae run launch/quickstart.yaml")
        print("  robovae collect Reacher-v5 --episodes 400 --out data/reacher")
        print("  robovae train data/reacher --out runs/reacher")


def _say(words: list[str], message: str, code: int) -> int:
    """One line on stderr."""
    name = next((name for name in _candidates(words) if name in COMMANDS), "")
    print(f"{f'robovae {name}'.strip()}: {' '.join(message.split())}", file=sys.stderr)
    return code
