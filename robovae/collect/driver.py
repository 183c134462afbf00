"""The parent's loop: hand seeds to workers, replace those that die or hang, tell a listener, sum up."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.collect.config import (
    CollectConfig,
    CollectError,
    CollectEvent,
    CollectInterruptedError,
    CollectSummary,
    EventKind,
    Listener,
)
from robovae.collect.joints import hinges
from robovae.collect.process import WorkerProcess, worker_environment
from robovae.collect.store import check_same_source, finished_records, open_directory, write_note

MakeEnv = Callable[[], gym.Env[Any, Any]]

POLL_SECONDS = 0.1
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
        self.total, self.skipped = len(self.pending), len(seeds) - len(self.pending)
        self.job = _pickled(make_env, out, config)
        self.backend: str | None = None
        self.workers: list[WorkerProcess] = []
        self.facts: dict[str, Any] | None = None
        self.failures: Counter[int] = Counter()
        self.troubles: list[str] = []
        self.frames = self.written_frames = self.written = self.restarts = 0
        self.visited: NDArray[np.bool_] | None = None
        self.started, self.first_frame, self.last_event = time.monotonic(), 0.0, 0.0

    def run(self) -> CollectSummary:
        """Collect everything that is missing."""
        self._tell("start", f"{self.total} episodes to collect into {self.out}, {self.skipped} are there")
        try:
            for _ in range(max(1, min(self.config.workers, self.total))):
                self._start_worker()
            while self.facts is None or self.written < self.total:
                self._turn()
            self._stop()
        except KeyboardInterrupt:
            self._stop()
            raise CollectInterruptedError(
                f"stopped by Ctrl-C: {self.written + self.skipped} of {self.total + self.skipped} episodes "
                f"are in {self.out} and kept; the same command continues"
            ) from None
        except CollectError as error:
            self._stop()
            raise CollectError(f"{error}; {self.written} new episodes were finished and are kept") from None
        finally:
            for worker in self.workers:
                worker.kill()
        return self._sum_up()

    @property
    def gl(self) -> str:
        """MUJOCO_GL of the workers."""
        return worker_environment(self.backend).get("MUJOCO_GL", "default")

    def _start_worker(self) -> None:
        worker = WorkerProcess(self.job, worker_environment(self.backend))
        self.workers.append(worker)
        self._feed(worker)

    def _feed(self, worker: WorkerProcess) -> None:
        """Keep one seed waiting behind the running one; near the end, let whoever is free first take it."""
        ahead = 2 if len(self.pending) > len(self.workers) else 1
        while self.pending and worker.waiting + (worker.running is not None) < ahead:
            worker.give(self.pending.popleft())

    def _turn(self) -> None:
        """Hear what workers say, and look after those that say nothing."""
        self._hear(POLL_SECONDS)
        for worker in list(self.workers):
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
                self._check_facts(facts)
            case ("beat", frames):
                self.frames += frames
                self.first_frame = self.first_frame or time.monotonic()
            case ("took", _) | ("idle",):
                self._feed(worker)
            case ("wrote", _, steps, visited):
                self._count(steps, visited)
            case ("error", line):
                self._fail(worker, line)

    def _check_facts(self, facts: dict[str, Any]) -> None:
        if self.facts is None:
            self.facts = facts
            check_same_source(self.records, facts, self.config, self.out)
            write_note(self.out, {"config": asdict(self.config), "source": facts})

    def _count(self, steps: int, visited: NDArray[np.bool_] | None) -> None:
        self.written += 1
        self.written_frames += steps + 1
        if visited is not None:
            self.visited = visited if self.visited is None else self.visited | visited

    def _fail(self, worker: WorkerProcess, line: str) -> None:
        """A worker's exception: another GL backend may help before the first frame, else nothing does."""
        if not self.first_frame and self._may_fall_back() and any(word in line for word in GL_WORDS):
            self._fall_back(line)
            return
        where = f"seed {worker.running}: " if worker.running is not None else ""
        raise CollectError(where + line)

    def _replace(self, worker: WorkerProcess, why: str) -> None:
        """Take a dead or hung worker out and give its seeds to a new one."""
        if not self.first_frame and not worker.showed_frame:
            if not self._may_fall_back():
                tried = "; ".join([*self.troubles, f"MUJOCO_GL={self.gl}: {why}"])
                raise CollectError(
                    f"no first frame came ({tried}): try `robovae doctor`, or another MUJOCO_GL"
                )
            self._fall_back(why)
            return
        seed = worker.running if worker.running is not None else next(iter(worker.seeds), -1)
        self.failures[seed] += 1
        if self.failures[seed] > self.config.retries:
            raise CollectError(
                f"seed {seed}: its worker failed {self.failures[seed]} times; the last one {why}"
            )
        self._retire(worker)
        self.restarts += 1
        self._tell("restart", f"a worker {why} at seed {seed}: started another")
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
        self.restarts += count
        for _ in range(count):
            self._start_worker()

    def _retire(self, worker: WorkerProcess) -> None:
        self.workers.remove(worker)
        self.pending.extendleft(sorted(worker.seeds, reverse=True))
        worker.kill()

    def _stop(self) -> None:
        """Let workers bring finished episodes to the disk; a second Ctrl-C does not wait for it."""
        self._tell("stop", "waiting for the last files")
        deadline = time.monotonic() + STOP_SECONDS
        for worker in list(self.workers):
            worker.ask_to_stop()
            if not worker.showed_frame:  # it has nothing to save, and may hang
                self.workers.remove(worker)
                worker.kill()
        try:
            while self.workers and time.monotonic() < deadline:
                self._hear_last()
        except KeyboardInterrupt:
            return

    def _hear_last(self) -> None:
        for worker in list(self.workers):
            try:
                if worker.connection.poll(POLL_SECONDS):
                    self._handle_last(worker.connection.recv())
            except (EOFError, OSError):
                self.workers.remove(worker)
                worker.kill()

    def _handle_last(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("wrote", _, steps, visited):
                self._count(steps, visited)

    def _tell(self, kind: EventKind, message: str = "") -> None:
        self.last_event = time.monotonic()
        frames = max(self.frames, self.written_frames)  # frames are told of a few times a second only
        self.on_event(
            CollectEvent(kind, frames, self.written, self.total, self.skipped, self._fps(frames), message)
        )

    def _seconds(self) -> float:
        return time.monotonic() - self.first_frame if self.first_frame else 0.0

    def _fps(self, frames: int) -> float:
        seconds = self._seconds()
        return frames / seconds if seconds else 0.0

    def _sum_up(self) -> CollectSummary:
        steps = self.written_frames - self.written
        summary = CollectSummary(
            path=self.out,
            episodes=self.written,
            skipped=self.skipped,
            frames=self.written_frames,
            seconds=self._seconds(),
            startup_seconds=(self.first_frame or time.monotonic()) - self.started,
            fps=self._fps(self.written_frames),
            workers=min(self.config.workers, self.total),
            restarts=self.restarts,
            mean_length=steps / max(self.written, 1),
            coverage=self._coverage(),
            backend=self.gl,
        )
        self._tell(
            "done", f"{self.written} episodes, {self.written_frames} frames, {summary.fps:.0f} frames/s"
        )
        return summary

    def _coverage(self) -> dict[str, float]:
        if self.visited is None or self.facts is None:
            return {}
        names: Iterable[Mapping[str, Any]] = hinges(self.facts["joints"])
        shares = self.visited.mean(axis=1)
        return {str(joint["name"]): float(share) for joint, share in zip(names, shares, strict=True)}


def _pickled(make_env: MakeEnv, out: Path, config: CollectConfig) -> bytes:
    try:
        return bytes(cloudpickle.dumps((make_env, out, config)))
    except Exception as error:  # pickling runs code of the factory's own, which may raise anything
        raise CollectError(
            f"make_env cannot be sent to workers ({type(error).__name__}: {error}): use a function of a "
            "module or functools.partial of one"
        ) from error
