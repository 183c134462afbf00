"""Faults: ways in which a camera fails, in the scene, on the sensor or in time, in five severities each."""

from robovae_envs.faults.faulty import Faulty
from robovae_envs.faults.registry import FAULTS, Fault, FaultError
from robovae_envs.faults.streams import sensor_fault

__all__ = ["FAULTS", "Fault", "FaultError", "Faulty", "sensor_fault"]
