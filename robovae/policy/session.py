"""One attempt at a policy: learn, judge now and then, save now and then."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from robovae.config import to_plain
from robovae.policy.arena import Arena
from robovae.policy.checkpoint import Progress, load_checkpoint, restore, save_checkpoint, write_rows
from robovae.policy.config import Kind, OnPolicy, PolicyConfig, PolicyEvent
from robovae.policy.learner import extract_actor
from robovae.policy.network import Actor

TEST_SEED, CHOICE_SEED = 20_000, 25_000
"""First seeds of the reported evaluation, and of those on the way, by which the best weights are chosen."""
TELL_SECONDS = 0.2
NEVER = 10**9


class Session:
    """One attempt at a policy.

    Args:
        where: the policy's directory.
        key: digest of config and inputs.
        config: filled.
        make: makes the learner: `make_learner`.
        arena: where it learns and is judged.
        tell: told of progress.
    """

    def __init__(
        self,
        where: Path,
        key: str,
        config: PolicyConfig,
        make: Callable[[PolicyConfig, VecEnv, int], BaseAlgorithm],
        arena: Arena,
        tell: OnPolicy,
    ) -> None:
        self.where, self.key, self.config, self.arena, self.tell = where, key, config, arena, tell
        found = load_checkpoint(where, key)
        self.progress = found[1] if found else Progress()
        self.learner = make(config, arena.training, self.progress.steps)
        self.best = restore(found[0], self.progress, self.learner) if found else None
        self._begun_at, self._begun_seconds = self.progress.steps, self.progress.seconds
        self._mark = self._saved = time.monotonic()
        self._told = 0.0

    def fit(self) -> None:
        """Train to the end.

        Raises:
            PolicyError: weights or rewards are not finite.
            KeyboardInterrupt: after writing a checkpoint.
        """
        progress = self.progress
        write_rows(self.where, progress.rows)
        self._say("resume" if progress.steps else "start", f"{self.where}, from step {progress.steps}")
        self._mark = time.monotonic()
        if progress.steps < self.config.steps:
            try:
                left = self.config.steps - progress.steps
                self.learner.learn(left, _Listener(self), log_interval=NEVER, reset_num_timesteps=False)
            except KeyboardInterrupt:
                self._count()
                self._save()
                raise
            self._count()
            self._save()  # what follows may be interrupted too
        if progress.judged < progress.steps:
            self._judge()

    def kept(self) -> Actor:
        """The best actor or the last one, as the config says."""
        if self.best is not None and self.config.keep == "best":
            return self.best
        return extract_actor(self.learner)

    def on_step(self) -> None:
        """The environments made a step."""
        if time.monotonic() - self._told >= TELL_SECONDS:
            self._count()
            recent = [episode["r"] for episode in self.learner.ep_info_buffer or ()]
            self._say("step", episode_return=float(np.mean(recent)) if recent else None)

    def between_rounds(self) -> None:
        """Updates are done and steps not yet begun: the moment to judge and to save."""
        self._count()
        every = self.config.eval_every
        if self.progress.steps // every > self.progress.judged // every:
            self._judge()
        if time.monotonic() - self._saved >= self.config.checkpoint_seconds:
            self._save()

    def result(self, actor: Actor) -> dict[str, Any]:
        """What is told of the policy, JSON-able; plays the episodes that are reported."""
        config, progress = self.config, self.progress
        is_best = config.keep == "best"
        step, mean = (progress.best_step, progress.best_mean) if is_best else (progress.steps, None)
        return {
            "algo": config.algo,
            "observation": config.observation,
            "features": config.sees,
            "stack": config.stack,
            "seed": config.seed,
            "steps": progress.steps,
            "seconds": round(progress.seconds, 3),
            "kept": {"weights": config.keep, "step": step, "mean": mean, "first_seed": CHOICE_SEED},
            "evaluation": self._evaluate(actor, TEST_SEED, config.test_episodes),
            "config": to_plain(config),
        }

    def _judge(self) -> None:
        actor, progress = extract_actor(self.learner), self.progress
        try:
            found = self._evaluate(actor, CHOICE_SEED, self.config.eval_episodes)
        finally:
            self._mark = time.monotonic()  # interrupted or not, this is no time of training
        row = {"step": progress.steps, "seconds": round(progress.seconds, 3), **found}
        progress.rows.append(row)
        write_rows(self.where, progress.rows)
        progress.judged = progress.steps
        if progress.best_mean is None or found["mean"] >= progress.best_mean:
            progress.best_step, progress.best_mean, self.best = progress.steps, found["mean"], actor
        self._say("evaluation", episode_return=found["mean"])

    def _evaluate(self, actor: Actor, first: int, episodes: int) -> dict[str, Any]:
        seeds = list(range(first, first + episodes))
        returns = self.arena.judge(actor, seeds)
        return {"mean": float(np.mean(returns)), "returns": returns, "seeds": seeds}

    def _count(self) -> None:
        now, progress = time.monotonic(), self.progress
        progress.seconds, self._mark = progress.seconds + now - self._mark, now
        progress.steps, progress.updates = self.learner.num_timesteps, int(self.learner._n_updates)

    def _save(self) -> None:
        save_checkpoint(self.where, self.key, self.progress, self.learner, self.best)
        self._saved = self._mark = time.monotonic()

    def _say(self, kind: Kind, message: str = "", episode_return: float | None = None) -> None:
        progress = self.progress
        speed = (progress.steps - self._begun_at) / max(progress.seconds - self._begun_seconds, 1e-9)
        event = PolicyEvent(
            kind, progress.steps, self.config.steps, progress.seconds, speed, episode_return, message
        )
        self._told = time.monotonic()
        self.tell(event)


class _Listener(BaseCallback):
    """Tells a session where its learner is."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def _on_rollout_start(self) -> None:
        self.session.between_rounds()

    def _on_step(self) -> bool:
        self.session.on_step()
        return True
