"""The device and its set-up."""

import pytest
import torch

from robovae.device import DeviceError, flushed_denormals, threads, usable_device

TINY = 1e-40
"""Below the smallest normal number."""


def product() -> float:
    return float(torch.tensor([TINY]) * 1.0)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_one_line(device: str) -> None:
    with pytest.raises(DeviceError, match=f"expected cpu, or cuda .*, received '{device}'") as refused:
        usable_device(device)
    assert "\n" not in str(refused.value)


def test_a_device_that_is_there_is_torch_s() -> None:
    assert usable_device("cpu") == torch.device("cpu")


def fail_on(count: int) -> None:
    with threads(count):
        assert torch.get_num_threads() == count
        raise KeyError(count)


def test_threads_are_as_they_were_even_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError):
        fail_on(before + 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("flushed", [False, True])
def test_denormals_are_flushed_and_then_what_they_were(flushed: bool) -> None:
    known = product() == 0.0
    torch.set_flush_denormal(flushed)
    try:
        with flushed_denormals():
            assert product() == 0.0
        assert (product() == 0.0) is flushed
    finally:
        torch.set_flush_denormal(known)
