"""A recipe: one YAML file that says what to collect and how to train on it."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from robovae.collect import CollectConfig
from robovae.config import ConfigError, check_keys, from_mapping
from robovae.episodes import SPLITS

Quality = Literal["fast", "full"]
SCALES = ("quick", "full")
"""How much is judged: minutes or hours."""
SECTIONS = ("collect", "train", "ae", "calibrate", "policy", "evaluate", "control")
OTHERS = "others"
"""Key of the section `policy` under which further policies stand."""
RARE_POLICY = "bang"
"""Who acts in the episodes of the rare split."""
SET_BY_SPLIT = ("episodes", "seed")
"""Fields of CollectConfig that `CollectStage.episodes` decides."""


@dataclass(frozen=True)
class CollectStage:
    """What to collect, from where, into which directory."""

    env: str
    """Gymnasium id of the environment."""
    out: Path
    """The dataset."""
    episodes: dict[str, int] = field(default_factory=lambda: {"train": 400, "test": 40})
    """Episodes of each split."""
    size: str = "64"
    """Pixels: a side of a square frame, or HxW."""
    quality: Quality = "fast"
    """Preset of the RenderSpec."""
    spread: float = 0.0
    """Share of the joints' range over which episodes start; 0: the environment's own starts."""
    settings: CollectConfig = field(default_factory=CollectConfig)
    """Everything else; in a recipe its keys stand beside the others."""

    def __post_init__(self) -> None:
        if not self.episodes:
            raise ConfigError("episodes: expected at least one split, received none")
        check_keys(self.episodes, SPLITS, "episodes")
        parse_size(self.size)
        if not 0.0 <= self.spread <= 1.0:
            raise ConfigError(f"spread: expected a share from 0 to 1, received {self.spread}")
        self.configs()

    def _policy(self, split: str) -> str:
        """Rare episodes are unusual by their actions, whoever acts in the others."""
        return RARE_POLICY if split == "rare" else self.settings.policy

    def configs(self) -> dict[str, CollectConfig]:
        """The collection of each split."""
        return {
            split: replace(self.settings, episodes=count, seed=split, policy=self._policy(split))
            for split, count in self.episodes.items()
        }


@dataclass(frozen=True)
class Recipe:
    """The stages of a pipeline, read from a file."""

    path: Path
    """The file."""
    collect: CollectStage
    """What to collect."""
    run: Path
    """The run directory that training fills."""
    train: dict[str, Any]
    """Keys of TrainConfig; `robovae.train` checks them."""
    ae: dict[str, Any] | None
    """Those that differ for the plain autoencoder in `run/ae`, for the report to compare with; or None."""
    calibrate: dict[str, Any] | None = None
    """Keys of CalibrateConfig; None leaves sigma as the encoder emits it."""
    evaluate: str | None = None
    """ "quick" or "full": judge the calibrated run over the fault suite."""
    policy: dict[str, Any] | None = None
    """Keys of PolicyConfig, and under `OTHERS` those that differ for further policies, by name; or None."""
    control: str | None = None
    """ "quick" or "full": judge the policies with a camera that fails."""

    def ae_config(self) -> dict[str, Any]:
        """Keys of TrainConfig for the plain autoencoder: those of `train`, with those of `ae` over them."""
        ae = self.ae or {}
        model = {**_keys(self.train, "model"), **_keys(ae, "model"), "deterministic": True}
        return {**self.train, **ae, "model": model}

    def policy_settings(self) -> dict[str, dict[str, Any]]:
        """Keys of PolicyConfig by name: "" is the run's own policy, the others have its keys and theirs."""
        if self.policy is None:
            return {}
        own = {key: value for key, value in self.policy.items() if key != OTHERS}
        others = self.policy.get(OTHERS, {})
        return {"": own, **{name: {**own, **keys} for name, keys in others.items()}}


