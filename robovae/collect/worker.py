"""The worker process: one environment, one GL context, whole episodes written to disk.

It is started by `robovae.collect.process`, not by multiprocessing: neither forkserver nor spawn can set the
environment of the new process (GL and BLAS read it as they load), and both run the parent's main script
again, which would import torch in every worker.

The worker hears seeds, or None to stop. It says tuples that begin with a word:

    ("ready", facts)            the environment is made; facts as `describe` gives them
    ("took", seed)              the next episode begins
    ("beat", frames)            so many more frames
    ("idle",)                   no seed is waiting
    ("wrote", seed, steps, visited)   the episode is on the disk
    ("error", line)             it cannot go on
"""

import ctypes
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym

from robovae.collect.config import CollectConfig
from robovae.collect.joints import visited_bins
from robovae.collect.policies import make_policy
from robovae.collect.rollout import Rollout
from robovae.episodes import Episode, write_episode

BEAT_SECONDS = 0.25
WRITERS = 4
PR_SET_PDEATHSIG = 1


class Link:
    """The worker's end of the pipe. A thread listens, so that the parent's death is noticed at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._seeds: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.stopped = threading.Event()

    def listen(self) -> None:
        """Start to hear seeds."""
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, *words: Any) -> None:
        """Tell the parent; a parent that is gone ends the episode."""
        try:
            with self._lock:
                self._connection.send(words)
        except OSError:
            self.stopped.set()

    def next_seed(self) -> int | None:
        """The next seed, None to stop; says "idle" before it waits."""
        if self._seeds.empty():
            self.say("idle")
        seed = self._seeds.get()
        return None if self.stopped.is_set() else seed

    def _listen(self) -> None:
        seed: int | None = 0
        while seed is not None:
            try:
                seed = self._connection.recv()
            except (EOFError, OSError):
                seed = None
            if seed is None:
                self.stopped.set()
            self._seeds.put(seed)


class Writer:
    """Writes episodes beside the stepping: hashing and fsync release the interpreter lock.

    At most `WRITERS` episodes are on their way; a slow disk then slows the stepping.
    """

    def __init__(self, out: Path, link: Link) -> None:
        self.out, self.link = out, link
        self.threads = ThreadPoolExecutor(WRITERS)
        self.room = threading.BoundedSemaphore(WRITERS)
        self.failure: BaseException | None = None

    def submit(self, episode: Episode) -> None:
        """Hand an episode over; raises what an earlier one raised."""
        self.room.acquire()
        self._raise_failure()
        self.threads.submit(self._write, episode)

    def drain(self) -> None:
        """Wait until all is on the disk; raises what any raised."""
        self.threads.shutdown()
        self._raise_failure()

    def _write(self, episode: Episode) -> None:
        try:
            write_episode(self.out, episode)
            visited = visited_bins(episode.extra["qpos"], joints) if (joints := _joints(episode)) else None
            self.link.say("wrote", episode.seed, len(episode), visited)
        except Exception as error:
            self.failure = error
        finally:
            self.room.release()

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure


class Heart:
    """Counts frames, and tells the parent of them a few times a second."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.frames, self.due = 0, 0.0

    def beat(self) -> bool:
        """One more frame; False if the worker shall stop."""
        self.frames += 1
        now = time.monotonic()
        if now >= self.due:
            self.link.say("beat", self.frames)
            self.frames, self.due = 0, now + BEAT_SECONDS
        return not self.link.stopped.is_set()


def main(descriptor: int) -> None:
    """Run a worker on an inherited pipe; does not return.

    The process ends without clean-up of GL, which may hang or crash in a driver; all files are whole by then.
    """
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    link = Link(connection)
    try:
        make_env, out, config = cloudpickle.loads(connection.recv_bytes())
        link.listen()
        _serve(make_env, out, config, link)
    except BaseException as error:
        link.say("error", one_line(error))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _serve(make_env: Callable[[], gym.Env[Any, Any]], out: Path, config: CollectConfig, link: Link) -> None:
    """Make the environment, then run the episodes that are asked for."""
    env = make_env()
    heart, writer = Heart(link), Writer(out, link)
    rollout = Rollout(env, make_policy(config.policy, env), config, heart.beat)
    link.say("ready", rollout.facts)
    while (seed := link.next_seed()) is not None:
        link.say("took", seed)
        episode = rollout.run(seed)
        if episode is not None:
            writer.submit(episode)
    writer.drain()


def one_line(error: BaseException) -> str:
    """What went wrong, for a person: our own errors speak for themselves, others say where they arose."""
    text = " ".join(str(error).split())
    if type(error).__module__.startswith("robovae"):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{where}"


def _joints(episode: Episode) -> list[dict[str, Any]]:
    return list(episode.meta.get("joints", [])) if "qpos" in episode.extra else []


def _die_with_parent() -> None:
    """Ask Linux to kill this process with its parent, even while a driver hangs; elsewhere the pipe tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
