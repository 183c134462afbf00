"""Dreams: exact under known dynamics, else the filter's own coasting; what policies see; one-line errors."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robovae.belief import Belief, BeliefError, Perceiver
from robovae.cli.dream import DreamOn
from robovae.cli.parse import parse
from robovae.collect import CollectConfig, collect
from robovae.control import BeliefFeatures
from robovae.dreaming import Dreamer, DreamError, dream, latent_deviation
from robovae.dynamics import FilterDynamics
from robovae.episodes import EpisodeStore
from robovae.errors import RobovaeError
from robovae.filter import BeliefFilter, save_dynamics
from robovae.frames import FrameError
from robovae.gaussian import Gaussian
from robovae.run.directory import RunError, RunFacts, build_model, load_model, save_model
from robovae.uncertainty import NotCalibratedError
from robovae.vae import ModelConfig
from robovae.video import VideoError, write_video
from tests.toy_env import make_toy

D, A, SIZE = 6, 2, 16
SHARP = 1e-4
SIZES = ModelConfig(
    latent_dim=D, channels=8, deep_channels=8, decoder_channels=8, global_channels=4, hidden=16,
    dynamics_hidden=8,
)  # fmt: skip


class Inertia(FilterDynamics):
    """Constant velocity, changed by the action alone: z'' = z' + (z' - z) + thrust a."""

    def __init__(self, thrust: np.ndarray, width: float = 0.5) -> None:
        super().__init__(D, A, D + 1)
        self.thrust, self.width = torch.tensor(thrust, dtype=torch.float32), width

    def step(self, last: Gaussian, action: Tensor, memory: Tensor) -> tuple[Gaussian, Tensor]:
        """The memory is the z before, and whether there was one."""
        z = last.mu
        velocity = (z - memory[:, :D]) * memory[:, D:] + action @ self.thrust
        log_sigma = torch.full_like(z, np.log(self.width))
        return Gaussian(z + velocity, log_sigma), torch.cat([z, torch.ones(len(z), 1)], dim=1)


def random_dynamics() -> FilterDynamics:
    torch.manual_seed(3)
    dynamics = FilterDynamics(D, A, 8)
    torch.nn.init.normal_(dynamics.head.weight, std=0.3)
    return dynamics.requires_grad_(False)


@pytest.fixture(scope="module")
def perceiver() -> Perceiver:
    torch.manual_seed(0)
    return Perceiver(build_model(SIZES, RunFacts((SIZE, SIZE, 3), A, "Toy-v0", None)))


@pytest.fixture(scope="module")
def dreamer(perceiver: Perceiver) -> Dreamer:
    return Dreamer(perceiver, random_dynamics())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "toy"
    config = CollectConfig(episodes=3, seed="test", workers=1)
    collect(partial(make_toy, max_steps=12), path, config)
    return path


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    spec = EpisodeStore(data).render_spec
    save_model(path, build_model(SIZES, RunFacts((SIZE, SIZE, 3), A, "Toy-v0", spec)))
    save_dynamics(path, random_dynamics())
    return path


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def thrusts(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, A)).astype(np.float32)


def seen(mu: np.ndarray) -> Belief:
    """Beliefs without doubt."""
    return Belief(mu, np.full_like(mu, SHARP))


# ---- what is dreamt


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 25))
@settings(max_examples=25)
def test_motion_under_known_forces_is_dreamt_exactly(
    perceiver: Perceiver, seed: int, begin: int, steps: int
) -> None:
    rng = np.random.default_rng(seed)
    thrust, actions = 0.1 * rng.normal(size=(A, D)), rng.uniform(-1, 1, (begin + steps - 1, A))
    # The filter's memory begins empty, so the first step has no velocity; afterwards forces add up.
    velocity = np.cumsum(actions @ thrust, axis=0)
    path = rng.normal(size=D) + np.concatenate([np.zeros((1, D)), np.cumsum(velocity, axis=0)])
    start = seen(path[:begin]), actions[: begin - 1]
    imagined = Dreamer(perceiver, Inertia(thrust)).imagine(actions[begin - 1 :], start, steps)
    np.testing.assert_allclose(imagined.z, path[begin:], atol=2e-3)
    dreamt, held = imagined.errors(path[begin:].astype(np.float32))
    assert dreamt.max() < 2e-3
    expected = np.sqrt(np.square(path[begin:] - path[begin - 1]).mean(axis=1))
    np.testing.assert_allclose(held, expected, atol=1e-5)


def test_one_frame_has_no_velocity_and_misses(perceiver: Perceiver) -> None:  # negative control
    path = np.arange(12.0)[:, None] * np.full(D, 0.1)
    inertia, still = Inertia(np.zeros((A, D))), np.zeros((10, A))
    two = Dreamer(perceiver, inertia).imagine(still, (seen(path[:2]), still[:1]), 10)
    one = Dreamer(perceiver, inertia).imagine(still, seen(path[1:2]), 10)
    np.testing.assert_allclose(two.z, path[2:], atol=1e-5)
    np.testing.assert_allclose(one.z, np.repeat(path[1:2], 10, axis=0), atol=1e-5)


def test_a_dream_of_means_is_the_filter_coasting(dreamer: Dreamer) -> None:
    frames, actions = noise(4), thrusts(11)
    imagined = dreamer.imagine(actions[3:], (frames, actions[:3]), 8)
    coasting = BeliefFilter(dreamer.dynamics)
    beliefs = dreamer.perceiver(frames)
    coasting.update(beliefs[0])
    for step in (1, 2, 3):
        coasting.update(beliefs[step], actions[step - 1])
    for step in range(8):
        belief = coasting.update(coasting.silence(), actions[3 + step])
        np.testing.assert_allclose(imagined.z[step], belief.mu[0], atol=1e-4)
        np.testing.assert_allclose(imagined.sigma[step], belief.sigma[0], rtol=1e-4)


def test_draws_are_the_means_and_deviations_with_the_generators_noise(dreamer: Dreamer) -> None:
    start, actions = noise(1)[0], thrusts(5)
    drawn = dreamer.imagine(actions, start, 5, rng=np.random.default_rng(7))
    expected = np.random.default_rng(7).standard_normal((5, D), np.float32)
    np.testing.assert_allclose((drawn.z - drawn.mu) / drawn.sigma, expected, atol=1e-4)
    again = dreamer.imagine(actions, start, 5, rng=np.random.default_rng(7))
    assert (drawn.z == again.z).all()
    mean = dreamer.imagine(actions, start, 5)
    assert (mean.z == mean.mu).all()
    assert (mean.mu[0] == drawn.mu[0]).all()
    assert (mean.z != drawn.z).all()


def test_frames_are_the_latents_decoded(dreamer: Dreamer) -> None:
    dreamt = dreamer.dream(thrusts(3), noise(1)[0], 3)
    assert (dreamt.frames == dreamer.perceiver.decode(dreamt.z)).all()
    assert dreamt.frames.shape == (3, SIZE, SIZE, 3)
    assert repr(dreamt) == "Dream(3 steps, z (3, 6), actions (3, 2))"


def test_a_frame_its_belief_and_a_sequence_of_one_begin_alike(dreamer: Dreamer) -> None:
    frames, actions = noise(1), thrusts(4)
    starts = (frames[0], frames, dreamer.perceiver(frames), (frames, np.zeros((0, A))))
    first, *others = (dreamer.imagine(actions, start, 4).z for start in starts)
    assert all((first == other).all() for other in others)


# ---- who acts


@pytest.mark.parametrize(
    ("features", "stack"), [("mu", 1), ("mu_sigma", 1), ("mu", 2), ("filtered", 1), ("filtered", 2)]
)
def test_a_policy_sees_what_it_would_see_in_the_loop(dreamer: Dreamer, features: str, stack: int) -> None:
    """Of the beginning what the frames give, filtered or not; then what a filter that coasts expects."""
    frames, actions, shown = noise(3), thrusts(2), []

    def policy(x: np.ndarray) -> np.ndarray:
        shown.append(x)
        return np.tanh(x[:A])

    imagined = dreamer.imagine(policy, (frames, actions), 4, features=features, stack=stack)
    loop = BeliefFeatures(D, features, stack, BeliefFilter(dreamer.dynamics))
    coasting = BeliefFilter(dreamer.dynamics)
    beliefs = dreamer.perceiver(frames)
    last, x = coasting.update(beliefs[0]), loop.begin(beliefs[0])
    for step, action in enumerate(actions, 1):
        last = coasting.update(beliefs[step], action)
        x = loop.update(beliefs[step], action)
    if features != "filtered":
        assert np.abs(last.mu - beliefs[2].mu).max() > 1e-3  # so that it can be seen which one is shown
    for step in range(4):
        np.testing.assert_allclose(shown[step], x[0], atol=1e-5)
        action = np.tanh(shown[step][:A])
        np.testing.assert_array_equal(imagined.actions[step], action)
        last = coasting.update(coasting.silence(), action)
        x = loop.update(coasting.silence() if features == "filtered" else last, action)


def test_a_stack_holds_the_beginning_and_then_the_dream(dreamer: Dreamer) -> None:
    shown: list[np.ndarray] = []

    def policy(x: np.ndarray) -> np.ndarray:
        shown.append(x.reshape(3, D))
        return np.zeros(A)

    imagined = dreamer.imagine(policy, noise(1)[0], 4, stack=3)
    assert (shown[0] == shown[0][0]).all()
    assert (shown[3] == imagined.z[:3]).all()


class Trained:
    """As `BeliefPolicy`: batches in, batches out, and knows what it sees."""

    features, stack = "mu_sigma", 2

    def act(self, x: np.ndarray) -> np.ndarray:
        assert x.shape == (1, 2 * 2 * D)
        return np.tanh(x[:, :A])


def test_a_trained_policy_brings_its_own_features(dreamer: Dreamer) -> None:
    frame = noise(1)[0]
    own = dreamer.imagine(Trained(), frame, 5, features="mu")
    bare = dreamer.imagine(lambda x: np.tanh(x[:A]), frame, 5, features="mu_sigma", stack=2)
    assert (own.z == bare.z).all()
    recorded = dreamer.imagine(own.actions, frame, 5)
    assert (own.z == recorded.z).all()


# ---- what came of it


def test_a_dream_that_comes_true_has_no_error(dreamer: Dreamer) -> None:
    dreamt = dreamer.dream(thrusts(6), noise(1)[0], 6)
    found = dreamt.compare(dreamt.frames, dreamer.perceiver)
    assert (found.pixel == 0).all()
    mean = np.full((6, SIZE, SIZE, 3), 128, np.float32)  # of a model that has not been trained
    expected = np.square((dreamt.frames - mean) / 255).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found.pixel_mean, expected, rtol=1e-5)


def test_errors_are_those_of_what_the_frames_say(dreamer: Dreamer) -> None:
    start, real = noise(1)[0], noise(4, seed=1)
    dreamt = dreamer.dream(thrusts(6), start, 6)
    mu, first = dreamer.perceiver(real).mu, dreamer.perceiver(start[None]).mu
    found = dreamt.compare(real, dreamer.perceiver, deviation=0.5)
    np.testing.assert_allclose(found.latent, 2 * np.sqrt(((dreamt.z[:4] - mu) ** 2).mean(1)), rtol=1e-5)
    np.testing.assert_allclose(found.latent_hold, 2 * np.sqrt(((first - mu) ** 2).mean(1)), rtol=1e-5)
    drawn = dreamer.perceiver.decode(mu).astype(float)
    np.testing.assert_allclose(
        found.pixel_seen, np.square((drawn - real) / 255).mean(axis=(1, 2, 3)), rtol=1e-4
    )
    rows = json.loads(json.dumps(found.rows()))
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row["latent"] for row in rows] == found.latent.tolist()


def test_the_deviation_is_the_unit_in_which_the_mean_errs_by_one() -> None:
    mu = np.random.default_rng(0).normal(size=(500, D)).astype(np.float32) * np.arange(D, dtype=np.float32)
    rms = np.sqrt(np.square(mu - mu.mean(0)).mean())
    assert latent_deviation(mu) == pytest.approx(rms, rel=1e-5)


def test_a_filmstrip_shows_what_came_above_what_was_dreamt(dreamer: Dreamer) -> None:
    dreamt, real = dreamer.dream(thrusts(9), noise(1)[0], 9), noise(9)
    strip = dreamt.filmstrip(real, every=3)
    factor = strip.shape[0] // (2 * SIZE + 2)
    small = strip[::factor, ::factor]
    assert small.shape == (2 * SIZE + 2, 3 * SIZE + 4, 4)
    for column, step in enumerate((2, 5, 8)):
        left = column * (SIZE + 2)
        assert (small[:SIZE, left : left + SIZE, :3] == real[step]).all()
        assert (small[SIZE + 2 :, left : left + SIZE, :3] == dreamt.frames[step]).all()
    alone = dreamt.filmstrip()
    assert alone.shape[0] * (9 * SIZE + 16) == alone.shape[1] * SIZE


@pytest.mark.parametrize("ending", [".webp", ".mp4"])
def test_a_video_holds_the_frames_at_their_speed(dreamer: Dreamer, tmp_path: Path, ending: str) -> None:
    smooth = np.linspace(40, 200, 4 * SIZE).reshape(4, 1, SIZE, 1)
    real = np.broadcast_to(smooth, (4, SIZE, SIZE, 3)).astype(np.uint8)
    dreamt = dreamer.dream(thrusts(6), real[0], 6)
    path = dreamt.video(tmp_path / "new" / f"a{ending}", real, fps=10)
    assert [one.name for one in path.parent.iterdir()] == [f"a{ending}"]
    frames, seconds = watch(path)
    assert seconds == pytest.approx(0.4)
    assert frames.shape == (4, 256, 512, 3)
    small = frames[:, 8::16, 8::16].astype(int)
    wanted = np.concatenate([real, dreamt.frames[:4]], axis=2)
    assert np.abs(small - wanted).mean() < (1e-9 if ending == ".webp" else 6)
    assert np.abs(small[::-1] - wanted).mean() > 10  # negative control


def watch(path: Path) -> tuple[np.ndarray, float]:
    """Frames (T, H, W, 3) RGB and how long they take."""
    if path.suffix != ".mp4":
        _, film = cv2.imreadanimation(str(path))
        return np.stack([frame[..., 2::-1] for frame in film.frames]), sum(film.durations) / 1000
    video, frames = cv2.VideoCapture(str(path)), []
    rate = video.get(cv2.CAP_PROP_FPS)
    while (shot := video.read())[0]:
        frames.append(shot[1][..., ::-1])
    return np.stack(frames), len(frames) / rate


# ---- bad input


def one_line(error: pytest.ExceptionInfo[RobovaeError]) -> bool:
    return isinstance(error.value, RobovaeError) and "\n" not in str(error.value)


ONE = np.zeros((SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize(
    ("policy", "start", "steps", "kind", "words"),
    [
        (thrusts(3), ONE, 0, DreamError, "steps: expected 1 or more, received 0"),
        (thrusts(3), ONE, 4, DreamError, r"expected actions \(4, 2\), received \(3, 2\)"),
        (np.zeros((3, 5)), ONE, 3, DreamError, r"expected actions \(3, 2\), received \(3, 5\)"),
        (np.full((3, 2), np.nan), ONE, 3, DreamError, "expected finite actions"),
        (lambda x: np.zeros(3), ONE, 3, DreamError, r"policy: expected actions \(2,\), received \(3,\)"),
        (lambda x: np.full(2, np.inf), ONE, 3, DreamError, "policy: expected finite actions"),
        ("fast", ONE, 3, DreamError, "expected a BeliefPolicy, a callable or an array"),
        (thrusts(3), noise(4), 3, DreamError, "expected the 3 actions between 4 frames, received none"),
        (thrusts(3), (noise(4), thrusts(4)), 3, DreamError, r"start: expected actions \(3, 2\), received"),
        (thrusts(3), noise(0), 3, DreamError, "expected one frame or more, received none"),
        (thrusts(3), ONE[:8], 3, FrameError, r"received \(1, 8, 16, 3\)"),
        (thrusts(3), ONE / 255, 3, FrameError, "received .* float64"),
        (thrusts(3), seen(np.zeros((1, 4))), 3, BeliefError, r"expected mu \(1, 6\), received \(1, 4\)"),
        (thrusts(3), seen(np.full((1, D), np.nan)), 3, BeliefError, "expected finite numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_dreamt_is_refused(
    dreamer: Dreamer, policy: Any, start: Any, steps: int, kind: type[RobovaeError], words: str
) -> None:
    with pytest.raises(kind, match=words) as error:
        dreamer.dream(policy, start, steps)
    assert one_line(error)


def test_unknown_features_and_those_of_a_state_are_refused(dreamer: Dreamer) -> None:
    with pytest.raises(DreamError, match="expected one of mu, mu_sigma, filtered, received 'all'"):
        dreamer.imagine(lambda x: np.zeros(A), ONE, 2, features="all")


def test_eyes_and_dynamics_are_of_one_run(perceiver: Perceiver) -> None:
    with pytest.raises(DreamError, match="expected 6 latents, received 4"):
        Dreamer(perceiver, FilterDynamics(4, A, 8))


def test_more_future_than_was_dreamt_is_refused(dreamer: Dreamer, tmp_path: Path) -> None:
    dreamt = dreamer.dream(thrusts(3), ONE, 3)
    uses = (
        lambda real: dreamt.compare(real, dreamer.perceiver),
        dreamt.filmstrip,
        partial(dreamt.video, tmp_path / "a.webp"),
    )
    for use in uses:
        with pytest.raises(DreamError, match="real: expected 1 to 3 frames, received 4"):
            use(noise(4))
        with pytest.raises(FrameError, match="expected"):
            use(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(DreamError, match="every: expected 1 to 3, received 4"):
        dreamt.filmstrip(every=4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["mp4", "webp"])
def test_a_full_disk_leaves_the_video_that_was_there(tmp_path: Path, ending: str) -> None:
    path = write_video(tmp_path / f"a.{ending}", noise(2), 10)
    before = path.read_bytes()
    code = f"""
