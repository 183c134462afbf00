"""The guard: a policy that acts on beliefs, and what happens when the frames are not to be trusted."""

from copy import copy
from os import PathLike
from typing import Any, Self

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robovae.belief import Belief, Perceiver
from robovae.control.coasting import Carrier
from robovae.control.errors import ControlError
from robovae.control.fallbacks import Action, Actions, actor_of, fallback_of
from robovae.control.features import BeliefFeatures
from robovae.control.matching import (
    belief_of,
    check_actions,
    check_filter,
    check_policy,
    own_or,
    shares_beliefs,
    space_of,
)
from robovae.control.record import GuardStep, Mode, summary_of
from robovae.filter import BeliefFilter
from robovae.monitor import Verdict
from robovae.uncertainty import FrameMonitor

Frame = NDArray[np.uint8]
Floats = NDArray[np.float32]
HORIZON = 20
"""Frames to coast through: by then a prediction of Reacher or HalfCheetah is off by half of a held belief's
error (launch/benchmarks/filter.py); InvertedPendulum's by nine tenths."""
HEED = 0.7
"""Mean sigma of a frame without trust up to which a filter weighs it rather than to pass over it."""


class Guard:
    """Keeps a robot in control while its camera is not.

    A frame that the monitor's gate trusts goes to the policy. So does, to a policy on "filtered" features, a
    strange one that moves and still says something: the filter weighs it by its sigma, which says more than
    a yes or no. Through others the belief coasts on the filter and the policy acts on that ("coast"), for at
    most `horizon` of them in a row; then the fallback acts. It acts at once where there is nothing to coast
    on: without a filter. The first frame of an episode is weighed by its sigma whatever the gate says: a
    robot that rests because of one mistrusted frame sees that same frame for ever.
    The policy takes over again on the first frame that is believed; the gate has hysteresis. If the
    belief has gone stale by then, it begins anew from that frame (see `Carrier`).

    Actions of the policy of another shape, or not finite, never reach the robot: the last good one is held,
    for at most `horizon` steps in a row, then the fallback acts. A fallback that raises or gives such an
    action makes the robot rest. Both are noted (`GuardStep.problem`) and neither ends the episode. What the
    policy itself raises, it raises.

    Args:
        policy: a `BeliefPolicy`; anything with Stable-Baselines3's `.predict(features, deterministic=True)`;
            or a callable features (F,) -> action.
        perceiver: frames to beliefs. A calibrated one of the monitor's run is never asked, since the monitor
            has to look at each frame anyway; others, as any callable (1, H, W, 3) -> Belief, are.
        monitor: decides which frames to trust; no one else may `update` it.
        belief_filter: what coasts, and what "filtered" features filter with; it is copied.
        fallback: "hold" goes on with the last action, "zero" rests; or a policy as above, for features that
            coast on without end.
        horizon: frames in a row to coast through at most; 0: none.
        heed: mean sigma below which a later frame without trust still says something; 0: none does.
        features: what the policy sees, one of `FEATURES`; by default what it says itself, else "mu".
        stack: how many beliefs at once, likewise, else 1.
        action_space: Box or Discrete, of the robot; by default the policy's own.
        enabled: False: the policy acts on every frame as it comes; the monitor still watches.

    Raises:
        ControlError: parts that do not belong together.
    """

    def __init__(
        self,
        policy: Any,
        perceiver: Any,
        monitor: FrameMonitor,
        belief_filter: BeliefFilter | None = None,
        fallback: Any = "hold",
        *,
        horizon: int = HORIZON,
        heed: float = HEED,
        features: str | None = None,
        stack: int | None = None,
        action_space: gym.Space[Any] | None = None,
        enabled: bool = True,
    ) -> None:
        if horizon < 0:
            raise ControlError(f"horizon: expected 0 frames or more, received {horizon}")
        if not 0.0 <= heed <= 1.0:
            raise ControlError(f"heed: expected a sigma from 0 to 1, received {heed:g}")
        self.perceiver, self.monitor, self.horizon, self.enabled = perceiver, monitor, horizon, enabled
        run = monitor.scorer.model
        kind: str = own_or(policy, "features", str, features, "mu")
        depth: int = own_or(policy, "stack", int, stack, 1)
        seen = BeliefFeatures(run.vae.config.latent_dim, kind, depth, belief_filter)
        self.actions = Actions(space_of(policy, action_space))
        check_actions(self.actions, run, belief_filter)
        check_filter(belief_filter, monitor)
        check_policy(policy, "policy", seen, self.actions, run)
        check_policy(fallback, "fallback", seen, self.actions, run)
        self._policy = actor_of(policy)
        self._fallback = fallback_of(fallback, self.actions)
        self._shares = shares_beliefs(perceiver, monitor)
        self._carrier = Carrier(seen, belief_filter, horizon)
        self._heed = heed if kind == "filtered" else 0.0
        self.mode: Mode
        """Who acted last."""
        self.steps: list[GuardStep]
        """What was done in this episode, step by step."""
        self._last: Action
        self._told: Floats | None
        self._refused: int
        self.reset()

    @classmethod
    def load(
        cls,
        run: str | PathLike[str],
        *,
        name: str = "",
        fallback: Any = "hold",
        horizon: int = HORIZON,
        heed: float = HEED,
        enabled: bool = True,
    ) -> Self:
        """Read policy, monitor and filter of a run directory.

        Args:
            run: the directory.
            name: of the policy; "" is the unnamed one.
            fallback: see `Guard`.
            horizon: see `Guard`.
            heed: see `Guard`.
            enabled: see `Guard`.

        Raises:
            PolicyError: it has no such policy, or one of other weights.
            NotCalibratedError: it has no calibration or no filter.
            MonitorError: its monitor is of another format or of other weights.
            RunError: it has no model, or one that cannot be read.
        """
        from robovae.policy.belief_policy import BeliefPolicy  # it imports this package

        policy, monitor = BeliefPolicy.load(run, name), FrameMonitor.load(run)
        perceiver = Perceiver(monitor.scorer.model, uncertainty=monitor.scorer.uncertainty)
        belief_filter = BeliefFilter(monitor.scorer.dynamics)
        settings: dict[str, Any] = {"horizon": horizon, "heed": heed, "enabled": enabled}
        return cls(policy, perceiver, monitor, belief_filter, fallback, **settings)

    def __repr__(self) -> str:
        state = f"horizon {self.horizon}" if self.enabled else "disabled"
        return f"Guard({state}, {self.mode}, step {len(self.steps)})"

    def reset(self) -> None:
        """Begin an episode, whatever became of the one before; `steps` begins anew too."""
        self.monitor.reset()
        self._carrier.reset()
        self.mode, self.steps = "policy", []
        self._last, self._told, self._refused = None, None, 0

    def act(self, frame: Frame, trusted: bool | None = None) -> tuple[Action, Verdict]:
        """Decide what the robot does after the next frame.

        Args:
            frame: (H, W, 3) uint8.
            trusted: whether to believe it, if the caller knows better than the monitor.

        Returns:
            The action, always one of the action space; and what the monitor says of the frame.

        Raises:
            FrameError: a frame of another shape or dtype; nothing has happened then.
        """
        verdict = self.monitor.update(frame, self._told)
        belief = self._perceive(frame)
        is_trusted = verdict.trusted if trusted is None else trusted
        believed = is_trusted or (trusted is None and self._is_weighed(belief))
        action, problem = self._choose(self._follow(belief, believed))
        self._last = action
        self._told = self.actions.row(action)
        carried = self._carrier.belief
        self.steps.append(
            GuardStep(
                step=len(self.steps),
                verdict=verdict,
                mode=self.mode,
                action=action,
                trusted=is_trusted,
                coasted=self._carrier.gap,
                mu=carried.mu[0].copy(),
                sigma=float(carried.sigma.mean()),
                problem=problem,
            )
        )
        return copy(action), verdict

    def summary(self) -> dict[str, Any]:
        """Counts over the episode so far: see `summary_of`."""
        return summary_of(self.steps)

    def _perceive(self, frame: Frame) -> Belief:
        if self._shares and self.monitor.insight is not None:
            return belief_of(self.monitor.insight.total)
        belief: Belief = self.perceiver(frame[None])
        return belief

    def _is_weighed(self, belief: Belief) -> bool:
        """Whether a frame that the gate mistrusts counts all the same, for what its sigma says."""
        if not self.steps:
            return self._carrier.can_coast
        # Past the horizon the filter has nothing to weigh it against: only a trusted frame begins anew.
        can_weigh = not (self._carrier.is_stale or self.monitor.is_still)
        return can_weigh and float(belief.sigma.mean()) < self._heed

    def _follow(self, belief: Belief, believed: bool) -> Floats:
        """Features for the policy, and who acts on them."""
        if believed or not self.enabled:
            self.mode = "policy"
            return self._carrier.see(belief, self._told)
        features = self._carrier.coast(self._told)
        self.mode = "fallback" if self._carrier.is_stale else "coast"
        return features

    def _choose(self, features: Floats) -> tuple[Action, str]:
        """An action that the robot can be told, and what was wrong with the one it cannot."""
        if self.mode == "fallback":
            return self._fall_back(features)
        action, problem = self.actions.check(self._policy(features))
        self._refused = 0 if action is not None else self._refused + 1
        if action is not None:
            return action, ""
        if self.enabled and self._refused > self.horizon:
            self.mode = "fallback"
            action, more = self._fall_back(features)
            return action, f"policy: {problem}; fallback" + (f", but {more}" if more else "")
        held = self.actions.rest if self._last is None else self._last
        return held, f"policy: {problem}; the last action is held"

    def _fall_back(self, features: Floats) -> tuple[Action, str]:
        try:
            action, problem = self.actions.check(self._fallback(features, self._last))
        except Exception as error:  # whatever it is, the robot must be told something
            action, problem = None, f"expected an action, received {type(error).__name__}: {error}"
        return (action, "") if action is not None else (self.actions.rest, f"fallback: {problem}; rest")
