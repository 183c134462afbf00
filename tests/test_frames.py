"""The pixel boundary: every refusal names the mend, and bytes survive the round trip."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robovae.errors import RobovaeError
from robovae.frames import FrameError, check_frames, to_frames, to_tensor

SHAPE = (16, 24, 3)


def frames(count: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


@given(st.integers(0, 2**32 - 1))
def test_bytes_survive_the_round_trip(seed: int) -> None:
    given_ = frames(seed=seed)
    np.testing.assert_array_equal(to_frames(to_tensor(given_)), given_)


def test_tensors_are_channels_first_in_the_unit_range() -> None:
    given_ = np.zeros((1, *SHAPE), np.uint8)
    given_[0, 3, 5] = (255, 51, 0)
    images = to_tensor(given_)
    assert images.shape == (1, 3, 16, 24)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images[0, :, 3, 5].tolist() == pytest.approx([1.0, 0.2, 0.0])


def test_what_a_decoder_overshoots_is_clipped_and_rounded() -> None:
    images = torch.tensor([-0.5, 0.5, 1.5]).view(1, 3, 1, 1)
    assert to_frames(images).tolist() == [[[[0, 128, 255]]]]


def test_read_only_frames_are_not_written_through() -> None:
    given_ = frames()
    given_.flags.writeable = False
    images = to_tensor(given_)
    images.zero_()
    assert given_.any()


def test_good_frames_pass_uncopied() -> None:
    given_ = frames()
    assert check_frames(given_, SHAPE) is given_
    assert check_frames(given_[:0], SHAPE).shape == (0, *SHAPE)


def test_a_flipped_view_becomes_contiguous() -> None:
    flipped = frames()[:, ::-1]
    checked = check_frames(flipped, SHAPE)
    assert checked.flags.c_contiguous
    np.testing.assert_array_equal(checked, flipped)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (frames()[0], r"received \(16, 24, 3\) uint8; add the batch axis: frames\[None\]"),
        (np.moveaxis(frames(), -1, 1), r"received \(2, 3, 16, 24\) uint8; channels go last"),
        (np.moveaxis(frames()[0], -1, 0), r"received \(3, 16, 24\) uint8; channels go last"),
        (frames()[:, :, :16], r"received \(2, 16, 16, 3\) uint8; render at 16x24 with the RenderSpec"),
        (frames()[..., :1], r"received \(2, 16, 24, 1\) uint8"),
        (np.zeros((2, 16, 24, 4), np.uint8), r"received \(2, 16, 24, 4\) uint8"),
        (np.zeros((0,), np.uint8), r"received \(0,\) uint8"),
        (frames() / 255.0, r"float64; give the camera's own bytes, or \(frames \* 255\)"),
        (frames().astype(np.float32), r"float32; give the camera's own bytes, or \(frames\)\.round"),
        (np.full((1, *SHAPE), np.nan), r"received NaN or infinity; mend what made these frames"),
        (np.full((1, *SHAPE), np.inf), r"received NaN or infinity; mend what made these frames"),
        (np.full((1, *SHAPE), -0.5), r"range -0\.5 to -0\.5; give the camera's own bytes"),
        (np.full((1, *SHAPE), 300.0), r"range 300 to 300; give the camera's own bytes"),
        (frames().astype(np.int64), r"int64; give the camera's own bytes \(uint8\)"),
        (frames().astype(bool), r"bool; give the camera's own bytes \(uint8\)"),
        (frames().astype(object), r"object; give the camera's own bytes \(uint8\)"),
        ([1, 2], r"received list; pass a numpy array"),
        (torch.zeros(1, 16, 24, 3), r"received Tensor; pass a numpy array"),
        (None, r"received NoneType; pass a numpy array"),
    ],
)
def test_other_frames_are_refused_with_the_mend(wrong: object, match: str) -> None:
    with pytest.raises(FrameError, match=match) as caught:
        check_frames(wrong, SHAPE)
    assert "expected (B, 16, 24, 3) uint8 frames" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, RobovaeError)
