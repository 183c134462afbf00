"""Belief and Perceiver: frames in, numbers out, and nothing else accepted."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import robovae
from robovae.belief import Belief, BeliefError, Perceiver
from robovae.errors import RobovaeError
from robovae.frames import FrameError
from robovae.gaussian import Gaussian, kl
from robovae.run.directory import RunError, RunFacts, build_model, save_model
from robovae.vae import ModelConfig

SPEC = {"height": 16, "width": 24, "camera": None}
FACTS = RunFacts((16, 24, 3), 2, "Toy-v0", SPEC)


def fresh() -> Perceiver:
    torch.manual_seed(0)
    return Perceiver(build_model(ModelConfig.tiny(), FACTS))


@pytest.fixture(scope="module")
def perceiver() -> Perceiver:
    return fresh()


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 24, 3), dtype=np.uint8)


def belief(count: int = 5) -> Belief:
    rng = np.random.default_rng(0)
    local = Belief(rng.normal(size=(count, 4, 2, 3)), rng.uniform(0.1, 1, (count, 4, 2, 3)))
    return Belief(rng.normal(size=(count, 8)), rng.uniform(0.1, 1, (count, 8)), local)


def test_a_belief_says_its_shapes_and_not_its_data() -> None:
    assert repr(belief()) == "Belief(mu (5, 8), sigma (5, 8), local (5, 4, 2, 3))"
    assert repr(belief().local) == "Belief(mu (5, 4, 2, 3), sigma (5, 4, 2, 3))"


def test_indexing_keeps_the_batch_axis_and_takes_the_grid_along() -> None:
    whole = belief()
    assert len(whole) == 5
    for index, rows in (
        (2, [2]),
        (-1, [4]),
        (slice(1, 3), [1, 2]),
        (np.arange(5) > 2, [3, 4]),
        ([0, 4], [0, 4]),
    ):
        part = whole[index]
        np.testing.assert_array_equal(part.mu, whole.mu[rows])
        np.testing.assert_array_equal(part.sigma, whole.sigma[rows])
        assert part.local is not None
        assert whole.local is not None
        np.testing.assert_array_equal(part.local.mu, whole.local.mu[rows])
    assert [len(one) for one in whole] == [1] * 5
    with pytest.raises(IndexError, match="from 0 to 4, received 5"):
        whole[5]


def test_a_belief_is_float32_and_cannot_be_reassigned() -> None:
    whole = belief()
    assert whole.mu.dtype == whole.sigma.dtype == np.float32
    with pytest.raises(AttributeError):
        whole.mu = whole.sigma  # type: ignore[misc]


@pytest.mark.parametrize("sigma", [0.0, -1.0, np.nan])
def test_sigma_is_a_positive_deviation_or_refused(sigma: float) -> None:
    with pytest.raises(BeliefError, match="expected standard deviations above 0"):
        Belief(np.zeros((1, 2)), np.array([[1.0, sigma]]))


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((3,), (3,))])
def test_shapes_that_are_no_batch_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(BeliefError, match="expected mu and sigma of one shape"):
        Belief(np.zeros(shapes[0]), np.ones(shapes[1]))


def test_a_grid_of_other_frames_is_refused() -> None:
    with pytest.raises(BeliefError, match="local: expected 2 frames, received 5"):
        Belief(np.zeros((2, 8)), np.ones((2, 8)), belief().local)


def test_information_is_the_kl_to_the_prior() -> None:
    whole = belief()
    q = Gaussian(torch.from_numpy(whole.mu), torch.from_numpy(np.log(whole.sigma)))
    expected = kl(q, Gaussian.standard(q.mu)).sum(1).numpy()
    np.testing.assert_allclose(whole.information, expected, rtol=1e-4)
    assert Belief(np.zeros((3, 8)), np.ones((3, 8))).information.tolist() == [0.0] * 3
    assert whole.local is not None
    assert whole.local.information.shape == (5,)


def test_frames_become_beliefs_at_both_levels(perceiver: Perceiver) -> None:
    found = perceiver(frames(3))
    assert repr(found) == "Belief(mu (3, 8), sigma (3, 8), local (3, 4, 2, 3))"
    assert (found.sigma < 1).all()
    assert not np.allclose(found.mu[0], found.mu[1])


def test_batches_are_parted_and_joined(perceiver: Perceiver) -> None:
    many = frames(600)
    whole, some = perceiver(many), perceiver(many[520:530])
    assert len(whole) == 600
    np.testing.assert_allclose(whole.mu[520:530], some.mu, atol=1e-5)
    assert perceiver.reconstruct(many).shape == many.shape
    assert perceiver.decode(whole.mu).shape == many.shape
    assert len(perceiver(many[:0])) == 0


def test_what_a_perceiver_knows_of_its_run(perceiver: Perceiver) -> None:
    assert (perceiver.env_id, perceiver.frame_shape, perceiver.latent_dim) == ("Toy-v0", (16, 24, 3), 8)
    assert perceiver.render_spec == SPEC
    assert repr(perceiver) == "Perceiver(Toy-v0, frames (16, 24, 3) -> 8 latents)"


def test_beliefs_outlive_the_call_and_the_frames_stay_as_they_are(perceiver: Perceiver) -> None:
    first = frames(1)
    before = first.copy()
    found = perceiver(first)
    kept = found.mu.copy()
    perceiver(frames(1, seed=9))
    np.testing.assert_array_equal(found.mu, kept)
    np.testing.assert_array_equal(first, before)


def test_samples_depend_on_the_seed_alone(perceiver: Perceiver) -> None:
    first = perceiver.sample(4, seed=1)
    assert first.shape == (4, 16, 24, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(perceiver.sample(4, seed=1), first)
    np.testing.assert_array_equal(perceiver.sample(2, seed=1), first[:2])
    assert not np.array_equal(perceiver.sample(4, seed=2), first)


def test_a_walk_begins_and_ends_with_its_frames(perceiver: Perceiver) -> None:
    a, b = frames(2)
    walk = perceiver.interpolate(a, b, 5)
    ends = perceiver.decode(perceiver(np.stack([a, b])).mu)
    assert walk.shape == (5, 16, 24, 3)
    for own, end in ((walk[0], ends[0]), (walk[-1], ends[1])):
        assert np.abs(own.astype(int) - end).max() <= 1
    np.testing.assert_array_equal(perceiver.interpolate(a[None], b[None], 5), walk)


def test_a_traversal_moves_one_latent(perceiver: Perceiver) -> None:
    frame = frames(1)
    z = np.repeat(perceiver(frame).mu, 3, axis=0)
    z[:, 5] = (-2, 0, 2)
    np.testing.assert_array_equal(perceiver.traverse(frame[0], 5, steps=3, span=2.0), perceiver.decode(z))


@pytest.mark.parametrize("dim", [-1, 8])
def test_there_is_no_dimension_past_the_last(perceiver: Perceiver, dim: int) -> None:
    with pytest.raises(BeliefError, match=f"dim: expected 0 to 7, received {dim}"):
        perceiver.traverse(frames(1)[0], dim)


@pytest.mark.parametrize("method", ["__call__", "reconstruct"])
def test_other_frames_are_refused(perceiver: Perceiver, method: str) -> None:
    look = getattr(perceiver, method)
    with pytest.raises(FrameError, match="render at 16x24 with the RenderSpec of the run"):
        look(frames(2)[:, :, :16])
    with pytest.raises(FrameError, match="float32; give the camera's own bytes"):
        look(np.full((1, 16, 24, 3), 0.5, np.float32))
    with pytest.raises(FrameError, match="NaN or infinity"):
        look(np.full((1, 16, 24, 3), np.nan))
    with pytest.raises(FrameError, match="channels go last"):
        look(np.moveaxis(frames(1), -1, 1))
    with pytest.raises(FrameError, match="add the batch axis"):
        look(frames(1)[0])


def test_walks_take_one_frame_at_each_end(perceiver: Perceiver) -> None:
    with pytest.raises(FrameError, match="expected one frame"):
        perceiver.interpolate(frames(2), frames(1), 3)
    with pytest.raises(FrameError, match="uint8 frames, received"):
        perceiver.traverse([1, 2, 3], 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("z", "match"),
    [
        (np.zeros((2, 7)), r"expected \(B, 8\), received \(2, 7\)"),
        (np.zeros(8), r"expected \(B, 8\), received \(8,\)"),
        (np.full((1, 8), np.nan), "expected finite latents"),
        (np.full((1, 8), np.inf), "expected finite latents"),
    ],
)
def test_other_latents_are_refused(perceiver: Perceiver, z: np.ndarray, match: str) -> None:
    with pytest.raises(BeliefError, match=match):
        perceiver.decode(z)


def test_a_run_directory_gives_the_same_beliefs(perceiver: Perceiver, tmp_path: Path) -> None:
    save_model(tmp_path / "run", perceiver.model)
    loaded = robovae.load(tmp_path / "run")
    assert isinstance(loaded, robovae.Perceiver)
    np.testing.assert_array_equal(loaded(frames(3)).mu, perceiver(frames(3)).mu)
    assert loaded.render_spec == SPEC
    assert robovae.load(str(tmp_path / "run")).env_id == "Toy-v0"


def test_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected a trained run") as caught:
        robovae.load(tmp_path / "nowhere")
    assert isinstance(caught.value, RobovaeError)
    assert "\n" not in str(caught.value)


def test_robovae_names_its_surface_and_nothing_else() -> None:
    assert {"load", "Belief", "Perceiver", "__version__"} <= set(dir(robovae))
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = robovae.lode


def test_importing_robovae_leaves_torch_alone_until_something_is_loaded() -> None:
    code = "import sys, robovae; print('torch' in sys.modules); robovae.load; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
