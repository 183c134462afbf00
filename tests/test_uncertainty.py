"""Denoising, trust, corruptions, scores, and a calibrated run from end to end on toy frames."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import robovae
from robovae.belief import Perceiver
from robovae.dynamics import FilterDynamics, widen
from robovae.episodes import EpisodeError, EpisodeStore, write_episode
from robovae.filter import load_dynamics, save_dynamics
from robovae.frames import FrameError, to_tensor
from robovae.gaussian import Gaussian, kl
from robovae.judge import Footage
from robovae.monitor import CalibrationError, MonitorError
from robovae.monitor.calibration import FORMAT
from robovae.run.directory import RunError, RunFacts, build_model, load_model, save_model
from robovae.run.files import CALIBRATION
from robovae.uncertainty import (
    SCORES,
    TEMPORAL,
    CalibrateConfig,
    FrameMonitor,
    NotCalibratedError,
    Scorer,
    calibrate_run,
)
from robovae.uncertainty.calibrate import _parted
from robovae.uncertainty.corruptions import KINDS, NEW, SEEN_THROUGH, corrupt, mosaic, nothing
from robovae.uncertainty.denoising import (
    TAIL,
    DenoisingEncoder,
    fit_denoising,
    tailed_misfit,
)
from robovae.uncertainty.fitting import _Beliefs, _fit_trust
from robovae.uncertainty.following import Follower, temporal_scores
from robovae.uncertainty.look import ORDERS, Look, look, power
from robovae.uncertainty.model import FILE, FORM, TRUST_SCORES, load_uncertainty
from robovae.uncertainty.part import Part
from robovae.uncertainty.scores import Mahalanobis, Strangeness
from robovae.uncertainty.trust import Trust, disagreement, intersection, misfit, trusted
from robovae.vae import ModelConfig
from tests.test_train import toy_episode
from tests.toy_beliefs import make_filter

LONE = st.tuples(st.floats(-5, 5), st.floats(-6.5, -1e-2))


def gaussian(pair: tuple[float, float]) -> Gaussian:
    return Gaussian(torch.tensor([[pair[0]]]), torch.tensor([[pair[1]]]))


class TestWiden:
    """Noise on the message of a belief."""

    @given(LONE)
    def test_no_noise_changes_nothing(self, pair):
        lone = gaussian(pair)
        same = widen(lone, torch.zeros(1, 1))
        assert torch.allclose(same.mu, lone.mu, atol=1e-5)
        assert torch.allclose(same.log_sigma, lone.log_sigma, atol=1e-4)

    @given(LONE, st.floats(0, 1e4))
    def test_it_is_the_prior_times_the_noisier_message(self, pair, noise):
        lone = gaussian(pair)
        variance = math.exp(2 * pair[1])
        precision = 1 / (variance / (1 - variance) + noise)
        location = pair[0] / (1 - variance)
        total = widen(lone, torch.tensor([[noise]]))
        assert float(total.sigma) == pytest.approx((1 + precision) ** -0.5, rel=1e-3)
        assert float(total.mu) == pytest.approx(location * precision / (1 + precision), rel=1e-3, abs=1e-5)

    @given(LONE, st.floats(0, 1e3), st.floats(1e-3, 1e3))
    def test_more_noise_says_less(self, pair, noise, more):
        lone, standard = gaussian(pair), Gaussian.standard(torch.zeros(1, 1))
        a, b = (widen(lone, torch.tensor([[value]])) for value in (noise, noise + more))
        assert float(kl(b, standard)) <= float(kl(a, standard)) + 1e-5
        assert float(a.log_sigma) <= float(b.log_sigma) + 1e-6 <= 1e-5

    def test_endless_noise_leaves_the_prior(self):
        total = widen(gaussian((3.0, -3.0)), torch.tensor([[1e9]]))
        assert float(total.mu) == pytest.approx(0, abs=1e-6)
        assert float(total.sigma) == pytest.approx(1, abs=1e-6)


def test_the_misfit_is_least_at_the_width_of_the_error():
    truth = Gaussian(torch.tensor([[0.7]]), torch.tensor([[-20.0]]))
    widths = torch.linspace(-2, 1, 301)
    costs = [float(misfit(truth, Gaussian(torch.zeros(1, 1), w.view(1, 1)))) for w in widths]
    assert float(widths[int(np.argmin(costs))].exp()) == pytest.approx(0.7, rel=0.02)


@pytest.mark.parametrize("failing", [0.5, 0.1, 0.02])
def test_frames_that_look_alike_are_as_wide_as_the_mixture_of_what_they_may_be(failing):
    own, error = 0.1, 0.5  # of a frame that is whole, and what is added by a corruption that nobody sees
    same = Gaussian(torch.zeros(512, 1), torch.full((512, 1), own).log())
    seen = _Beliefs(torch.randn(512, 4, generator=torch.Generator().manual_seed(0)), same, same)
    signs = torch.ones(512, 1).where(torch.arange(512)[:, None] % 2 == 0, -1.0)
    truth = Gaussian(error * signs, same.log_sigma)
    torch.manual_seed(0)
    trust = Trust(4, 1, distance=0)
    trust.standardise(seen.scores)
    config = CalibrateConfig(steps=1500, batch=64, failing=failing, lr=3e-2)
    _fit_trust(trust, seen, seen, truth, config, lambda event: None)
    with torch.no_grad():
        width = float(trusted(same, same, *trust(seen.scores)).sigma.square().mean())
    assert width == pytest.approx(own**2 + failing * error**2, rel=0.15)


def test_trust_hears_the_encoder_that_is_right_where_the_scores_tell_them_apart():
    """On nominal frames the VAE's own, on corrupted ones the denoising one; the other is wrong and sure."""
    generator = torch.Generator().manual_seed(0)
    mu, sure = torch.randn(512, 2, generator=generator), torch.full((512, 2), -2.0)
    right, wrong = Gaussian(mu, sure), Gaussian(mu + 1.0, sure)
    usual = torch.randn(512, 4, generator=generator)
    nominal, broken = _Beliefs(usual, right, wrong), _Beliefs(usual + 6.0, wrong, right)
    torch.manual_seed(0)
    trust = Trust(4, 2, distance=0)
    trust.standardise(nominal.scores)
    _fit_trust(trust, nominal, broken, right, CalibrateConfig(steps=800, batch=64), lambda event: None)
    with torch.no_grad():
        for seen, least, most in ((nominal, 0.0, 0.05), (broken, 0.95, 1.0)):
            share, noise = trust(seen.scores)
            assert least <= float(share.mean()) <= most
            total = trusted(seen.lone, seen.denoised, share, noise)
            assert float((total.mu - mu).abs().mean()) < 0.1


