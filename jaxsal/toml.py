"""From the tables of a TOML file to settings; every mistake is named with its place."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, Union

from jaxsal.errors import InputError
from jaxsal.options import described
from jaxsal.store.files import require_content
from jaxsal.store.parsing import parsed_toml

Settings = TypeVar("Settings")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        InputError: the file cannot be read.
    """
    require_content(path)
    try:
        return parsed_toml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise InputError(f"{path} cannot be read: {reason}") from error
    except ValueError as error:
        raise InputError(f"{path} is no valid TOML: {error}") from error


def read_tables(path: Path, known: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The tables of a TOML file, all of those that are known.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    content = read_toml(path)
    check_known(str(path), content, known, "section")
    for name, table in content.items():
        if not isinstance(table, dict):
            raise InputError(f"{path}: {name} must be a section, [{name}]; got {table!r}")
    return {name: content.get(name, {}) for name in known}


def settings_from(
    cls: type[Settings], table: Mapping[str, Any], place: str, **defaults: Any
) -> Settings:
    """A dataclass from a table that has its fields as keys.

    Args:
        cls: the dataclass, which checks ranges itself.
        table: the values given.
        place: of the table, for messages.
        defaults: instead of the dataclass's own.

    Raises:
        InputError: a key is unknown or missing, or a value is of another type or out of its range.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    check_known(place, table, fields, "key")
    missing = [
        name
        for name, field in fields.items()
        if name not in {**defaults, **table}
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{place} needs the key {missing[0]}")
    values = {name: as_type(hints[name], v, f"{place} {name}") for name, v in table.items()}
    with placed(place):
        return cls(**{**defaults, **values})


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Has the messages of mistakes within the block begin with the place that they are in."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{place} {error}") from error


def check_known(
    place: str, given: Iterable[str], known: Iterable[str], what: str, advice: str = ""
) -> None:
    """Refuses names that are not known, with the most similar one that is, and all or an advice."""
    names = list(known)
    for name in given:
        if name not in names:
            similar = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
            guess = f"did you mean {similar[0]}? " if similar else ""
            advice = advice or f"It has {', '.join(sorted(names))}"
            raise InputError(f"{place}: unknown {what} {name}; {guess}{advice}")


def as_type(hint: Any, value: Any, place: str) -> Any:
    """A value as the annotation of a field asks for; lists become tuples.

    Raises:
        InputError: it is of another type.
    """
    try:
        return _converted(hint, value)
    except TypeError as error:
        raise InputError(f"{place} must be {described(hint)}; got {value!r}") from error


def _converted(hint: Any, value: Any) -> Any:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (Union, types.UnionType):
        return _first_that_fits(arguments, value)
    if typing.get_origin(hint) is tuple:
        return _as_tuple(arguments, value)
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise TypeError
        return {key: _converted(arguments[1], inner) for key, inner in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise TypeError
    return value


def _first_that_fits(hints: tuple[Any, ...], value: Any) -> Any:
    for hint in hints:
        try:
            return _converted(hint, value)
        except TypeError:
            continue
    raise TypeError


def _as_tuple(hints: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if hints == (int, int, int) and isinstance(value, int):  # the same along all axes
        value = [value] * 3
    if hints[-1] is Ellipsis and isinstance(value, list):
        hints = (hints[0],) * len(value)
    if not isinstance(value, list) or len(value) != len(hints):
        raise TypeError
    return tuple(_converted(hint, inner) for hint, inner in zip(hints, value, strict=True))