import resource, sys
from pathlib import Path
import numpy as np
from robovae.video import VideoError, write_video
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
frames = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
try:
    write_video(Path({str(path)!r}), frames, 10)
except VideoError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be written; free space" in done.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_of_another_kind_or_speed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"ending in \.webp, \.mp4, received '\.avi'"):
        write_video(tmp_path / "a.avi", noise(2), 10)
    with pytest.raises(VideoError, match="fps: expected above 0"):
        write_video(tmp_path / "a.mp4", noise(2), 0)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_filter_or_a_model_is_refused(run: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "bare", load_model(run))
    with pytest.raises(NotCalibratedError, match=r"expected a filter \(filter.safetensors\), received none"):
        dream(tmp_path / "bare", thrusts(2), ONE, 2)
    with pytest.raises(RunError, match="expected a trained run"):
        dream(tmp_path, thrusts(2), ONE, 2)


def test_a_run_dreams_as_its_parts_do(run: Path, data: Path) -> None:
    frame = EpisodeStore(data)[0].image[0]
    parts = Dreamer(Perceiver.load(run), random_dynamics())
    assert (dream(run, thrusts(4), frame, 4).z == parts.imagine(thrusts(4), frame, 4).z).all()


# ---- the command


def command(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    assert parse(DreamOn, [str(word) for word in words], "robovae dream").run() == 0
    return capsys.readouterr().out


def test_a_stack_of_nothing_is_refused(dreamer: Dreamer) -> None:
    with pytest.raises(DreamError, match="stack: expected 1 or more, received 0"):
        dreamer.dream(lambda x: np.zeros(2), ONE, 3, features="filtered", stack=0)


def test_a_seed_that_is_none_is_one_line(run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DreamError, match="--seed: expected at least 0, received -1"):
        command(capsys, run, "--data", data, "--sample", "--seed", -1)


def test_the_command_writes_both_files_and_prints_the_errors(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = json.loads(
        command(capsys, run, "--data", data, "--steps", 6, "--out", tmp_path / "a.mp4", "--json")
    )
    assert said["written"] == [str(tmp_path / "a.mp4"), str(tmp_path / "a.png")]
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "a.png"}
    episode = EpisodeStore(data)[0]
    frames, actions = np.array(episode.image), np.array(episode.action)
    dreamt = dream(run, actions[4:10], (frames[:5], actions[:4]), 6)
    perceiver = Perceiver.load(run)
    unit = latent_deviation(perceiver(EpisodeStore(data).frames(np.arange(39))).mu)
    expected = dreamt.compare(frames[5:11], perceiver, unit).rows()
    assert [row["step"] for row in said["error"]] == [1, 2, 3, 4, 5, 6]
    for row, other in zip(said["error"], expected, strict=True):
        assert row == pytest.approx(other, rel=1e-3)


def test_by_default_it_dreams_the_first_episode_to_its_end(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = command(capsys, run, "--data", data)
    assert "steps    8" in out
    assert "latent hold" in out
    assert (run / "dreams" / "20000.webp").is_file()


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["--episode", 7], "--episode: expected a seed of the test split, 20000 to 20002, received 7"),
        (["--steps", 9], "--steps: expected 1 to 8, where the episode ends, received 9"),
        (["--steps", 0], "steps: expected 1 or more, received 0"),
        (["--begin", 13], "--begin: expected 1 to 12, received 13"),
        (["--policy", "fast"], "expected a trained policy"),
        (["--out", "a.png"], "expected a name ending in .webp"),
    ],
)
def test_the_command_refuses_in_one_line(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str], words: list[Any], refusal: str
) -> None:
    with pytest.raises(RobovaeError, match=refusal) as error:
        command(capsys, run, "--data", data, *words)
    assert one_line(error)
