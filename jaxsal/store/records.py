"""What is known of each scan that is done: its results with their checksums, or why it failed.

A record is written last, and whole or not at all; what has no record is not done. Imports no JAX,
as reports need none.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from jaxsal.errors import InputError
from jaxsal.store.file_list import Files, damaged, missing, require_sound
from jaxsal.store.files import write_json
from jaxsal.store.stamps import Inputs, from_json

if TYPE_CHECKING:
    from jaxsal.tables import Row


_KINDS = {
    "id": str,
    "reason": str,
    "rows": list,
    "files": dict,
    "seconds": int | float,
    "ran": dict,
}
_STEM = re.compile(r"[A-Za-z0-9+_-]+")
_Status = Literal["finished", "failed"]
IsOwn = Callable[[str, str], bool]  # whether results of this stem are given this name


@dataclass(frozen=True)
class ScanRecord:
    """What became of a scan.

    Attributes:
        id: what its owner calls it.
        stem: what its results' names begin with.
        status: whether its results are there.
        inputs: its files as they were.
        reason: why it failed, or what else is to be known of it.
        rows: of the table, one per lesion.
        files: size and SHA-256 of each result, by its name relative to the cohort's folder.
        seconds: that computing took.
        ran: host, device and software.
    """

    id: str
    stem: str
    status: _Status
    inputs: Inputs
    reason: str = ""
    rows: list[Row] = field(default_factory=list)
    files: Files = field(default_factory=dict)
    seconds: float = 0.0
    ran: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes it, whole or not at all."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path, root: Path, stem: str, is_own: IsOwn) -> ScanRecord | None:
        """The record of this file; None if there is none, or a damaged one, of which it warns.

        Damaged is also one of another scan, or which names anything but results of its own inside
        the folder: what a record names is moved and removed.

        Args:
            path: of the file.
            root: the folder of results.
            stem: of the scan whose record it must be.
            is_own: which names the scan's results can have.
        """
        try:
            found = json.loads(path.read_bytes())
            record = cls(**{**found, "inputs": from_json(found["inputs"])})
            record._require_sound(root, stem, is_own)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = (
                f"{type(error).__name__}: {error}" if not isinstance(error, InputError) else error
            )
            warnings.warn(f"{path} is damaged, its scan counts as not done: {reason}", stacklevel=2)
            return None
        return record

    def _require_sound(self, root: Path, stem: str, is_own: IsOwn) -> None:
        """Refuses what no run writes."""
        wrong = [name for name, kind in _KINDS.items() if not isinstance(getattr(self, name), kind)]
        if wrong or not all(isinstance(row, dict) for row in self.rows):
            raise InputError(f"{', '.join(wrong) or 'a row'} is of another type")
        if self.stem != stem or not _STEM.fullmatch(stem):  # which patterns are made of, too
            raise InputError(f"it is of a scan {self.stem!r}")
        if self.status not in get_args(_Status):
            raise InputError(f"the status is {self.status!r}")
        require_sound(root, self.files, partial(is_own, stem))

    def missing(self, folder: Path) -> list[str]:
        """Results that are not in the cohort's folder any more, or have another size."""
        return missing(folder, self.files)

    def damaged(self, folder: Path) -> list[str]:
        """Results that are not there, or have another content."""
        return damaged(folder, self.files)
