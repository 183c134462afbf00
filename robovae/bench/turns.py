"""Processes that are measured in turns: OpenGL reads its settings once a process, each way needs its own."""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym

from robovae.errors import RobovaeError

MakeEnv = Callable[[], gym.Env[Any, Any]]
Turn = Callable[[float], float]
"""Takes seconds, gives frames/s."""

MESA = ("LP_NUM_THREADS",)
START_SECONDS = 180.0


@contextlib.contextmanager
def measured_process(
    serve: Callable[[MakeEnv, int, Connection], None],
    make: MakeEnv,
    count: int,
    name: str,
    variables: dict[str, str],
) -> Iterator[Turn]:
    """Start a process with its own choice of GL settings; yields the function that gives it a turn.

    Args:
        serve: runs in the process, and ends in `serve_turns`.
        make: its first argument, a picklable factory.
        count: its second argument.
        name: of what is measured, for errors.
        variables: of the environment; Mesa's are left out but for these.

    Raises:
        RobovaeError: the process does not start, dies, or says nothing for minutes.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(make, count, theirs))
    with _environment(variables):
        process.start()
    theirs.close()
    try:
        _receive(ours, START_SECONDS, name)

        def turn(seconds: float) -> float:
            ours.send(seconds)
            return float(_receive(ours, START_SECONDS + 10 * seconds, name))

        yield turn
    finally:
        ours.close()
        process.join(10.0)
        process.kill()


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """What a new process is to inherit: Mesa's own defaults, except for `variables`."""
    before = {name: os.environ.pop(name, None) for name in MESA}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _receive(connection: Connection, seconds: float, who: str) -> Any:
    """The next message; an error in the other process, its death or its silence become a RobovaeError."""
    try:
        if not connection.poll(seconds):
            raise RobovaeError(f"{who} gave no frame for {seconds:.0f} s; try MUJOCO_GL=osmesa")
        answer = connection.recv()
    except EOFError as error:
        raise RobovaeError(f"{who} died while drawing; try MUJOCO_GL=osmesa, or robovae doctor") from error
    if isinstance(answer, str):
        raise RobovaeError(f"{who} cannot be measured: {answer}")
    return answer


def serve_turns(begin: Callable[[], tuple[Callable[[], object], int]], connection: Connection) -> None:
    """In the other process: answer each message, a number of seconds, with the frames/s over so long.

    Args:
        begin: gives a function that draws, and how many frames a call of it draws.
        connection: to the process that measures.
    """
    try:
        draw, frames = begin()
        draw()
    except Exception as error:  # whatever the environment raises is told in the parent
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send(True)
    with contextlib.suppress(EOFError):
        while True:
            seconds = connection.recv()
            start, calls = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                draw()
                calls += 1
            connection.send(calls * frames / (time.perf_counter() - start))
