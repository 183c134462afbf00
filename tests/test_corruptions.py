"""Self-made corruptions: pictures in, pictures out, broken as the draw says, the same for the same seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robovae.uncertainty.corruptions import KINDS, corrupt

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


@given(st.integers(0, 2**31), st.sampled_from(SHAPES))
@settings(max_examples=30, deadline=None)
def test_corrupted_pictures_stay_in_range_and_follow_the_generator(seed, shape):
    images, others = pictures(shape), pictures(shape, 1)
    before = images.clone()
    first = corrupt(images, others, torch.Generator().manual_seed(seed))
    again = corrupt(images, others, torch.Generator().manual_seed(seed))
    assert torch.equal(first, again)
    assert torch.equal(images, before), "the frames themselves are left alone"
    assert 0.0 <= float(first.min()) <= float(first.max()) <= 1.0
    assert not torch.equal(first, corrupt(images, others, torch.Generator().manual_seed(seed + 1)))
