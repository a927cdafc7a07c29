"""Options are declared once: as fields of frozen dataclasses, the settings.

A field's name, type and default, its class's docstring and what `option` adds are all that the
command line needs: for the Python API the field is a setting like any other.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal, Union, is_typeddict

_SECTION = re.compile(r"^Attributes:\n((?: +.*\n|\n)+)", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n     +.*)*)", re.MULTILINE)
_UNSET = re.compile(r"[.;] None: ([^;]*)$")


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option, as a field declares it.

    Attributes:
        name: of the field.
        kind: type of the value; without ``None``, where the field may be that.
        default: the value if it is not given; `dataclasses.MISSING`: it must be given.
        metavar: what stands for the value in the help, such as its unit: "MM".
        help: what it means; if none is given, what the class's docstring says of the attribute.
        choices: the values that it may have; if none are given, those of a `Literal`, else any.
        flag: the option's name without its dashes; if none is given, the field's.
        also: other spellings of the flag, which mean the same.
        shown: what the help shows as the default; if nothing is given, the default itself, or what
            the docstring says of ``None``.
        parse: from a text to the value; raises a `ValueError` that names the rule.
        positional: given by its place rather than by its name.
        repeated: may be given several times, once for each value of a tuple.
        exclusive: of the options with the same word here only one may be given.
    """

    name: str = ""
    kind: Any = None
    default: Any
    metavar: str | None = None
    help: str = ""
    choices: tuple[str, ...] = ()
    flag: str = ""
    also: tuple[str, ...] = ()
    shown: str = ""
    parse: Callable[[str], Any] | None = None
    positional: bool = False
    repeated: bool = False
    exclusive: str = ""

    @property
    def default_shown(self) -> str:
        """What the help shows as the default; empty: nothing."""
        if self.kind is bool:
            return self.shown or ("off" if self.default is False else "")
        if self.shown or self.default in (None, MISSING, ()):
            return self.shown
        parts = self.default if isinstance(self.default, tuple) else (self.default,)
        return " ".join(f"{p:.15g}" if isinstance(p, float) else str(p) for p in parts)


def option(default: Any = MISSING, metavar: str | None = None, **facts: Any) -> Any:
    """A setting that is offered as an option.

    Args:
        default: the value if it is not given; none: it must be given.
        metavar: what stands for the value in the help, such as its unit: "MM".
        facts: further attributes of `Option`.
    """
    declared = Option(default=default, metavar=metavar, **facts)
    return dataclasses.field(default=default, metadata={"option": declared})


def options_of(settings: type) -> tuple[Option, ...]:
    """The options that a dataclass of settings declares, in the order of its fields.

    Raises:
        TypeError: one has a type of which no value can be read.
    """
    fields = [field for field in dataclasses.fields(settings) if "option" in field.metadata]
    kinds = typing.get_type_hints(settings) if fields else {}
    texts = documented(settings) if fields else {}
    return tuple(_option(field, kinds[field.name], texts.get(field.name, "")) for field in fields)


def _option(field: dataclasses.Field[Any], kind: Any, text: str) -> Option:
    declared: Option = field.metadata["option"]
    if typing.get_origin(kind) in (Union, types.UnionType):
        kind = next(each for each in typing.get_args(kind) if each is not type(None))
    if declared.parse is None and not _is_read(kind):
        raise TypeError(
            f"{field.name} cannot be an option: its type must be bool, int, float, str, Path, a "
            f"Literal, or a tuple of one of them; got {kind}"
        )
    text = text.rstrip(".")
    unset = _UNSET.search(text)
    return dataclasses.replace(
        declared,
        name=field.name,
        kind=kind,
        help=declared.help or _UNSET.sub("", text),
        choices=tuple(declared.choices) or _literals(kind),
        flag=declared.flag or field.name.replace("_", "-"),
        shown=declared.shown or (unset[1] if unset else ""),
    )


def _is_read(kind: Any) -> bool:
    """Whether a word can be read as a value of the type, or words as values of a tuple."""
    if typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[0]
    return kind in _WORDS or typing.get_origin(kind) is Literal


def _literals(kind: Any) -> tuple[str, ...]:
    inner = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind
    return typing.get_args(inner) if typing.get_origin(inner) is Literal else ()


def documented(settings: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each attribute, on one line each."""
    texts: dict[str, str] = {}
    for base in reversed(settings.__mro__[:-1]):
        section = _SECTION.search(f"{inspect.cleandoc(base.__doc__ or '')}\n")
        for name, text in _ATTRIBUTE.findall(section[1]) if section else ():
            texts[name] = " ".join(text.split())
    return texts


def keywords_of(function: Callable[..., Any], settings: type) -> set[str]:
    """What a function takes by name: its own arguments, and fields of the settings that it makes.

    Args:
        function: with keyword-only arguments and ``**settings``.
        settings: a dataclass.
    """
    named = inspect.signature(function).parameters.values()
    own = {each.name for each in named if each.kind is each.KEYWORD_ONLY}
    return own | {field.name for field in dataclasses.fields(settings)}


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    Path: "a path in quotes",
}


def described(hint: Any) -> str:
    """What a value of a type is, in words."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(described(a) for a in arguments if a is not type(None))
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(arguments)}"
    if typing.get_origin(hint) is list or (arguments and dataclasses.is_dataclass(arguments[0])):
        return "a list"
    if (
        dict in (hint, typing.get_origin(hint))
        or dataclasses.is_dataclass(hint)
        or is_typeddict(hint)
    ):
        return "a table"
    if typing.get_origin(hint) is not tuple:
        return _WORDS[hint]
    kind = _WORDS[arguments[0]].split(maxsplit=1)[1].replace(" in quotes", "") + "s"
    count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
    return f"a list of {count}{kind}"
