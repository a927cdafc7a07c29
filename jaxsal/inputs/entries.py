"""One scan: its files and, in a cohort, its id and the BIDS labels that name its results."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from jaxsal.errors import InputError

OTHER_ROLES = ("reference", "instances", "mask")
"""The roles of a scan's masks and label maps on its own grid: attributes of `Scan`."""

REGION_ROLES = ("parcellation", "region_names")
"""The roles of the files that say which regions a scan has: attributes of `Scan`, too."""

# BIDS entities by which scans differ, with their short forms, in the order of BIDS names.
ENTITIES = MappingProxyType(
    {
        "subject": "sub",
        "session": "ses",
        "acquisition": "acq",
        "reconstruction": "rec",
        "run": "run",
        "space": "space",
    }
)

_NAMES = {short: name for name, short in ENTITIES.items()}
_LABEL = re.compile(r"[A-Za-z0-9]+")
_BIDS_LABEL = re.compile(r"[A-Za-z0-9+]+")
_LONGEST = 100  # of names' beginnings: file systems allow 255 bytes for the whole


@dataclass(frozen=True)
class Scan:
    """The files of one scan.

    Attributes:
        images: one per channel of the model, in the model's order.
        reference: a mask of the true lesions, if there is one.
        instances: a label map; its lesions are explained instead of predicted ones.
        mask: a mask of the brain; all outside of it is background.
        parcellation: a label map of regions, on any grid in the scan's world.
        region_names: a table of their names.

    Raises:
        InputError: there are both a reference and instances, or names of regions alone.
    """

    images: tuple[Path, ...]
    reference: Path | None = None
    instances: Path | None = None
    mask: Path | None = None
    parcellation: Path | None = None
    region_names: Path | None = None

    def __post_init__(self) -> None:
        if self.reference and self.instances:
            raise InputError("give a reference mask or a label map of instances, not both")
        if self.region_names and not self.parcellation:
            raise InputError(
                f"{self.region_names} names regions, of which there are none: give a parcellation, "
                "too, or leave out the names"
            )

    def roles(self, channels: Sequence[str]) -> dict[str, Path]:
        """The files by role: a channel, or one of `OTHER_ROLES` and `REGION_ROLES`."""
        return dict(zip(channels, self.images, strict=False)) | self.others

    @property
    def others(self) -> dict[str, Path]:
        """The files that are no images, by role."""
        found = {role: getattr(self, role) for role in (*OTHER_ROLES, *REGION_ROLES)}
        return {role: path for role, path in found.items() if path is not None}


@dataclass(frozen=True)
class Entry:
    """One scan of a cohort.

    Attributes:
        id: its name in the user's own list; unique in the cohort.
        scan: its files.
        entities: labels of letters and digits by the keys of `ENTITIES`, at least the subject's.
            The names of results are made of them.

    Raises:
        InputError: an entity is unknown, or its label has other characters; there is no subject;
            or the names would be too long for file systems.
    """

    id: str
    scan: Scan
    entities: Mapping[str, str]

    def __post_init__(self) -> None:
        wrong = [
            f"{name}: {label!r}"
            for name, label in self.entities.items()
            if name not in ENTITIES or not _BIDS_LABEL.fullmatch(label)
        ]
        if wrong or "subject" not in self.entities:
            raise InputError(
                f"the entities of {self.id!r} must be labels of the letters A-Z, a-z and digits "
                f"for {', '.join(ENTITIES)}, at least for the subject; got "
                f"{', '.join(wrong) or f'no subject, only {dict(self.entities)}'}"
            )
        if len(self.stem) > _LONGEST:
            raise InputError(
                f"names of results would begin with {self.stem[:40]}..., which is "
                f"{len(self.stem)} characters and may be {_LONGEST}: give a shorter subject"
            )

    @property
    def stem(self) -> str:
        """The beginning of its results' names, such as "sub-07_ses-01"; unique in the cohort."""
        return "_".join(
            f"{short}-{self.entities[name]}"
            for name, short in ENTITIES.items()
            if name in self.entities
        )


def bids_labels(scan: str, given: Mapping[str, str]) -> dict[str, str]:
    """A scan's BIDS entities, by the keys of `ENTITIES`.

    Args:
        scan: its id. Labels that are not given are taken from it: from its parts if it has the
            form "sub-07_ses-01"; else its letters and digits are the subject's label.
        given: labels by the keys of `ENTITIES`; each may begin as in file names, "ses-01".

    Raises:
        InputError: a given label, or the id, is not made of letters and digits.
    """
    own = {name: _checked(name, text) for name, text in given.items()}
    found = _parsed(scan) or ({} if "subject" in own else {"subject": _reduced(scan)})
    found |= own
    return {name: found[name] for name in ENTITIES if name in found}


def repeated(names: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yields the positions of a name's first occurrence and of each later one.

    Upper and lower case are the same, as in some file systems.
    """
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        known = first.setdefault(name.casefold(), position)
        if known != position:
            yield known, position


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, if no two are alike.

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
            f"{entries[other].stem}: give entities in which the scans differ"
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
    plain = unicodedata.normalize("NFKD", scan)  # a letter with an accent becomes two characters
    label = "".join(_LABEL.findall(plain))
    if not label:
        raise InputError(
            f"{scan!r} has no letters A-Z, a-z or digits to name results by: add a column "
            '"subject" of such labels'
        )
    return label