def test_the_belief_of_a_frame_is_what_trust_makes_of_both_encoders(run, data):
    scorer = Scorer.load(run)
    vae, uncertainty = scorer.model.vae, scorer.uncertainty
    images = to_tensor(EpisodeStore(data).split("test").frames(np.arange(4)))
    with torch.no_grad():
        found, seen = uncertainty(vae, images), look(vae, images)
        denoised, foreign = uncertainty.denoising(vae, images)
        columns = dict(zip(SCORES[:-1], uncertainty.strangeness(seen).T, strict=True))
        columns |= {"disagreement": disagreement(seen.lone, denoised), "foreignness": foreign}
        read = torch.stack([columns[name] for name in TRUST_SCORES], 1)
        total = trusted(seen.lone, denoised, *uncertainty.trust(read))
    torch.testing.assert_close(found.total, total)
    torch.testing.assert_close(found.scores[:, :-1], read[:, : len(SCORES) - 1])
    torch.testing.assert_close(found.scores[:, -1], total.log_sigma.mean(1))


class TestIntersection:
    """Two beliefs about one thing."""

    a, b = Gaussian(torch.tensor([[1.0]]), torch.tensor([[0.5]]).log()), gaussian((2.0, 0.0))

    @pytest.mark.parametrize(
        ("share", "mu", "variance"), [(0.0, 1.0, 0.25), (1.0, 2.0, 1.0), (0.5, 1.2, 0.4)]
    )
    def test_precisions_are_averaged(self, share, mu, variance):
        found = intersection(self.a, self.b, torch.tensor([[share]]))
        assert float(found.mu) == pytest.approx(mu)
        assert float(found.sigma.square()) == pytest.approx(variance)

    @given(st.floats(0.0, 1.0))
    def test_two_that_say_the_same_are_no_surer_together(self, share):
        found = intersection(self.a, self.a, torch.tensor([[share]]))
        assert float(found.mu) == pytest.approx(1.0, rel=1e-5)
        assert float(found.sigma) == pytest.approx(0.5, rel=1e-5)

    @given(st.floats(-3.0, 3.0), st.floats(0.05, 1.0), st.floats(0.05, 1.0), st.floats(0.0, 1.0))
    def test_it_covers_the_error_of_any_two_that_cover_theirs(self, correlation, first, second, share):
        """The point of it: whatever the correlation, the joint error is no larger than the sigma told."""
        rho = math.tanh(correlation)
        p, q = (1 - share) / first**2, share / second**2
        error = (p * p * first**2 + q * q * second**2 + 2 * p * q * rho * first * second) / (p + q) ** 2
        told = intersection(
            Gaussian(torch.zeros(1, 1), torch.tensor([[first]]).log()),
            Gaussian(torch.zeros(1, 1), torch.tensor([[second]]).log()),
            torch.tensor([[share]]),
        ).sigma.square()
        assert error <= float(told) * (1 + 1e-4)

    def test_disagreement_is_in_the_widths_of_both(self):
        near, far = (disagreement(self.a, Gaussian(self.a.mu + by, self.a.log_sigma)) for by in (0.0, 5.0))
        assert float(near) == pytest.approx(math.log(0.01))
        assert float(far) == pytest.approx(math.log(25.0 / 0.5 + 0.01), rel=1e-5)


