"""Strict conversion between config dataclasses and plain data (YAML, JSON): an unknown key is an error."""

import difflib
import types
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from robovae.errors import RobovaeError

T = TypeVar("T")


class ConfigError(RobovaeError):
    """Plain data does not fit the config it is meant for."""


def nearest(word: str, known: Collection[str]) -> str:
    """The known name that looks most like `word`, as a hint for an error; all of them if none does."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"


def check_keys(data: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Refuse keys that are not known.

    Raises:
        ConfigError: naming the first unknown key and the nearest known one.
    """
    for key in data:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}; {nearest(str(key), known)}")


def check_least(config: object, error: type[RobovaeError], **least: int) -> None:
    """Refuse fields of a config below their least value.

    Raises:
        RobovaeError: of the kind given, naming the first field that is too small.
    """
    for name, lowest in least.items():
        if (value := getattr(config, name)) < lowest:
            raise error(f"{name}: expected at least {lowest}, received {value}")


def from_mapping(cls: type[T], data: object, where: str) -> T:
    """Build a config dataclass from plain data.

    Fields may be bool, int, float, str, Path, Literal, tuples and dicts of these, None in a union, and
    dataclasses.

    Args:
        cls: a dataclass; its `__post_init__` checks the values.
        data: a mapping of field names.
        where: what the data is, for errors: "launch/quickstart.yaml: train".

    Raises:
        ConfigError: a key is unknown or missing, or a value is of the wrong type or refused by the class.
    """
    if not is_dataclass(cls):
        raise TypeError(f"{cls} is no dataclass")
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected keys and values, received {_shown(data)}")
    known: dict[str, Field[Any]] = {field.name: field for field in fields(cls) if field.init}
    check_keys(data, known, where)
    for name, field in known.items():
        if name not in data and field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{where}: the key {name!r} is missing")
    hints = get_type_hints(cls)
    values = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return cls(**values)
    except RobovaeError as error:
        raise ConfigError(f"{where}: {error}") from error


def to_plain(value: Any) -> Any:
    """Dataclasses, paths and tuples as JSON-able data; `from_mapping` is the inverse."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _convert(hint: Any, value: Any, where: str) -> Any:
    """One value as the type that its field asks for."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(get_args(hint), value, where)
    if origin is tuple:
        return _convert_tuple(get_args(hint), value, where)
    if origin is Literal:
        return _expect(value in get_args(hint), value, f"one of {', '.join(map(str, get_args(hint)))}", where)
    if hint is Any:
        return value
    if origin is dict:
        return _convert_dict(get_args(hint)[1], value, where)
    if isinstance(hint, type) and is_dataclass(hint):
        return value if isinstance(value, hint) else from_mapping(hint, value, where)
    return _convert_scalar(hint, value, where)


def _convert_dict(item: Any, value: Any, where: str) -> dict[str, Any]:
    _expect(isinstance(value, Mapping), value, "keys and values", where)
    return {str(key): _convert(item, one, f"{where}.{key}") for key, one in value.items()}


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float:
        return _as_float(value, where)
    if hint is Path:
        return Path(_expect(isinstance(value, str), value, "a path", where))
    names = {bool: "true or false", int: "an integer", str: "text", type(None): "nothing"}
    if hint not in names:
        raise TypeError(f"{where}: config fields of type {hint} are not supported")
    fits = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    return _expect(fits, value, names[hint], where)


def _as_float(value: Any, where: str) -> float:
    """A number; YAML reads `1e-3` as text, so text that is a number counts."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    return float(_expect(fits, value, "a number", where))


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    errors = []
    for option in options:
        try:
            return _convert(option, value, where)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


def _convert_tuple(items: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    _expect(isinstance(value, list | tuple), value, "a list", where)
    if len(items) == 2 and items[1] is Ellipsis:
        items = (items[0],) * len(value)
    _expect(len(value) == len(items), value, f"a list of {len(items)}", where)
    pairs = enumerate(zip(items, value, strict=True))
    return tuple(_convert(hint, item, f"{where}[{index}]") for index, (hint, item) in pairs)


def _expect(fits: bool, value: Any, expected: str, where: str) -> Any:
    if not fits:
        raise ConfigError(f"{where}: expected {expected}, received {_shown(value)}")
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
