"""One scan of a cohort: what it is called, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxsal.scan.loading import Scan

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


@dataclass(frozen=True)
class Entry:
    """One scan of a cohort.

    Attributes:
        id: what its owner calls it; unique in the cohort.
        scan: its files.
        entities: what BIDS names are made of: labels of letters and digits, by the keys of
            `ENTITIES`; at least the subject's.
    """

    id: str
    scan: Scan
    entities: Mapping[str, str]

    @property
    def stem(self) -> str:
        """What all its results' names begin with, such as "sub-07_ses-01"; unique in the cohort."""
        return "_".join(
            f"{short}-{self.entities[name]}"
            for name, short in ENTITIES.items()
            if name in self.entities
        )
