"""The belief filter: a belief that is carried through time, and a frame that counts for what it says."""

from robovae.filter.belief_filter import BeliefFilter
from robovae.filter.model import FILE, load_dynamics, save_dynamics

__all__ = ["FILE", "BeliefFilter", "load_dynamics", "save_dynamics"]
