"""The parent's loop: hand seeds to workers, replace those that die or hang, tell a listener, sum up."""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym

from robovae.collect.config import (
    CollectConfig,
    CollectError,
    CollectInterruptedError,
    CollectSummary,
    EventKind,
    Listener,
)
from robovae.collect.page import NONE
from robovae.collect.process import WorkerProcess, worker_environment
from robovae.collect.store import check_same_source, finished_records, open_directory, write_note
from robovae.collect.tally import Tally

MakeEnv = Callable[[], gym.Env[Any, Any]]

POLL_SECONDS = 0.1
AHEAD_SECONDS = 0.5
STOP_SECONDS = 10.0
GL_WORDS = ("OpenGL", "EGL", "MUJOCO_GL", "GLContext", "gladLoad", "OSMesa")


def collect(
    make_env: MakeEnv, out: Path, config: CollectConfig | None = None, on_event: Listener | None = None
) -> CollectSummary:
    """Run a policy in environments, in parallel, into an episode store.

    Finished episodes are never run again, so the same call continues an interrupted one. An episode depends
    on its seed alone, not on the number of workers.

    Args:
        make_env: makes an environment whose observations are {"image": (H, W, 3) uint8, "state"}; runs in
            every worker, and is sent there by cloudpickle.
        out: directory of the store; made if need be.
        config: what to collect.
        on_event: hears of progress about ten times a second, and of every incident.

    Raises:
        CollectError: the environment or the policy cannot be made, fails or keeps hanging; `out` holds other
            frames or cannot be written; `CollectInterruptedError` on Ctrl-C. Finished episodes are kept.
    """
    return Collection(make_env, Path(out), config or CollectConfig(), on_event or (lambda _: None)).run()


