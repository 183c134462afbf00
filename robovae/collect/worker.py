"""The worker process: one environment, one GL context, whole episodes written to disk.

It is started by `robovae.collect.process`, not by multiprocessing: neither forkserver nor spawn can set the
environment of the new process (GL and BLAS read it as they load), and both run the parent's main script
again, which would import torch in every worker.

The worker hears lists of seeds, or None to stop. It says tuples that begin with a word:

    ("ready", facts)              it has drawn a first frame; facts as `describe` gives them
    ("idle",)                     no seed is waiting
    ("wrote", steps_of, visited)  episodes are on the disk: steps by seed; bins that the joints visited
    ("error", line)               it cannot go on

What is told of every frame and episode goes through a shared page instead, see robovae.collect.page.
"""

import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.collect.config import CollectConfig
from robovae.collect.joints import visited_bins
from robovae.collect.page import Page
from robovae.collect.policies import make_policy
from robovae.collect.rollout import Rollout
from robovae.episodes import Episode, write_episodes

REPORT_SECONDS = 0.1
BATCH = 16
ROOM_BYTES = 32_000_000
PR_SET_PDEATHSIG = 1


class Link:
    """The worker's end of the pipe. A thread listens, so that the parent's death is noticed at once."""

    def __init__(self, connection: Connection, page: Page) -> None:
        self._connection, self.page = connection, page
        self._lock = threading.Lock()
        self._seeds: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.stopped = threading.Event()
        self.waiting = False

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

    def next_seed(self, on_idle: Callable[[], None]) -> int | None:
        """The next seed, None to stop; says "idle" before it waits, after `on_idle`."""
        if self._seeds.empty():
            self.waiting = True
            on_idle()
            self.page.rest()
            self.say("idle")
        seed = self._seeds.get()
        self.waiting = False
        if seed is None or self.stopped.is_set():
            return None
        self.page.take(seed)
        return seed

    def count_frames(self, frames: int) -> bool:
        """So many more frames; False if the worker shall stop."""
        self.page.count_frames(frames)
        return not self.stopped.is_set()

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while (seeds := self._connection.recv()) is not None:
                for seed in seeds:
                    self._seeds.put(seed)
        self.stopped.set()
        self._seeds.put(None)


class Report:
    """Tells the parent what was written, a few times a second; at once while the worker waits for seeds."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.lock = threading.Lock()
        self.due = 0.0
        self.steps_of: dict[int, int] = {}
        self.visited: NDArray[np.bool_] | None = None

    def add(self, episodes: Sequence[Episode]) -> None:
        """Note episodes; from any thread."""
        with self.lock:
            for episode in episodes:
                self._note(episode)
        if self.link.waiting or time.monotonic() >= self.due:
            self.send()

    def _note(self, episode: Episode) -> None:
        self.steps_of[episode.seed] = len(episode)
        joints = episode.meta.get("joints", []) if "qpos" in episode.extra else []
        if joints:
            visited = visited_bins(episode.extra["qpos"], joints)
            self.visited = visited if self.visited is None else self.visited | visited

    def send(self) -> None:
        """Tell what has been noted."""
        with self.lock:
            self.due = time.monotonic() + REPORT_SECONDS
            if self.steps_of:
                self.link.say("wrote", self.steps_of, self.visited)
                self.steps_of, self.visited = {}, None


class Writer:
    """Writes episodes beside the stepping: hashing and fsync release the interpreter lock.

    Episodes that wait are written together, which costs less for short ones. When too many wait, a slow disk
    slows the stepping.
    """

    def __init__(self, out: Path, link: Link) -> None:
        self.out = out
        self.report = Report(link)
        self.waiting: list[Episode] = []
        self.failure: BaseException | None = None
        self.changed = threading.Condition()
        self.closed = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def submit(self, episode: Episode) -> None:
        """Hand an episode over; raises what an earlier one raised."""
        with self.changed:
            self.changed.wait_for(lambda: self.failure is not None or self._has_room())
            self._raise_failure()
            self.waiting.append(episode)
            self.changed.notify_all()

    def drain(self) -> None:
        """Wait until all is on the disk; raises what any raised."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.thread.join()
        self.report.send()
        self._raise_failure()

    def _has_room(self) -> bool:
        return sum(episode.image.nbytes for episode in self.waiting) < ROOM_BYTES

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                write_episodes(self.out, batch)
                self.report.add(batch)
        except Exception as error:
            with self.changed:
                self.failure = error
                self.changed.notify_all()
            self.report.link.say("error", one_line(error))  # who waits for seeds would not hear of it

    def _next_batch(self) -> list[Episode]:
        """What waits; nothing once the writer is closed and all is written."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.closed)
            batch, self.waiting = self.waiting[:BATCH], self.waiting[BATCH:]
            self.changed.notify_all()
            return batch

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure


def main(descriptor: int, page: int) -> None:
    """Run a worker on an inherited pipe and page; does not return.

    The process ends without clean-up of GL, which may hang or crash in a driver; all files are whole by then.
    """
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    link = Link(connection, Page(page))
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
    """Make the environment and draw a first frame, then run the episodes that are asked for."""
    env = make_env()
    writer = Writer(out, link)
    rollout = Rollout(env, make_policy(config.policy, env), config, link.count_frames)
    env.reset(seed=0)
    link.say("ready", rollout.facts)
    try:
        while (seed := link.next_seed(writer.report.send)) is not None:
            episode = rollout.run(seed)
            if episode is not None:
                writer.submit(episode)
    except BaseException:
        with contextlib.suppress(Exception):
            writer.drain()  # finished episodes are kept, whatever became of this one
        raise
    writer.drain()


def one_line(error: BaseException) -> str:
    """What went wrong, for a person: our own errors speak for themselves, others say where they arose."""
    text = " ".join(str(error).split())
    if type(error).__module__.startswith("robovae"):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{where}"


def _die_with_parent() -> None:
    """Ask Linux to kill this process with its parent, even while a driver hangs; elsewhere the pipe tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
