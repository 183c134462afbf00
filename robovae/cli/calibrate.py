"""`robovae calibrate`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from robovae.cli.console import facts, number, progress, show
from robovae.judge.exact import binomial_interval
from robovae.uncertainty import CalibrateConfig, calibrate_run


@dataclass(frozen=True)
class Calibrate:
    """Make the sigma of a run true, and set the limits of its monitor.

    Learns from corruptions of its own to see through them, and how far a frame can be trusted, so that sigma
    is the total width of the belief; fits the dynamics of the belief filter, and the scores of strangeness;
    and sets thresholds on the calibrate split (seeds 10000-), which must hold enough episodes for the rates:
    99 for one false alarm in 100; up to 100 more of them sharpen the alarm, the others steady its limit. That
    is the higher of two, one for episodes like these and one for a robot at rest. Minutes.

    Examples:
      robovae collect Reacher-v5 --split calibrate --episodes 400 --out data/reacher
      robovae calibrate runs/reacher --data data/reacher
    """

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run directory."""
    data: Path
    """Its dataset, with episodes of the calibrate split."""
    config: CalibrateConfig = field(default_factory=CalibrateConfig)
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Calibrate, with progress, and say what came out."""
        with progress("calibrate") as update:
            result = calibrate_run(
                self.run_dir,
                self.data,
                self.config,
                lambda event: update(event.done, event.total, event.part),
            )
        alpha = self.config.monitor.alpha
        # Exact for a fixed limit; where these episodes set it, the interval of their Beta lies within.
        low, high = binomial_interval(result["above"], result["episodes"])
        rows = {
            "run": self.run_dir,
            "episodes": f"{result['episodes']} nominal ones set the limits",
            "sigma": f"{number(result['sigma_ratio'])} of the encoder's own on nominal frames (median)",
            "limits": f"alarm {number(result['threshold'])}, trust {number(result['gate'])}",
            "alarms": f"{alpha:.2g} false ones a nominal episode promised on average over calibrations; "
            f"this one's own rate lies between {low:.2g} and {high:.2g} (95 %)",
            "seconds": number(result["seconds"]),
        }
        found = {"run": str(self.run_dir), **result, "alarm_rate": {"alpha": alpha, "low": low, "high": high}}
        show(found, self.json, facts(rows))
        return 0