class TestDenoising:
    """The encoder that sees through corruption."""

    def test_the_cost_is_the_squares_near_by_and_the_distance_far_off(self):
        """Of a width of 1: the square's half for a small miss, and a multiple of the miss for a large one."""
        costs = [float(tailed_misfit(gaussian((off, -20.0)), gaussian((0.0, 0.0)))) for off in (0, 0.1, 100)]
        assert costs[1] - costs[0] == pytest.approx(0.1**2 / 2, rel=1e-2)
        assert costs[2] - costs[0] == pytest.approx(TAIL * 100.0 - TAIL**2, rel=1e-2)

    def test_a_frame_that_deceives_still_pulls_but_no_harder_the_further_off(self):
        pulls = []
        for off in (3.0, 300.0):
            mu = torch.zeros(1, 1, requires_grad=True)
            tailed_misfit(gaussian((off, -20.0)), Gaussian(mu, torch.zeros(1, 1))).sum().backward()
            pulls.append(float(-mu.grad))
        assert pulls == pytest.approx([3 / math.sqrt(2), TAIL], rel=1e-3)

    def test_the_sigma_of_gaussian_errors_is_nearly_theirs(self):
        errors = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
        truth, widths = Gaussian(errors, torch.full_like(errors, -20.0)), torch.linspace(0.5, 1.5, 101)
        costs = [
            float(tailed_misfit(truth, Gaussian(torch.zeros_like(errors), w.log().expand_as(errors))).mean())
            for w in widths
        ]
        assert float(widths[int(np.argmin(costs))]) == pytest.approx(0.93, abs=0.03)

    def test_it_learns_what_the_clean_frame_says(self):
        """A toy that a corruption shifts: the copy unlearns the shift, the original keeps it."""
        torch.manual_seed(0)
        vae = build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), 2, "Toy-v0", None)).vae.requires_grad_(
            False
        )
        clean = torch.rand(64, 3, 16, 16)
        goal = vae(clean)[1]
        goal = Gaussian(goal.mu + torch.linspace(-1, 1, 64)[:, None], goal.log_sigma - 1.0)
        torn, encoder = (clean + 0.3).clamp(0, 1), DenoisingEncoder(vae)
        begin, _ = encoder(vae, torn)
        torch.testing.assert_close(begin, vae(torn)[1])  # a copy
        fit_denoising(encoder, vae, lambda: (torn, goal), 150, lambda done: None)
        with torch.no_grad():
            each = (begin, encoder(vae, torn)[0])
            before, after = (float(tailed_misfit(goal, one).mean()) for one in each)
        assert after < before - 1.0
        torch.testing.assert_close(begin, vae(torn)[1])  # the VAE's own is as it was

    @torch.no_grad()
    def test_what_it_has_not_learnt_from_is_foreign_to_it(self):
        torch.manual_seed(0)
        vae = build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), 2, "Toy-v0", None)).vae
        encoder, known = DenoisingEncoder(vae), torch.rand(512, 3, 16, 16)
        encoder.learnt.fit(encoder.features(vae, known[:256]))
        own, others, foreign = (
            encoder(vae, images)[1].exp().square().mean()
            for images in (*known.split(256), (known > 0.5).float())
        )
        assert own < 1.05  # a deviation in each direction at most: some features may sleep
        assert 2.0 * others < foreign


