"""The parent's view of one worker process: start it, feed it, notice that it died or hangs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from robovae.collect.page import NONE, Page, open_page

BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from robovae.collect.worker import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def worker_environment(backend: str | None) -> dict[str, str]:
    """Variables of a worker: one thread, and the user's GL backend unless `backend` replaces it."""
    environment = {**os.environ, **dict.fromkeys(SINGLE_THREADED, "1")}
    environment.setdefault("LP_NUM_THREADS", "0")
    if sys.platform == "linux":
        environment.setdefault("MUJOCO_GL", "egl")
    if backend is not None:
        environment.update(MUJOCO_GL=backend, PYOPENGL_PLATFORM=backend)
    return environment


class WorkerProcess:
    """A running worker.

    Args:
        job: pickled factory, directory and config.
        environment: variables of the process.

    Attributes:
        connection: messages arrive here; see robovae.collect.worker.
        seeds: handed out and not yet told to be written, in the order of their turns.
        page: which seed it runs, how many it took up, how many frames it drew.
        ready: whether a first frame came.
    """

    def __init__(self, job: bytes, environment: dict[str, str]) -> None:
        self.connection, theirs = Pipe()
        descriptor, name = tempfile.mkstemp(prefix="robovae-worker-")
        Path(name).unlink()  # the open file lives on without a name, and needs no clearing up
        self._words = os.fdopen(descriptor, "rb")
        page = open_page()
        self.page = Page(page)
        path = json.dumps([*sys.path, str(Path.cwd())])
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", BOOT, path, str(theirs.fileno()), str(page)],
                pass_fds=[theirs.fileno(), page],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=self._words,
                start_new_session=True,  # Ctrl-C is the parent's to hear
            )
        os.close(page)
        self.seeds: list[int] = []
        self.given = 0
        self.ready = False
        self.heard, self.frames = time.monotonic(), 0
        with contextlib.suppress(OSError):  # its death is noticed where messages are read
            self.connection.send_bytes(job)

    @property
    def waiting(self) -> int:
        """Seeds that it has and did not take up yet."""
        return self.given - self.page.taken

    def give(self, seeds: list[int]) -> None:
        """Hand out seeds."""
        if not self.seeds:
            self.heard = time.monotonic()  # it was silent because it had nothing to do
        self.seeds += seeds
        self.given += len(seeds)
        self._say(seeds)

    def ask_to_stop(self) -> None:
        """Let it finish its files and go."""
        self._say(None)

    def note(self, message: tuple[Any, ...]) -> None:
        """Keep account of a message."""
        self.heard = time.monotonic()
        match message:
            case ("ready", _):
                self.ready = True
            case ("wrote", steps_of, _):
                self.seeds = [seed for seed in self.seeds if seed not in steps_of]

    def silent_for(self) -> float:
        """Seconds since it last drew or spoke, 0 if it has nothing to do."""
        if self.page.frames != self.frames:
            self.frames, self.heard = self.page.frames, time.monotonic()
        return time.monotonic() - self.heard if self.seeds or not self.ready else 0.0

    def suspect(self) -> int:
        """The seed that it ran or was to run next, NONE without any."""
        return self.page.running if self.page.running != NONE else next(iter(self.seeds), NONE)

    def last_words(self) -> str:
        """How it died: the signal or exit code, and the last line that it printed."""
        code = self.process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        return f"{how}: {lines[-1]}" if lines else how

    def kill(self) -> None:
        """End it now and free what it held here; safe to call twice."""
        self.process.kill()
        self.process.wait()
        self.connection.close()
        self._words.close()

    def _say(self, word: list[int] | None) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(word)
