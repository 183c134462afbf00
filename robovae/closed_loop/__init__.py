"""The judge of the closed loop: what is left of a policy's return when the camera fails."""

from robovae.closed_loop.arms import BLIND, Arm, Guarded, Random, Reflex, Still, constant_sigma
from robovae.closed_loop.cast import Cast
from robovae.closed_loop.condition import CLEAN, PERSISTENT, Condition
from robovae.closed_loop.config import LoopConfig
from robovae.closed_loop.crew import Crew
from robovae.closed_loop.errors import ClosedLoopError
from robovae.closed_loop.judging import judge_loop, to_csv
from robovae.closed_loop.ledger import Ledger
from robovae.closed_loop.playing import Played, play

__all__ = [
    "BLIND",
    "CLEAN",
    "PERSISTENT",
    "Arm",
    "Cast",
    "ClosedLoopError",
    "Condition",
    "Crew",
    "Guarded",
    "Ledger",
    "LoopConfig",
    "Played",
    "Random",
    "Reflex",
    "Still",
    "constant_sigma",
    "judge_loop",
    "play",
    "to_csv",
]
