"""What decides the training of a policy, and what a listener hears of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from robovae.config import check_least
from robovae.control.bursts import Bursts
from robovae.errors import RobovaeError

Kind = Literal["start", "resume", "step", "evaluation", "skip"]
Algo = Literal["sac", "ppo", "tqc", "dagger"]
OFF_POLICY = ("sac", "tqc", "dagger")
"""Algorithms that learn from a replay buffer, and move within the bounds of a Box."""
LARGEST_BUFFER = 200_000

_SOFT: dict[str, Any] = {
    "learning_rate": 7e-4,
    "batch": 256,
    "train_freq": 1,
    "gradient_steps": 2,
    "learning_starts": 1000,
    "hidden": (256, 256),
    "gamma": 0.99,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "sac": _SOFT,
    "tqc": _SOFT,
    "dagger": {**_SOFT, "gradient_steps": 4, "learning_starts": 4000},
    "ppo": {
        "learning_rate": 3e-4,
        "batch": 64,
        "train_freq": 512,
        "gradient_steps": 10,
        "learning_starts": 0,
        "hidden": (64, 64),
        "gamma": 0.99,
    },
}
"""What stands in for None, for small robots on one core."""


class PolicyError(RobovaeError):
    """A policy cannot be trained, read, or used here."""


@dataclass(frozen=True)
class PolicyEvent:
    """What a listener hears."""

    kind: Kind
    steps: int = 0
    """Done so far."""
    total: int = 0
    """To do in all."""
    seconds: float = 0.0
    """Of training, over all attempts, without evaluations."""
    steps_per_second: float = 0.0
    """In this attempt."""
    episode_return: float | None = None
    """Mean of the last training episodes; of "evaluation", of the evaluated ones."""
    message: str = ""


OnPolicy = Callable[[PolicyEvent], None]


@dataclass(frozen=True)
class PolicyConfig:
    """Settings of `robovae policy`. Those that are None take the algorithm's own default.

    Raises:
        PolicyError: a value is out of range.
        ControlError: the bursts of lost or corrupted frames are impossible.
    """

    algo: Algo = "sac"
    """Soft actor-critic, proximal policy optimisation, truncated quantile critics, or a teacher's pupil."""
    steps: int = 50_000
    """Steps of all environments together."""
    observation: Literal["belief", "state"] = "belief"
    """What the policy sees; state, the environment's own vector, is there to compare with."""
    features: Literal["mu", "mu_sigma", "filtered"] = "filtered"
    """Of the beliefs; see `BeliefFeatures`."""
    stack: int = 1
    """How many beliefs it sees at once; of filtered ones 1 is with the filter's memory, more are not."""
    teacher: str = "state"
    """Of dagger: name of the policy of this run that is imitated; it sees the true state."""
    critic: Literal["belief", "state"] | None = None
    """What the critic, which serves training alone, sees: the true state, or (ppo) what the policy does."""
    envs: int = 4
    """Environments that are stepped together, so that their frames are encoded together."""
    seed: int = 0
    """Decides first weights, exploration, and the first episodes."""
    eval_episodes: int = 10
    """Episodes of each evaluation on the way, by which weights are chosen."""
    test_episodes: int = 30
    """Episodes of the last one, which is reported and has seeds of its own."""
    eval_every: int = 5000
    """Steps between two evaluations."""
    keep: Literal["best", "last"] = "best"
    """Which weights: those that did best in the evaluations on the way, or the last ones."""
    learning_rate: float | None = None
    """Of Adam: 7e-4, ppo 3e-4."""
    batch: int | None = None
    """Samples in an update: 256, ppo 64."""
    train_freq: int | None = None
    """Steps of each environment between two rounds of updates: 1, ppo 512."""
    gradient_steps: int | None = None
    """Updates in a round: 2, half of the steps that 4 environments gather; dagger 4; ppo: passes, 10."""
    learning_starts: int | None = None
    """Random steps before the first update: 1000, ppo none; of dagger the teacher's, 4000."""
    hidden: tuple[int, ...] | None = None
    """Units of each hidden layer: 256 256, ppo 64 64."""
    gamma: float | None = None
    """Discount a step: 0.99."""
    buffer: int | None = None
    """Steps that are remembered: all, at most 200 000; ppo none."""
    drop_share: float = 0.0
    """Share of the training frames that are lost on purpose, so that the policy learns to act without."""
    corrupt_share: float = 0.0
    """Share that is corrupted, each burst in one of the ways that calibration learns from."""
    drop_longest: int = 20
    """Longest burst of lost or corrupted frames."""
    checkpoint_seconds: float = 120.0
    """Time between two checkpoints."""
    threads: int = 1
    """Threads of torch; networks as small as these gain nothing from more. 0 leaves them as they are."""
    device: str = "cpu"
    """Of the policy and the perceiver, as torch names it."""

    def __post_init__(self) -> None:
        check_least(self, PolicyError, steps=1, stack=1, envs=1, seed=0, eval_episodes=1, eval_every=1)
        check_least(self, PolicyError, test_episodes=1, threads=0)
        least = {"batch": 2, "train_freq": 1, "gradient_steps": 1, "learning_starts": 0, "buffer": 1}
        given = {name: low for name, low in least.items() if getattr(self, name) is not None}
        check_least(self, PolicyError, **given)
        _check("algo", self.algo, self.algo in DEFAULTS, "sac, ppo, tqc or dagger")
        rate, gamma = self.learning_rate, self.gamma
        _check("learning_rate", rate, rate is None or rate > 0, "more than 0")
        _check("gamma", gamma, gamma is None or 0 < gamma < 1, "between 0 and 1")
        _check("hidden", self.hidden, not self.hidden or min(self.hidden) >= 1, "units, 1 or more a layer")
        _check("checkpoint_seconds", self.checkpoint_seconds, self.checkpoint_seconds > 0, "more than 0")
        _check("critic", self.critic, self.critic in (None, "belief", "state"), "belief or state")
        beside = self.critic != "state" or self.observation == "state" or self.algo in OFF_POLICY
        _check("critic", self.critic, beside, "belief: ppo judges by what the policy sees")
        if self.algo == "dagger":
            _check(
                "observation",
                self.observation,
                self.observation == "belief",
                "belief: the teacher sees state",
            )
            _check("critic", self.critic, self.critic != "belief", "state: the teacher sees it")
        for share in (self.drop_share, self.corrupt_share):
            Bursts(share, self.drop_longest)

    @property
    def sees(self) -> str:
        """The features, or "state"."""
        return "state" if self.observation == "state" else self.features

    @property
    def drop(self) -> Bursts | None:
        """The bursts of lost frames in training, None without any."""
        return Bursts(self.drop_share, self.drop_longest) if self.drop_share else None

    @property
    def corrupt(self) -> Bursts | None:
        """Those of corrupted ones, likewise."""
        return Bursts(self.corrupt_share, self.drop_longest) if self.corrupt_share else None

    def filled(self) -> Self:
        """The same with the algorithm's defaults in the place of None."""
        critic = "state" if self.observation == "state" or self.algo in OFF_POLICY else "belief"
        defaults = {**DEFAULTS[self.algo], "buffer": min(self.steps, LARGEST_BUFFER), "critic": critic}
        return replace(
            self, **{name: value for name, value in defaults.items() if getattr(self, name) is None}
        )


def _check(name: str, value: object, good: bool, expected: str) -> None:
    if not good:
        raise PolicyError(f"{name}: expected {expected}, received {value!r}")
