"""`robovae dream`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from robovae.cli.console import facts, show, table_of
from robovae.dreaming import Dream, Dreamer, DreamError, latent_deviation
from robovae.dreaming.acting import Policy
from robovae.episodes import EpisodeStore
from robovae.episodes.episode import Episode
from robovae.evaluate.codes import spread_frames
from robovae.records import write_bytes
from robovae.report.pictures import png
from robovae.run.directory import check_data

RECORDED = "recorded"
LONGEST = 50
"""Steps, where none are asked for."""
UNIT_FRAMES = 512
"""Test frames whose deviation is the unit of errors."""


@dataclass(frozen=True)
class DreamOn:
    """Dream on from the beginning of a test episode: a filmstrip, a video, and the error by step.

    With the episode's own actions the future that came stands above the dream (in the video left of it) and
    is compared with it; with a policy the dream has a future of its own.

    Examples:
      robovae dream runs/reacher --data data/reacher
      robovae dream runs/reacher --data data/reacher --episode 20003 --steps 40 --out dream.mp4
      robovae dream runs/reacher --data data/reacher --policy policy
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run directory, with a filter."""
    data: Path
    """Its dataset, with episodes of the test split."""
    episode: Annotated[int | None, tyro.conf.arg(metavar="SEED")] = None
    """The episode's seed; the first of the test split."""
    begin: int = 5
    """Frames that are seen before the dream; velocity takes two."""
    steps: int | None = None
    """How many to dream; to the end of the episode, at most 50."""
    policy: Annotated[str, tyro.conf.arg(metavar="NAME")] = RECORDED
    """"recorded": the episode's own actions; "policy": the policy in RUN/policy; NAME: in RUN/policy-NAME."""
    sample: bool = False
    """Draw each step instead of taking its mean."""
    seed: int = 0
    """Of the draws."""
    fps: float = 20.0
    """Frames a second of the video."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The video, .webp or .mp4; the filmstrip lies beside it as .png. RUN/dreams/SEED.webp."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Dream, write both files, and print the errors."""
        dreamer, test = Dreamer.load(self.run_dir), EpisodeStore(self.data).split("test")
        check_data(dreamer.perceiver.model.facts, test)
        episode = self._chosen(test)
        dream = self._dreamt(dreamer, episode)
        real, rows = None, None
        if self.policy == RECORDED:
            real = np.array(episode.image[self.begin : self.begin + len(dream)])
            unit = latent_deviation(dreamer.perceiver(spread_frames(test, UNIT_FRAMES)).mu)
            rows = dream.compare(real, dreamer.perceiver, unit).rows()
        video = self.out or self.run_dir / "dreams" / f"{episode.seed}.webp"
        written = [
            str(dream.video(video, real, self.fps)),
            str(write_bytes(video.with_suffix(".png"), png(dream.filmstrip(real)))),
        ]
        told = {"run": str(self.run_dir), "episode": episode.seed, "begin": self.begin, "steps": len(dream)}
        tables = [] if rows is None else [table_of(rows, "error by step: latents in deviations, pixels MSE")]
        human = facts({**told, "policy": self.policy, "written": " ".join(written)})
        show({**told, "policy": self.policy, "written": written, "error": rows}, self.json, human, *tables)
        return 0

    def _chosen(self, test: EpisodeStore) -> Episode:
        seed = test.seeds[0] if self.episode is None else self.episode
        if seed not in test.seeds:
            raise DreamError(
                f"--episode: expected a seed of the test split, {test.seeds[0]} to {test.seeds[-1]}, "
                f"received {seed}"
            )
        episode = test[test.seeds.index(seed)]
        if not 1 <= self.begin <= len(episode):
            raise DreamError(f"--begin: expected 1 to {len(episode)}, received {self.begin}")
        return episode

    def _dreamt(self, dreamer: Dreamer, episode: Episode) -> Dream:
        """The episode's beginning, dreamt on."""
        frames, actions = np.array(episode.image[: self.begin]), np.array(episode.action)
        rest = len(actions) + 1 - self.begin
        steps = min(LONGEST, rest) if self.steps is None else self.steps
        if self.policy == RECORDED and steps > rest:
            raise DreamError(f"--steps: expected 1 to {rest}, where the episode ends, received {steps}")
        acts = self._acts(actions[self.begin - 1 :][: max(steps, 0)])
        if self.seed < 0:
            raise DreamError(f"--seed: expected at least 0, received {self.seed}")
        rng = np.random.default_rng(self.seed) if self.sample else None
        return dreamer.dream(acts, (frames, actions[: self.begin - 1]), steps, rng=rng)

    def _acts(self, recorded: NDArray[Any]) -> Policy:
        if self.policy == RECORDED:
            return recorded
        from robovae.policy import BeliefPolicy

        name = "" if self.policy == "policy" else self.policy
        policy: Policy = BeliefPolicy.load(self.run_dir, name)
        return policy
