"""`robovae policy`."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro

from robovae.cli.console import facts, number, show
from robovae.cli.events import Watcher
from robovae.policy.config import PolicyConfig, PolicyError

if TYPE_CHECKING:
    from robovae_envs.camera import Camera


@dataclass(frozen=True)
class Policy:
    """Train a policy on the beliefs of a run, into RUN/policy.

    Stable-Baselines3 does the learning, on latents instead of pixels: pip install "robovae[rl]". Interrupted,
    the same command goes on. The weights that did best on seeds 25000- are kept, and judged on seeds 20000-.
    In training alone, the critics of sac and tqc see the true state of the simulator (not: --critic belief).
    `robovae.load_policy(RUN)` then acts on frames, and `robovae collect --policy RUN` collects with it.

    Examples:
      robovae policy runs/reacher --steps 50000
      robovae policy runs/reacher --algo ppo --features mu --stack 3 --name ppo
      robovae policy runs/reacher --drop-share 0.25 --name robust
      robovae policy runs/reacher --observation state --name state
      robovae policy runs/reacher --algo dagger --name taught   # by the policy named "state", see --teacher
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run directory, calibrated."""
    env: str | None = None
    """Gymnasium id of the environment; that of the run's data."""
    name: str = ""
    """Of the policy, kept in RUN/policy-NAME, where a run has several."""
    config: PolicyConfig = field(default_factory=PolicyConfig)
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Train, with progress, and say what came out."""
        make_env = env_factory(self.run_dir, self.env, bare=self.config.observation == "state")
        from robovae.policy.training import train_policy

        with Watcher() as watcher:
            listen = partial(watcher, "policy")
            result = train_policy(self.run_dir, make_env, self.config, listen, name=self.name)
        returns = result["evaluation"]["returns"]
        taught = f", taught by {self.config.teacher}" if self.config.algo == "dagger" else ""
        rows = {
            "run": self.run_dir,
            "policy": f"{result['algo']} on {result['features']}, {number(result['steps'])} steps{taught}",
            "return": f"{number(float(np.mean(returns)))}, from {number(min(returns))} to "
            f"{number(max(returns))} in {len(returns)} episodes",
            "kept": f"the {result['kept']['weights']} weights, of step {number(result['kept']['step'])}",
            "seconds": number(result["seconds"]),
        }
        show({"run": str(self.run_dir), **result}, self.json, facts(rows))
        return 0


def env_factory(run: Path, env_id: str | None, bare: bool = False) -> "partial[Any]":
    """The picklable factory of environments with the camera of a run, or without any.

    Args:
        run: the run directory.
        env_id: of another environment than the run's.
        bare: leave the camera out, and with it all rendering.

    Raises:
        RunError: no trained run.
        PolicyError: a run that does not know its camera.
        EnvError: there is no such environment.
    """
    from robovae.run.directory import load_model

    seen = load_model(run).facts
    if seen.render_spec is None:
        raise PolicyError(f"{run}: expected a run of rendered frames, received one without a RenderSpec")
    make = partial(_make, env_id or seen.env_id, seen.render_spec, bare)
    make().close()
    return make


def _make(env_id: str, render_spec: dict[str, Any], bare: bool) -> Any:
    from robovae_envs import camera

    seen: Camera = camera.make(env_id, camera.RenderSpec.from_dict(render_spec))
    return seen.env if bare else seen
