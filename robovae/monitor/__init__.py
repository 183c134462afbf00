"""From scores to decisions: trust this frame, raise the alarm, report drift. Numbers only, no networks."""

from robovae.monitor.calibration import Calibration, MonitorConfig, calibrate, fingerprint_of
from robovae.monitor.conformal import CalibrationError, MonitorError, episodes_needed, p_values, threshold
from robovae.monitor.monitor import Monitor
from robovae.monitor.verdict import Verdict, Why

__all__ = [
    "Calibration",
    "CalibrationError",
    "Monitor",
    "MonitorConfig",
    "MonitorError",
    "Verdict",
    "Why",
    "calibrate",
    "episodes_needed",
    "fingerprint_of",
    "p_values",
    "threshold",
]
