"""``--config FILE``: options in a TOML file, by their names; those of the command line win."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal.options import Option, option

FLAG = "--config"


@dataclass(frozen=True)
class Config:
    """Where options stand that are not given on the command line."""

    config: Path | None = option(
        None,
        "FILE",
        help="TOML file with options that are not given here, such as samples = 20, mirror = true "
        'or image = ["flair.nii", "t1.nii"]; paths in it are relative to the file. --no-NAME takes '
        "back what it switches on",
    )


def with_file(words: Sequence[str], options: Mapping[str, Option]) -> list[str]:
    """The words of a command line, with those for the options of a file if they name one.

    Args:
        words: the command line.
        options: those that the file may have, by flag.

    Raises:
        InputError: the file cannot be read, or has another option.
    """
    end = words.index("--") if "--" in words else len(words)
    path = _file(words[:end])
    if path is None:
        return list(words)
    from jaxsal.store.schema import check_known
    from jaxsal.toml import read_toml

    content = {flag.replace("_", "-"): value for flag, value in read_toml(path).items()}
    advice = "`--help` describes the options; what has no -- there is given on the command line"
    check_known(str(path), content, options, "option", advice)
    names = [word.partition("=")[0] for word in words[:end] if word.startswith("--")]
    bare = (name.removeprefix("--no-").removeprefix("--") for name in names)
    given = {name.replace("_", "-") for name in bare}
    instead = {options[flag].exclusive for flag in given & options.keys()} - {""}
    added = [
        word
        for flag, value in content.items()
        if flag not in given and options[flag].exclusive not in instead
        for word in _words(options[flag], value, path)
    ]
    return [*words[:end], *added, *words[end:]]


def _file(words: Sequence[str]) -> Path | None:
    """The file that a command line names; a value that is lacking is left to the parser."""
    found = []
    for word, following in pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name == FLAG and (value or following):
            found.append(Path(value if equals else following))
    if len(found) > 1:
        raise InputError(f"give {FLAG} once; got {' and '.join(map(str, found))}")
    return found[0] if found else None


def _words(option: Option, value: Any, path: Path) -> Iterator[str]:
    """The words that give an option a value of a file."""
    flag = f"--{option.flag}"
    if isinstance(value, dict) or (option.kind is bool) != isinstance(value, bool):
        expected = "true or false" if option.kind is bool else "a value or a list of values"
        raise InputError(f"{path}: {option.flag} must be {expected}; got {value!r}")
    if option.kind is bool:
        yield flag if value else f"--no-{option.flag}"
        return
    texts = [str(each) for each in _listed(value)]
    if Path in (option.kind, *typing.get_args(option.kind)):
        if not all(isinstance(each, str) for each in _listed(value)):
            raise InputError(f"{path}: {option.flag} must be a path in quotes; got {value!r}")
        texts = [str(path.parent / Path(text).expanduser()) for text in texts]
    if option.repeated:
        yield from (f"{flag}={text}" for text in texts)
    elif option.parse is None and typing.get_origin(option.kind) is tuple:
        yield from (flag, *texts)
    else:
        yield f"{flag}={','.join(texts)}"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
