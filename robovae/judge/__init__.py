"""The judge of uncertainty: are scores higher on strange frames, and does sigma cover the error?"""

from robovae.judge.alarms import Watched, alarm_table
from robovae.judge.baselines import baselines
from robovae.judge.cells import Cell, Faulted, Twins, plan
from robovae.judge.config import JudgeConfig
from robovae.judge.detector import Detector, Functions, Panel, Remembering, Scorer, SequenceScorer
from robovae.judge.errors import JudgeError
from robovae.judge.footage import Footage
from robovae.judge.judging import FORMAT, judge
from robovae.judge.outside import PytorchOod
from robovae.judge.reader import JointReader, Reader
from robovae.judge.strangeness import Ground
from robovae.judge.subject import Subject
from robovae.judge.summary import to_csv

__all__ = [
    "FORMAT",
    "Cell",
    "Detector",
    "Faulted",
    "Footage",
    "Functions",
    "Ground",
    "JointReader",
    "JudgeConfig",
    "JudgeError",
    "Panel",
    "PytorchOod",
    "Reader",
    "Remembering",
    "Scorer",
    "SequenceScorer",
    "Subject",
    "Twins",
    "Watched",
    "alarm_table",
    "baselines",
    "judge",
    "plan",
    "to_csv",
]
