"""Where torch computes and how: its device, its threads, and what it makes of denormal numbers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from robovae.errors import RobovaeError


class DeviceError(RobovaeError):
    """A device that torch does not have."""


def usable_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        DeviceError: torch knows no such device, or it is not there.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (AssertionError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise DeviceError(
            f"device: expected cpu, or cuda where there is one, received {name!r}: {why}"
        ) from error
    return device


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch on so many threads; single frames are slower on more than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Denormal numbers taken for 0, which a processor handles three times as slowly."""
    before = float(torch.tensor([1e-40]) * 1.0) == 0.0  # the processor's state is the caller's
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
