"""What a file may hold: the fields of a dataclass, each of its type; mistakes are named.

The one place in which settings, records and detectors are checked as they are read, whatever they
were written in. A record's fields are the schema: it needs no library, and cannot differ from what
the program uses.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from jaxsal.errors import InputError
from jaxsal.options import described

Settings = TypeVar("Settings")


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
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _first_that_fits(arguments, value)
    if origin is tuple:
        return _as_tuple(arguments, value)
    if origin is Literal:
        return _if(isinstance(value, str) and value in arguments, value)
    if origin is list:
        return [_converted(arguments[0], inner) for inner in _if(isinstance(value, list), value)]
    if origin is dict:
        table = _if(isinstance(value, dict), value)
        return {key: _converted(arguments[1], inner) for key, inner in table.items()}
    if dataclasses.is_dataclass(hint):
        fields = _if(isinstance(value, dict), value)
        return settings_from(typing.cast(type, hint), fields, typing.cast(type, hint).__name__)
    if typing.is_typeddict(hint):
        return _as_table(hint, _if(isinstance(value, dict), value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(_if(abs(value) <= sys.float_info.max, value))
    if hint is Path and isinstance(value, str):
        return Path(_if("\0" not in value, value))
    return _if(isinstance(value, hint) and (hint is bool or not isinstance(value, bool)), value)


def _if(fits: bool, value: Any) -> Any:
    """The value, if it fits."""
    if not fits:
        raise TypeError
    return value


def _as_table(hint: Any, table: dict[str, Any]) -> dict[str, Any]:
    """A table with the keys of a `typing.TypedDict`, all and no others."""
    hints = typing.get_type_hints(hint)
    _if(table.keys() == hints.keys(), table)
    return {name: _converted(hints[name], value) for name, value in table.items()}


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