class TestCorruptions:
    """Self-made corruptions."""

    def images(self, seed: int, count: int = 64) -> torch.Tensor:
        return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))

    def test_same_generator_same_corruption(self):
        a, b = (corrupt(self.images(0), self.images(1), torch.Generator().manual_seed(3)) for _ in "ab")
        assert torch.equal(a, b)
        assert float(a.min()) >= 0
        assert float(a.max()) <= 1
        assert not torch.equal(a, corrupt(self.images(0), self.images(1), torch.Generator().manual_seed(4)))

    @pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
    def test_each_kind_changes_more_the_stronger_it_is(self, make):
        images, others = self.images(0), self.images(1)
        moved = []
        for strength in (0.05, 1.0):
            out = make(images, others, torch.full((64, 1, 1, 1), strength), torch.Generator().manual_seed(0))
            assert out.shape == images.shape
            assert torch.isfinite(out).all()
            moved.append(float((out - images).square().mean()))
        assert moved[1] > 1e-3
        assert moved[1] >= moved[0] > 0

    def test_trust_is_learnt_from_kinds_that_the_encoder_has_not_met(self):
        assert {*SEEN_THROUGH} & {*NEW} == {nothing}
        assert {*SEEN_THROUGH} | {*NEW} == {*KINDS}

    def test_only_the_kinds_that_are_asked_for(self):
        images = self.images(0)
        out = corrupt(images, self.images(1), torch.Generator().manual_seed(0), (mosaic,))
        taken = (out == self.images(1)).all(1) | (out == images).all(1)
        assert taken.all()  # each pixel is one frame's or the other's

    def test_mild_ones_are_common(self):
        images = self.images(0, 512)
        error = (corrupt(images, self.images(1, 512), torch.Generator().manual_seed(0)) - images).abs()
        assert float((error.flatten(1).mean(1) < 0.1).float().mean()) > 0.3


