"""Which files of a run the stages read, and what their inputs come down to: a digest."""

from collections.abc import Sequence
from pathlib import Path

from robovae.episodes import EpisodeStore
from robovae.records import digest, file_digest

MODEL = ("model.safetensors", "config.json")
CALIBRATION = ("uncertainty.safetensors", "filter.safetensors", "monitor.json")
SCORING = ("model.safetensors", "uncertainty.safetensors", "filter.safetensors")
"""What the scores of frames follow from: a monitor and an exported graph are bound to these."""
SHOWN = ("ae/model.safetensors", "judge/judge.json", "control/control.json", "control/film.webp")
"""Files of a run directory: what stages read."""

POLICY = ("policy.json", "policy.safetensors", "progress.jsonl")
"""Files of each of its policies."""


def dataset_digest(data: Path, split: str | None = None) -> str:
    """Digest of a dataset's episodes, or of a split, whatever files they lie in; reads only their headers."""
    store = EpisodeStore(data)
    return digest([record.sha256 for record in (store.split(split) if split else store).records])


def run_digest(run: Path, names: Sequence[str]) -> str:
    """Digest of some files of a run, of those that are there."""
    return digest({name: file_digest(run / name) for name in names if (run / name).is_file()})


def policy_places(run: Path) -> list[str]:
    """Names of the directories that hold the policies of a run, without those that were set aside."""
    found = (run / "policy", *run.glob("policy-*"))
    return sorted(path.name for path in found if path.is_dir() and ".old-" not in path.name)


def policy_files(run: Path) -> list[str]:
    """The files of all policies of a run."""
    return [f"{place}/{name}" for place in policy_places(run) for name in POLICY]
