"""BIDS labels of scans: from what their owner calls them, and such that no two are alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

from jaxsal.errors import InputError
from jaxsal.inputs.entries import ENTITIES, Entry

_LABEL = re.compile(r"[A-Za-z0-9]+")
_NAMES = {short: name for name, short in ENTITIES.items()}


def labels(scan: str, given: Mapping[str, str]) -> dict[str, str]:
    """A scan's BIDS entities, by the keys of `ENTITIES`.

    Args:
        scan: its id; gives the labels that are not given, by its parts if it has the form
            "sub-07_ses-01", else as the subject's label without all but letters and digits.
        given: labels by the keys of `ENTITIES`; each may begin as in file names, "ses-01".

    Raises:
        InputError: a given label, or the id, is not made of letters and digits.
    """
    own = {name: _checked(name, text) for name, text in given.items()}
    found = _parsed(scan) or ({} if "subject" in own else {"subject": _reduced(scan)})
    found |= own
    return {name: found[name] for name in ENTITIES if name in found}


def repeated(names: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Positions of a name's first occurrence and of each later one.

    Capital and small letters are not told apart, as some file systems do not.
    """
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        known = first.setdefault(name.casefold(), position)
        if known != position:
            yield known, position


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """The entries.

    Raises:
        InputError: two have the same id, or their results would have the same names.
    """
    for first, other in repeated(entry.id for entry in entries):
        if entries[first].id == entries[other].id:
            raise InputError(
                f"{entries[other].id!r} is there twice: give each scan an id of its own"
            )
    for first, other in repeated(entry.stem for entry in entries):
        raise InputError(
            f"results of {entries[first].id!r} and {entries[other].id!r} would both be called "
            f"{entries[other].stem}: tell the scans apart by their entities"
        )
    return list(entries)


def _checked(name: str, text: str) -> str:
    label = text.removeprefix(f"{ENTITIES[name]}-")
    if not _LABEL.fullmatch(label):
        raise InputError(
            f"the {name} must be made of the letters A-Z, a-z and digits only, got {text!r}"
        )
    return label


def _parsed(scan: str) -> dict[str, str]:
    """The entities of an id such as "sub-07_ses-01"; none if it is not of that form."""
    parts = [part.partition("-") for part in scan.split("_")]
    shorts = [short for short, _, _ in parts]
    known = shorts[0] == "sub" and len(set(shorts)) == len(shorts) and {*shorts} <= _NAMES.keys()
    if not known or not all(_LABEL.fullmatch(label) for _, _, label in parts):
        return {}
    return {_NAMES[short]: label for short, _, label in parts}


def _reduced(scan: str) -> str:
    plain = unicodedata.normalize("NFKD", scan)  # an accented letter becomes letter and accent
    label = "".join(_LABEL.findall(plain))
    if not label:
        raise InputError(
            f"{scan!r} has no letters A-Z, a-z or digits to name results by: add a column "
            '"subject" of such labels'
        )
    return label