class TestScores:
    """What is fitted on nominal looks."""

    @torch.no_grad()
    def test_statistics_are_a_mahalanobis_distance(self):
        generator = torch.Generator().manual_seed(0)
        mixing = torch.randn(5, 5, generator=generator)
        rows = torch.randn(20_000, 5, generator=generator) @ mixing
        fitted = Mahalanobis(5)
        fitted.fit(rows)
        found = ((rows - fitted.mean) @ fitted.root).square().sum(1)
        wanted = ((rows - rows.mean(0)) @ torch.linalg.inv(torch.cov(rows.T)) * (rows - rows.mean(0))).sum(1)
        assert float(torch.corrcoef(torch.stack([found, wanted]))[0, 1]) > 0.98  # less the shrinkage

    def test_the_map_points_at_the_cell_that_stands_out_from_its_own(self):
        """Not at the one whose surprise is largest on every frame."""
        generator = torch.Generator().manual_seed(0)
        usual = torch.rand(256, 2, 2, generator=generator) * torch.tensor([[100.0, 1.0], [1.0, 1.0]])
        fitted = Strangeness((2, 2), 3)
        fitted.fit(usual, torch.randn(256, 3, generator=generator), torch.randn(256, 6, generator=generator))
        nothing = Gaussian(torch.zeros(1, 1), torch.zeros(1, 1))
        strange = torch.tensor([[[50.0, 0.5], [9.0, 0.5]]])
        seen = Look(torch.zeros(1, 3), torch.zeros(1, 6), nothing, nothing, strange)
        assert int(fitted.stands_out(seen).argmax()) == 2

    @torch.no_grad()
    def test_one_direction_that_never_moved_does_not_outvote_the_others(self):
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(2000, 50, generator=generator)
        rows[:, 0] = 0.0  # a feature map that slept
        fitted = Mahalanobis(50)
        fitted.fit(rows)
        awake = rows[:1].clone()
        awake[0, 0] = 0.5
        all_moved = 6.0 * rows[:1]
        assert float(fitted(awake)) > float(fitted(rows).max())  # it still counts...
        assert float(fitted(all_moved)) > float(fitted(awake))  # ...but for one

    @pytest.mark.parametrize("axis", [2, 3])
    @pytest.mark.parametrize("frequency", [1, 4, 12])
    def test_the_power_of_a_wave_is_that_of_its_differences(self, axis, frequency):
        """The n-th difference of a wave is a wave, 2 sin(w / 2) times as high for each of them."""
        angular, height, side = 2 * np.pi * frequency / 64, 0.25, 64
        wave = torch.sin(angular * torch.arange(side)).view((side, 1) if axis == 2 else (1, side))
        found = power((0.5 + height * wave.expand(side, side)).expand(1, 3, -1, -1))[0].view(2, ORDERS)
        gain = 4 * np.sin(angular / 2) ** 2
        wanted = 0.5 * height**2 * gain ** np.arange(1, ORDERS + 1) + 1 / 255**2 / 12  # and rounding
        np.testing.assert_allclose(found[axis - 2].exp(), wanted, rtol=0.1)  # the ends are cut off
        assert (found[3 - axis] < -13).all()  # nothing but rounding along the waves

    def test_a_smoothed_frame_stands_out_by_its_spectrum_whatever_it_shows(self):
        generator = torch.Generator().manual_seed(0)
        ground = torch.rand(1, 3, 32, 32, generator=generator)
        frames = ground.repeat(400, 1, 1, 1)
        for frame, place in zip(frames, torch.randint(0, 26, (400, 2), generator=generator), strict=True):
            frame[:, place[0] : place[0] + 6, place[1] : place[1] + 6] = 0.8  # a thing that moves about
        fitted = Mahalanobis(2 * ORDERS)
        fitted.fit(power(frames[:300]))
        kernel = torch.tensor([0.02, 0.96, 0.02]).view(1, 1, 1, 3).repeat(3, 1, 1, 1)
        softened = torch.cat([frames[300:, ..., :1], functional.conv2d(frames[300:], kernel, groups=3)], 3)
        softened = torch.cat([softened, frames[300:, ..., -1:]], 3)
        assert float(fitted(power(softened)).min()) > float(fitted(power(frames[300:])).max())

    def test_what_never_varies_has_a_distance(self):
        fitted = Mahalanobis(3)
        fitted.fit(torch.ones(50, 3))
        assert torch.isfinite(fitted(torch.ones(2, 3))).all()
        assert float(fitted(torch.full((1, 3), 1.1))) > float(fitted(torch.ones(1, 3)))

    def test_a_frame_without_structure_has_a_spectrum(self):
        assert torch.isfinite(power(torch.zeros(2, 3, 16, 16))).all()

    @torch.no_grad()
    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 1000), st.floats(-5.0, 50.0), st.floats(-5.0, 50.0))
    def test_caution_never_lets_noise_fall_with_the_distance(self, seed, near, further):
        torch.manual_seed(seed)
        trust = Trust(5, 3, distance=2, hidden=4)
        trust.body[0].weight[:, 2] = 0.0  # the network apart
        low, high = sorted((near, further))
        rows = torch.randn(1, 5).repeat(2, 1)
        rows[:, 2] = torch.tensor([low, high])
        first, second = trust(rows)[1]
        assert (second >= first - 1e-6).all()

    def test_trust_is_finite_however_strange_a_frame_is(self):
        torch.manual_seed(0)
        trust = Trust(4, 2, distance=0)
        trust.standardise(torch.randn(100, 4))
        for share, noise in (trust(torch.zeros(1, 4)), trust(torch.full((1, 4), 1e6))):
            assert ((share >= 0) & (share <= 1)).all()
            assert torch.isfinite(noise).all()
            assert (noise > 0).all()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy")
    for seed in (*range(24), *range(10_000, 10_012), *range(20_000, 20_004)):
        write_episode(path, toy_episode(seed))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A calibrated run of an untrained model: the plumbing is the same."""
    path = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    save_model(path, build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), 2, "Toy-v0", None)))
    result = calibrate_run(path, data, CalibrateConfig.tiny())
    assert result["episodes"] == 7
    return path


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(run, tmp_path / "copied"))


def test_what_the_limits_can_spare_sets_the_scales_and_training_episodes_make_up_for_the_rest(data):
    train, held_out = EpisodeStore(data).split("train"), EpisodeStore(data).split("calibrate")
    config = CalibrateConfig.tiny()
    (known, spared), limiting = _parted(train, held_out, config)
    assert (len(known), len(spared), len(limiting)) == (5, 5, 7)
    assert limiting.seeds == held_out.seeds[5:]
    assert not {*spared.seeds} & {*limiting.seeds}
    assert [len(store) for store in _parted(train, held_out, replace(config, fitting=20))[0]] == [12, 8]
    (known,), limiting = _parted(train, held_out.select(range(4)), config)
    assert (len(known), len(limiting)) == (10, 4)


class TestCalibratedRun:
    """A run directory with its calibration."""

    def frames(self, data: Path, count: int = 8) -> np.ndarray:
        return EpisodeStore(data).split("test").frames(np.arange(count))

    def test_the_perceiver_takes_the_calibration_where_there_is_one(self, run, data):
        total, raw = Perceiver.load(run), Perceiver.load(run, calibrated=False)
        assert total.is_calibrated
        assert not raw.is_calibrated
        frames = self.frames(data)
        assert (total(frames).sigma <= 1).all()
        assert np.abs(total(frames).mu - raw(frames).mu).max() > 1e-3
        assert np.abs(total(frames).sigma - raw(frames).sigma).max() > 1e-3
        np.testing.assert_array_equal(total(frames).local.mu, raw(frames).local.mu)

    def test_update_gives_the_scores_of_the_whole_sequence(self, run, data):
        """One frame at a time, or all of an episode at once: the same numbers."""
        episode = EpisodeStore(data).split("test")[0]
        monitor = FrameMonitor.load(run)

        class One:
            frames = episode.image
            lengths = np.array([len(episode.image)])
            action = np.concatenate([episode.action, np.zeros((1, 2), np.float32)])

        found = monitor.sequence_scores(One())
        assert set(found) == {*SCORES, *TEMPORAL, "monitor"}
        verdicts = monitor.watch(One.frames, One.action)
        names = monitor.calibration.evidence.scores
        whole = np.stack([found[name] for name in names], axis=1)
        evidence = monitor.calibration.evidence
        alone = evidence.alone(evidence.levels(whole)).max(axis=1)
        np.testing.assert_allclose([v.score for v in verdicts], alone, rtol=1e-2, atol=1e-2)
        np.testing.assert_allclose(monitor.score(One.frames), found["monitor"], rtol=1e-5)

    def test_sequences_of_other_lengths_do_not_mix(self, run, data):
        store, scorer = EpisodeStore(data).split("test"), Scorer.load(run)
        pieces = [(store[0].image[:5], store[0].action[:5]), (store[1].image[:9], store[1].action[:9])]

        class Both:
            frames = np.concatenate([images for images, _ in pieces])
            lengths = np.array([5, 9])
            action = np.concatenate([taken for _, taken in pieces])

        both = scorer.sequence_scores(Both())
        for (images, taken), rows in zip(pieces, (slice(0, 5), slice(5, 14)), strict=True):

            class One:
                frames, lengths, action = images, np.array([len(images)]), taken

            for name, alone in scorer.sequence_scores(One()).items():
                np.testing.assert_allclose(alone, both[name][rows], rtol=1e-4, atol=1e-4)

    def test_a_verdict_names_score_place_and_latents(self, run, data):
        monitor = robovae.load_monitor(run)
        monitor.reset()
        frame = self.frames(data)[0].copy()
        frame[8:, :8] = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
        verdict = monitor.update(frame)
        assert not verdict.trusted
        assert verdict.why.score in (*SCORES, *TEMPORAL)
        assert verdict.why.region is not None
        assert "its limit" in str(verdict.why)

    def test_frames_of_another_shape_are_refused(self, run, data):
        monitor = FrameMonitor.load(run)
        with pytest.raises(FrameError, match="expected"):
            monitor.update(self.frames(data))
        with pytest.raises(FrameError, match="expected"):
            monitor.scores(np.zeros((1, 24, 24, 3), np.uint8))

    def test_calibrating_twice_gives_the_same_file(self, run, data, tmp_path):
        (tmp_path / "run").mkdir()
        for name in ("config.json", "model.safetensors"):
            (tmp_path / "run" / name).write_bytes((run / name).read_bytes())
        calibrate_run(tmp_path / "run", data, CalibrateConfig.tiny())
        for name in CALIBRATION:
            assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes(), name
        assert not [*run.glob(".*")], "something was left behind"

    def test_a_spectrum_that_never_varies_is_left_out(self, copied, data, monkeypatch):
        assert "spectrum" in robovae.load_monitor(copied).calibration.evidence.scores
        monkeypatch.setattr(
            "robovae.uncertainty.look.power", lambda images: torch.ones(len(images), 2 * ORDERS)
        )
        calibrate_run(copied, data, CalibrateConfig.tiny())
        monitor, episode = robovae.load_monitor(copied), EpisodeStore(data).split("test")[0]
        assert "spectrum" not in monitor.calibration.evidence.scores
        assert np.isfinite(monitor.score(episode.image)).all()
        assert set(monitor.scores(episode.image)) == {*SCORES}
        assert len(monitor.watch(episode.image, episode.action)) == len(episode.image)

    def test_temporal_scores_follow_the_filter_and_the_others_do_not(self, run, data):
        scorer, footage = Scorer.load(run), Footage.of(EpisodeStore(data).split("test"))
        model, uncertainty = scorer.model, scorer.uncertainty
        found = scorer.sequence_scores(footage)
        for dynamics, same in (
            (load_dynamics(run, model), True),
            (FilterDynamics.of(model.dynamics), False),
            (make_filter(model.vae.config.latent_dim, 2).dynamics, False),
        ):
            other = Scorer(model, uncertainty, dynamics).sequence_scores(footage)
            assert all(np.array_equal(found[name], other[name]) for name in SCORES)
            assert [np.array_equal(found[name], other[name]) for name in TEMPORAL] == [same, same]

    def test_what_fails_midway_leaves_the_run_as_it_was(self, run, data, copied, monkeypatch):
        before = {path.name: path.read_bytes() for path in copied.iterdir()}

        def full(*args: object, **settings: object) -> None:
            raise OSError("no space left on device")

        for place in ("robovae.filter.model.save_dynamics", "robovae.uncertainty.calibrate.calibrate"):
            with monkeypatch.context() as patch:
                patch.setattr(place, full)
                with pytest.raises(OSError, match="no space left"):
                    calibrate_run(copied, data, replace(CalibrateConfig.tiny(), seed=1))
            assert {path.name: path.read_bytes() for path in copied.iterdir()} == before

    def test_a_part_that_is_saved_again_keeps_its_bytes_and_another_does_not(self, copied):
        """Policies are bound to the digest of the filter."""
        path = copied / "filter.safetensors"
        before, dynamics = path.read_bytes(), load_dynamics(copied, load_model(copied))
        save_dynamics(copied, dynamics)
        assert path.read_bytes() == before
        dynamics.head.bias += 1.0
        save_dynamics(copied, dynamics)
        assert path.read_bytes() != before


def test_a_frame_that_stands_still_while_it_should_move_is_still_and_one_that_jumps_is_an_innovation():
    """Three sequences that begin alike: one goes on as it should, one freezes, one jumps."""
    torch.manual_seed(0)
    dynamics = FilterDynamics(2, 1, 8)
    with torch.no_grad():
        dynamics.head.bias.copy_(torch.tensor([0.5, 0.5, -2.0, -2.0]))  # it moves by 0.5 a step
    follower = Follower(dynamics)
    narrow = torch.full((3, 2), -3.0)
    first = follower.update(Gaussian(torch.zeros(3, 2), narrow))
    assert torch.equal(first, torch.zeros(3, 2))
    goes_on, frozen, jumps = torch.full((1, 2), 0.5), torch.zeros(1, 2), torch.full((1, 2), -3.0)
    found = follower.update(Gaussian(torch.cat([goes_on, frozen, jumps]), narrow))
    assert int(found[:, TEMPORAL.index("stillness")].argmax()) == 1
    assert int(found[:, TEMPORAL.index("innovation")].argmax()) == 2


def test_a_robot_at_rest_is_not_still_however_widely_it_is_predicted():
    """What is expected to stay where it is cannot be frozen; what is expected to move, and stays, is."""

    def stillness(change: float, log_sigma: float) -> float:
        here, width = torch.zeros(1, 2), torch.full((1, 2), log_sigma)
        prior = Gaussian(here + change, width)
        found = temporal_scores(Gaussian(here, torch.full((1, 2), -3.0)), prior, here, here)
        return float(found[0, TEMPORAL.index("stillness")])

    assert stillness(0.0, -5.0) == stillness(0.0, 0.0) == pytest.approx(0.0)
    assert stillness(0.1, -5.0) == stillness(0.1, 0.0) == pytest.approx(math.log(0.0101 / 1e-4), abs=1e-4)


class TestRefusals:
    """One clear line each."""

    def test_a_run_that_is_not_calibrated(self, tmp_path):
        save_model(tmp_path, build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), 2, "Toy-v0", None)))
        with pytest.raises(NotCalibratedError, match="robovae calibrate"):
            robovae.load_monitor(tmp_path)
        with pytest.raises(NotCalibratedError, match="robovae calibrate"):
            Perceiver.load(tmp_path, calibrated=True)
        assert not Perceiver.load(tmp_path).is_calibrated

    def test_the_calibration_of_other_weights(self, run, tmp_path):
        torch.manual_seed(7)
        save_model(tmp_path, build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), 2, "Toy-v0", None)))
        for name in CALIBRATION:
            (tmp_path / name).write_bytes((run / name).read_bytes())
        with pytest.raises(NotCalibratedError, match="another's"):
            robovae.load_monitor(tmp_path)
        with pytest.raises(NotCalibratedError, match="another's"):
            robovae.load(tmp_path)

    def test_a_calibration_of_an_older_format(self, copied):
        uncertainty = load_uncertainty(copied, load_model(copied).vae)
        Part(FILE, "3", "a calibrated run", "").save(copied, uncertainty)
        with pytest.raises(NotCalibratedError, match=f"expected format {FORM}, received 3; run `robovae cal"):
            robovae.load(copied)

    def test_a_monitor_of_another_run(self, copied):
        text = (copied / "monitor.json").read_text()
        own = text.split('"fingerprint": "')[1].split('"')[0]
        (copied / "monitor.json").write_text(text.replace(own, "0" * 64))
        with pytest.raises(MonitorError, match="robovae calibrate"):
            robovae.load_monitor(copied)

    def test_the_filter_of_another_calibration(self, copied):
        assert robovae.load_monitor(copied)
        dynamics = load_dynamics(copied, load_model(copied))
        dynamics.head.bias += 1e-3
        save_dynamics(copied, dynamics)
        with pytest.raises(MonitorError, match=r"sigma and filter .* run `robovae calibrate") as refused:
            robovae.load_monitor(copied)
        assert "\n" not in str(refused.value)
        (copied / "filter.safetensors").unlink()
        with pytest.raises(NotCalibratedError, match=r"expected a filter .* run `robovae calibrate"):
            Scorer.load(copied)

    def test_a_monitor_of_scores_that_meant_something_else(self, copied):
        text = (copied / "monitor.json").read_text()
        (copied / "monitor.json").write_text(text.replace(f'"format": {FORMAT}', '"format": 4'))
        with pytest.raises(
            MonitorError, match=f"expected format {FORMAT}, received 4; run `robovae calibrate`"
        ):
            robovae.load_monitor(copied)

    def test_too_few_episodes(self, run, data):
        with pytest.raises(CalibrationError, match="99"):
            calibrate_run(run, data, CalibrateConfig())

    def test_the_dataset_of_another_environment(self, data, tmp_path):
        save_model(tmp_path, build_model(ModelConfig.tiny(), RunFacts((16, 16, 3), 2, "Other-v0", None)))
        with pytest.raises(RunError, match="expected the environment of the run, Other-v0, received Toy-v0"):
            calibrate_run(tmp_path, data, CalibrateConfig.tiny())

    def test_no_calibrate_split(self, run, tmp_path):
        write_episode(tmp_path, toy_episode(0))
        with pytest.raises(EpisodeError, match="calibrate"):
            calibrate_run(run, tmp_path, CalibrateConfig.tiny())
