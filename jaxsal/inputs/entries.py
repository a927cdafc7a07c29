"""One scan of a cohort: what it is called, and where its files are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from jaxsal.errors import InputError

if TYPE_CHECKING:
    from jaxsal.inputs.scan import Scan

# BIDS entities that may tell the scans of a subject apart, as they are written, in BIDS's order.
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

_LABEL = re.compile(r"[A-Za-z0-9+]+")
_LONGEST = 100  # of names' beginnings: file systems allow 255 bytes for the whole


@dataclass(frozen=True)
class Entry:
    """One scan of a cohort.

    Attributes:
        id: what its owner calls it; unique in the cohort.
        scan: its files.
        entities: what BIDS names are made of: labels of letters and digits, by the keys of
            `ENTITIES`; at least the subject's.

    Raises:
        InputError: the entities are not such, or too long for names of files.
    """

    id: str
    scan: Scan
    entities: Mapping[str, str]

    def __post_init__(self) -> None:
        wrong = [
            f"{name}: {label!r}"
            for name, label in self.entities.items()
            if name not in ENTITIES or not _LABEL.fullmatch(label)
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
        """What all its results' names begin with, such as "sub-07_ses-01"; unique in the cohort."""
        return "_".join(
            f"{short}-{self.entities[name]}"
            for name, short in ENTITIES.items()
            if name in self.entities
        )