def _keys(section: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    keys = section.get(name, {})
    if not isinstance(keys, Mapping):
        raise ConfigError(f"{name}: expected keys and values, received {keys!r}")
    return keys


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) from "64" or "64x96".

    Raises:
        ConfigError: the text is neither.
    """
    height, _, width = text.lower().partition("x")
    if not height.isdecimal() or not (width or height).isdecimal() or text.lower().endswith("x"):
        raise ConfigError(f"size: expected a number of pixels or HxW such as 64x96, received {text!r}")
    size = int(height), int(width or height)
    if min(size) < 1:
        raise ConfigError(f"size: expected at least 1 pixel a side, received {text!r}")
    return size


def load_recipe(path: Path, root: Path = Path()) -> Recipe:
    """Read a recipe; its paths count from `root`.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown, missing or refused.
    """
    data = _read_yaml(path)
    check_keys(data, SECTIONS, str(path))
    collect = _collect_stage(_section(data, "collect", path), f"{path}: collect", root)
    train = dict(_section(data, "train", path))
    out = train.pop("out", None)
    if not isinstance(out, str):
        raise ConfigError(f"{path}: train: expected a run directory under the key 'out', received {out!r}")
    ae, calibrate = (
        dict(_section(data, name, path)) if name in data else None for name in ("ae", "calibrate")
    )
    evaluate, control = _scale(data, "evaluate", "calibrate", path), _scale(data, "control", "policy", path)
    policy = _policy(data, path) if "policy" in data else None
    _check_ends(path, collect, root / out, calibrate is not None)
    return Recipe(path, collect, root / out, train, ae, calibrate, evaluate, policy, control)


def _check_ends(path: Path, collect: CollectStage, run: Path, calibrates: bool) -> None:
    """Refuse what would fail only after hours."""
    from robovae.vae import CELL  # brings torch, which reading the package needs not

    places = [place.resolve() for place in (collect.out, run)]
    if places[0].is_relative_to(places[1]) or places[1].is_relative_to(places[0]):
        raise ConfigError(
            f"{path}: expected a dataset and a run apart from each other, received {collect.out} and {run}: "
            "what is made anew is set aside with all that lies in it"
        )
    for split in ("train", "test", *(("calibrate",) if calibrates else ())):
        if split not in collect.episodes:
            known = ", ".join(collect.episodes)
            raise ConfigError(f"{path}: collect.episodes: expected the split {split!r}, received {known}")
    if any(side % CELL or side < 2 * CELL for side in parse_size(collect.size)):
        raise ConfigError(
            f"{path}: collect.size: expected sides that are multiples of {CELL} from {2 * CELL} on, received "
            f"{collect.size}"
        )


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: no readable recipe ({error.strerror}); launch/ holds some") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: expected the sections collect and train, received {type(data).__name__}")
    return data


def _section(data: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    section = data.get(name)
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path}: expected keys and values in the section {name!r}, received {section!r}")
    return section


def _scale(data: Mapping[str, Any], name: str, beside: str, path: Path) -> str | None:
    """How much is judged, None where the recipe does not ask for it."""
    scale = data.get(name)
    if scale is not None and (scale not in SCALES or beside not in data):
        raise ConfigError(
            f"{path}: {name}: expected {' or '.join(SCALES)} beside a section {beside!r}, received {scale!r}"
        )
    return scale


def _policy(data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    section = dict(_section(data, "policy", path))
    if "calibrate" not in data:
        raise ConfigError(f"{path}: policy: expected a section 'calibrate' beside it, received none")
    others = section.get(OTHERS, {})
    named = isinstance(others, Mapping) and all(name and isinstance(name, str) for name in others)
    if not named or not all(isinstance(keys, Mapping) for keys in others.values()):
        raise ConfigError(
            f"{path}: policy.{OTHERS}: expected names with keys and values, received {others!r}"
        )
    return section


def _collect_stage(section: Mapping[str, Any], where: str, root: Path) -> CollectStage:
    own = {item.name for item in fields(CollectStage)} - {"settings"}
    settings = {item.name for item in fields(CollectConfig)} - set(SET_BY_SPLIT)
    check_keys(section, own | settings, where)
    required = {item.name for item in fields(CollectStage) if item.default is item.default_factory is MISSING}
    if missing := sorted(required - set(section)):
        raise ConfigError(f"{where}: the key {missing[0]!r} is missing")
    config = from_mapping(CollectConfig, {key: section[key] for key in section if key in settings}, where)
    stage = {key: section[key] for key in section if key in own}
    if not isinstance(stage["out"], str):
        raise ConfigError(f"{where}: out: expected a directory, received {stage['out']!r}")
    return from_mapping(
        CollectStage,
        {**stage, "size": str(stage.get("size", 64)), "out": str(root / stage["out"]), "settings": config},
        where,
    )
