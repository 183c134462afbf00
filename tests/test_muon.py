"""Muon: equal singular values, Adam for what is no matrix, steps of Adam's size, and a state that goes on."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robovae.train.muon import Muon, orthogonalised

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
SHAPES = [(24, 24), (16, 96), (96, 16)]
LR = 8e-3


def draws(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def with_condition(shape: tuple[int, int], condition: float, seed: int = 0) -> Tensor:
    """A matrix whose singular values fall evenly in the logarithm from 1 to 1 / condition."""
    left, _, right = torch.linalg.svd(draws(*shape, seed=seed), full_matrices=False)
    values = torch.logspace(0.0, -torch.log10(torch.tensor(condition)).item(), min(shape))
    return left @ values.diag() @ right


def singular_values(matrix: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrix.float())


def moved(make: Make, weight: Tensor, grad: Tensor) -> Tensor:
    """By how much one step moves a weight."""
    parameter = nn.Parameter(weight.clone())
    parameter.grad = grad
    make([parameter]).step()
    return parameter.detach() - weight


def steps(optimizer: torch.optim.Optimizer, weights: list[nn.Parameter], first: int, last: int) -> None:
    for step in range(first, last):
        for weight in weights:
            weight.grad = torch.empty_like(weight).copy_(draws(*weight.shape, seed=step, dtype=weight.dtype))
        optimizer.step()


# Orthogonalising


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 999), st.floats(1e-3, 1e3))
def test_random_matrices_get_singular_values_near_1(rows: int, columns: int, seed: int, scale: float) -> None:
    matrix = draws(rows, columns, seed=seed)
    before = singular_values(matrix)
    here = before > matrix.norm() / 500  # below it they are on their way to 1
    after = singular_values(orthogonalised(scale * matrix))
    assert after[here].min() > 0.6
    assert after.max() < 1.3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_so_do_ill_conditioned_ones_tall_and_wide(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = with_condition(shape, 100.0)
    before, after = singular_values(matrix), singular_values(orthogonalised(matrix.to(dtype)))
    assert before.max() / before.min() == pytest.approx(100.0, rel=1e-2)
    assert after.min() > 0.6
    assert after.max() < 1.3


def test_directions_are_kept() -> None:
    matrix = with_condition((16, 40), 10.0)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    core = left.T @ orthogonalised(matrix) @ right.T
    assert (core - core.diag().diag()).abs().max() < 1e-3
    assert core.diag().min() > 0.6


def test_a_direction_without_gradient_stays_without() -> None:
    one = draws(8, 1) @ draws(1, 12)
    values = singular_values(orthogonalised(one))
    assert 0.6 < values[0] < 1.3
    assert values[1:].max() < 1e-3
    assert not orthogonalised(torch.zeros(3, 5)).any()


# Steps


@pytest.mark.parametrize("shape", SHAPES)
def test_a_matrix_moves_alike_in_all_directions_and_sgd_does_not(shape: tuple[int, int]) -> None:
    weight, grad = draws(*shape, seed=1), with_condition(shape, 100.0)
    equal = singular_values(moved(lambda p: Muon(p, LR), weight, grad))
    assert equal.max() / equal.min() < 2.0
    loud = singular_values(moved(lambda p: torch.optim.SGD(p, LR), weight, grad))  # negative control
    assert loud.max() / loud.min() > 50.0


@pytest.mark.parametrize("shape", [*SHAPES, (32, 3, 4, 4)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_an_update_has_the_size_of_adams_whatever_the_gradients(shape: tuple[int, ...], scale: float) -> None:
    """Of RMS 0.2 lr, as 2502.16982 takes Adam's to be (section 2.2)."""
    step = moved(lambda p: Muon(p, LR), draws(*shape, seed=1), scale * draws(*shape))
    assert step.square().mean().sqrt().item() == pytest.approx(0.2 * LR, rel=0.2)


def test_it_goes_downhill() -> None:
    weight, grad = draws(8, 12, seed=1), draws(8, 12)
    assert (moved(lambda p: Muon(p, LR), weight, grad) * grad).sum() < 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_moves_as_the_matrix_of_its_outputs(layout: torch.memory_format) -> None:
    weight, grad = draws(16, 4, 3, 3, seed=1), draws(16, 4, 3, 3)
    flat = moved(lambda p: Muon(p, LR), weight.flatten(1), grad.flatten(1))
    laid = moved(lambda p: Muon(p, LR), weight.to(memory_format=layout), grad.to(memory_format=layout))
    torch.testing.assert_close(laid.flatten(1), flat, rtol=1e-4, atol=1e-7)


def test_momentum_looks_ahead() -> None:
    """Nesterov: after g and then h, the step is along h + 0.95 m, m = 0.05 (0.95 g + h), up to scale."""
    weight, g, h = nn.Parameter(draws(6, 9, seed=1)), draws(6, 9, seed=2), draws(6, 9, seed=3)
    optimizer = Muon([weight], LR)
    weight.grad = g
    optimizer.step()
    before = weight.detach().clone()
    weight.grad = h
    optimizer.step()
    ahead = 0.05 * h + 0.95 * 0.05 * (0.95 * g + h)
    torch.testing.assert_close(
        weight.detach() - before, -LR * 0.2 * 3.0 * orthogonalised(ahead), rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(7,), ()])
def test_what_is_no_matrix_moves_by_adam(shape: tuple[int, ...]) -> None:
    ours, theirs = (nn.Parameter(draws(*shape, seed=1, dtype=torch.float64)) for _ in range(2))
    adam = torch.optim.Adam([theirs], LR, betas=(0.9, 0.99), eps=1e-8)
    other = nn.Parameter(ours.detach().clone())
    steps(Muon([ours], LR), [ours], 0, 12)
    steps(adam, [theirs], 0, 12)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    steps(torch.optim.Adam([other], LR, betas=(0.9, 0.999)), [other], 0, 12)
    assert not torch.allclose(ours, other, rtol=1e-6, atol=0.0)  # negative control


def test_what_has_no_gradient_stays_and_a_closure_gives_its_loss() -> None:
    weight, still = nn.Parameter(draws(3, 4)), nn.Parameter(draws(3, 4))
    before = still.detach().clone()
    optimizer = Muon([weight, still], LR)

    def closure() -> float:
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    first = optimizer.step(closure)
    assert optimizer.step(closure) < first
    assert torch.equal(still, before)
    assert optimizer.step() is None


# State


def some_weights() -> list[nn.Parameter]:
    conv = draws(8, 3, 4, 4).to(memory_format=torch.channels_last)
    return [nn.Parameter(each) for each in (conv, draws(12, 7), draws(7), torch.tensor(0.5))]


def test_a_state_dict_goes_on_bit_for_bit() -> None:
    weights = some_weights()
    optimizer = Muon(weights, LR)
    steps(optimizer, weights, 0, 3)
    copies = [nn.Parameter(each.detach().clone()) for each in weights]
    restored, forgetful = Muon(copies, 1.0), [nn.Parameter(each.detach().clone()) for each in weights]
    restored.load_state_dict(deepcopy(optimizer.state_dict()))
    for one, its in ((optimizer, weights), (restored, copies), (Muon(forgetful, LR), forgetful)):
        steps(one, its, 3, 5)
    assert all(torch.equal(a, b) for a, b in zip(weights, copies, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(weights, forgetful, strict=True))  # negative control