class Collection:
    """The state of one call of `collect`."""

    def __init__(self, make_env: MakeEnv, out: Path, config: CollectConfig, on_event: Listener) -> None:
        self.out, self.config, self.on_event = out, config, on_event
        open_directory(out)
        seeds = config.seeds()
        self.records = finished_records(out)
        present = {record.seed for record in self.records}
        self.pending = deque(seed for seed in seeds if seed not in present)
        self.tally = Tally(total=len(self.pending), skipped=len(seeds) - len(self.pending))
        self.job = _pickled(make_env, out, config)
        self.backend: str | None = None
        self.workers: list[WorkerProcess] = []
        self.facts: dict[str, Any] | None = None
        self.failures: Counter[int] = Counter()
        self.troubles: list[str] = []
        self.last_event = 0.0

    def run(self) -> CollectSummary:
        """Collect everything that is missing."""
        tally = self.tally
        self._tell("start", f"{tally.total} episodes to collect into {self.out}, {tally.skipped} are there")
        try:
            for _ in range(max(1, self.worker_count)):
                self._start_worker()
            while self.facts is None or tally.written < tally.total:
                self._turn()
            self._stop()
        except KeyboardInterrupt:
            self._stop()
            there, wanted = tally.written + tally.skipped, tally.total + tally.skipped
            raise CollectInterruptedError(
                f"stopped by Ctrl-C: {there} of {wanted} episodes are in {self.out} and kept; "
                "the same command continues"
            ) from None
        except CollectError as error:
            self._stop()
            raise CollectError(f"{error}; {tally.written} new episodes were finished and are kept") from None
        finally:
            for worker in self.workers:
                worker.kill()
        summary = tally.sum_up(self.out, self.worker_count, self.gl, self.facts["joints"])
        self._tell(
            "done", f"{summary.episodes} episodes, {summary.frames} frames, {summary.fps:.0f} frames/s"
        )
        return summary

    @property
    def worker_count(self) -> int:
        """Worker processes: no more than episodes."""
        return min(self.config.workers, self.tally.total)

    @property
    def gl(self) -> str:
        """MUJOCO_GL of the workers."""
        return worker_environment(self.backend).get("MUJOCO_GL", "default")

    def _start_worker(self) -> None:
        worker = WorkerProcess(self.job, worker_environment(self.backend))
        self.workers.append(worker)

    def _feed(self, worker: WorkerProcess) -> None:
        """Keep seeds for a while waiting behind the running one, fewer and fewer as the end comes near."""
        if not worker.ready:
            return
        share = len(self.pending) // (2 * len(self.workers))
        pace = self.tally.rate(self.tally.written) / len(self.workers)
        wanted = max(min(share, 1 + int(pace * AHEAD_SECONDS)), int(worker.page.running == NONE))
        missing = min(wanted - worker.waiting, len(self.pending))
        if missing > 0:
            worker.give([self.pending.popleft() for _ in range(missing)])

    def _turn(self) -> None:
        """Hear what workers say, and look after those that say nothing."""
        self._hear(POLL_SECONDS)
        for worker in list(self.workers):
            self._feed(worker)
            if worker.silent_for() > self.config.watchdog:
                self._replace(worker, f"gave no sign for {self.config.watchdog:g} s")
        if time.monotonic() - self.last_event >= POLL_SECONDS:
            self._tell("progress")

    def _hear(self, seconds: float) -> None:
        by_connection = {worker.connection: worker for worker in self.workers}
        for connection in wait(list(by_connection), seconds):
            worker = by_connection[connection]  # type: ignore[index]  # wait() returns what it was given
            if worker not in self.workers:
                continue
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._replace(worker, worker.last_words())
            else:
                worker.note(message)
                self._handle(worker, message)

    def _handle(self, worker: WorkerProcess, message: tuple[Any, ...]) -> None:
        match message:
            case ("ready", facts):
                self.tally.begin()
                self._check_facts(facts)
                self._feed(worker)
            case ("idle",):
                self._feed(worker)
            case ("wrote", steps_of, visited):
                self.tally.count(steps_of, visited)
            case ("error", line):
                self._fail(worker, line)

    def _check_facts(self, facts: dict[str, Any]) -> None:
        if self.facts is None:
            self.facts = facts
            check_same_source(self.records, facts, self.config, self.out)
            write_note(self.out, {"config": asdict(self.config), "source": facts})

    def _fail(self, worker: WorkerProcess, line: str) -> None:
        """A worker's exception: another GL backend may help before the first frame, else nothing does."""
        if not self.tally.began and self._may_fall_back() and any(word in line for word in GL_WORDS):
            self._fall_back(line)
            return
        where = f"seed {worker.page.running}: " if worker.page.running != NONE else ""
        before = f" (before that, {'; '.join(self.troubles)})" if self.troubles else ""
        raise CollectError(f"{where}{line}{before}")

    def _replace(self, worker: WorkerProcess, why: str) -> None:
        """Take a dead or hung worker out and give its seeds to a new one."""
        if not self.tally.began:
            if not self._may_fall_back():
                tried = "; ".join([*self.troubles, f"MUJOCO_GL={self.gl}: {why}"])
                raise CollectError(
                    f"no first frame came ({tried}): try `robovae doctor`, or another MUJOCO_GL"
                )
            self._fall_back(why)
            return
        seed = worker.suspect()
        where = f"at seed {seed}" if seed != NONE else "before its first seed"
        self.failures[seed] += 1
        if self.failures[seed] > self.config.retries:
            raise CollectError(f"workers failed {self.failures[seed]} times {where}; the last one {why}")
        self._retire(worker)
        self.tally.restarts += 1
        self._tell("restart", f"a worker {why} {where}: started another")
        self._start_worker()

    def _may_fall_back(self) -> bool:
        return bool(self.config.fallback) and self.gl != self.config.fallback

    def _fall_back(self, why: str) -> None:
        """Start all workers anew with the other GL backend, so that one store has frames of one renderer."""
        self.troubles.append(f"MUJOCO_GL={self.gl}: {why}")
        self._tell(
            "fallback", f"no frame with MUJOCO_GL={self.gl} ({why}): using {self.config.fallback}, slower"
        )
        self.backend = self.config.fallback
        count = len(self.workers)
        for worker in list(self.workers):
            self._retire(worker)
        self.tally.restarts += count
        for _ in range(count):
            self._start_worker()

    def _retire(self, worker: WorkerProcess) -> None:
        self.pending.extendleft(sorted(worker.seeds, reverse=True))
        self._dismiss(worker)

    def _dismiss(self, worker: WorkerProcess) -> None:
        self.workers.remove(worker)
        self.tally.frames_before += worker.page.frames
        worker.kill()

    def _stop(self) -> None:
        """Let workers bring finished episodes to the disk; a second Ctrl-C does not wait for it."""
        self._tell("stop", "waiting for the last files")
        deadline = time.monotonic() + STOP_SECONDS
        for worker in list(self.workers):
            worker.ask_to_stop()
            if not worker.ready:  # it has nothing to save, and may hang
                self._dismiss(worker)
        with contextlib.suppress(KeyboardInterrupt):
            while self.workers and time.monotonic() < deadline:
                self._hear_last()

    def _hear_last(self) -> None:
        for worker in list(self.workers):
            try:
                if worker.connection.poll(POLL_SECONDS):
                    match worker.connection.recv():
                        case ("wrote", steps_of, visited):
                            self.tally.count(steps_of, visited)
            except (EOFError, OSError):
                self._dismiss(worker)

    def _tell(self, kind: EventKind, message: str = "") -> None:
        self.last_event = time.monotonic()
        frames = self.tally.frames_before + sum(worker.page.frames for worker in self.workers)
        self.on_event(self.tally.event(kind, frames, message))


def _pickled(make_env: MakeEnv, out: Path, config: CollectConfig) -> bytes:
    try:
        return bytes(cloudpickle.dumps((make_env, out, config)))
    except Exception as error:  # pickling runs code of the factory's own, which may raise anything
        raise CollectError(
            f"make_env cannot be sent to workers ({type(error).__name__}: {error}): use a function of a "
            "module or functools.partial of one"
        ) from error
