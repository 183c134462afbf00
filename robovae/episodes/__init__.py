"""The episode store: write, list, verify, split by episode, read batches. One safetensors file an episode."""

from robovae.episodes.check import Problem, info, verify
from robovae.episodes.episode import SPLITS, Episode, EpisodeError, find_nonfinite, split_of
from robovae.episodes.layout import Record
from robovae.episodes.packing import pack
from robovae.episodes.store import EpisodeStore
from robovae.episodes.writing import remove_stale, write_episode, write_episodes

__all__ = [
    "SPLITS",
    "Episode",
    "EpisodeError",
    "EpisodeStore",
    "Problem",
    "Record",
    "find_nonfinite",
    "info",
    "pack",
    "remove_stale",
    "split_of",
    "verify",
    "write_episode",
    "write_episodes",
]
