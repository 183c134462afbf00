"""Self-made corruptions: pictures in, pictures out, broken as the draw says, the same for the same seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robovae.uncertainty.corruptions import KINDS, bend, corrupt

SHAPES = [(8, 3, 16, 16), (8, 3, 64, 64), (8, 3, 24, 40)]


def pictures(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_kind_gives_pictures_of_the_same_shape(kind, shape):
    images, others = pictures(shape), pictures(shape, 1)
    strength = torch.linspace(0, 1, len(images)).view(-1, 1, 1, 1)
    out = kind(images, others, strength, torch.Generator().manual_seed(2))
    assert out.shape == images.shape
    assert out.isfinite().all()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_at_full_strength_every_picture_is_another(kind):
    images, others = pictures(SHAPES[1]), pictures(SHAPES[1], 1)
    out = kind(images, others, torch.ones(len(images), 1, 1, 1), torch.Generator().manual_seed(2))
    assert ((out - images).abs().flatten(1).mean(1) > 0.02).all()


def sharpness(images: torch.Tensor) -> float:
    """Variance of the second differences along both axes."""
    return float(images.diff(n=2, dim=2).var() + images.diff(n=2, dim=3).var())


def test_a_bend_is_no_blur_which_is_a_fault_to_be_judged_by():
    images = pictures(SHAPES[1])
    averaged = 0.5 * (images + images.roll(1, 3))
    assert sharpness(averaged) < 0.7 * sharpness(images), "the measure sees a blur"
    for amount in (0.0, 0.05, 0.3, 1.0):
        strength = torch.full((len(images), 1, 1, 1), amount)
        bent = bend(images, images, strength, torch.Generator().manual_seed(2))
        assert sharpness(bent) > 0.8 * sharpness(images)


@given(st.integers(0, 2**31), st.sampled_from(SHAPES))
@settings(max_examples=30)
def test_corrupted_pictures_stay_in_range_and_follow_the_generator(seed, shape):
    images, others = pictures(shape), pictures(shape, 1)
    before = images.clone()
    first = corrupt(images, others, torch.Generator().manual_seed(seed))
    again = corrupt(images, others, torch.Generator().manual_seed(seed))
    assert torch.equal(first, again)
    assert torch.equal(images, before), "the frames themselves are left alone"
    assert 0.0 <= float(first.min()) <= float(first.max()) <= 1.0
    assert not torch.equal(first, corrupt(images, others, torch.Generator().manual_seed(seed + 1)))
