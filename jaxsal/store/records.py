"""What is known of each scan that is done: its results with their checksums, or why it failed.

A record is written last, and whole or not at all; what has no record is not done. By the stamps in
it is seen whether a scan's files have changed since. Imports no JAX, as reports need none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxsal.errors import InputError, require, warn
from jaxsal.store.file_list import Files, damaged, missing, require_sound
from jaxsal.store.files import content_of, file_checksum, write_json
from jaxsal.store.parsing import parsed_json
from jaxsal.store.schema import as_type, settings_from

if TYPE_CHECKING:
    from jaxsal.inputs.entries import Scan

_STEM = re.compile(r"[A-Za-z0-9+_-]+")
_Status = Literal["finished", "failed"]
IsOwn = Callable[[str, str], bool]  # whether results of this stem are given this name
CheckRow = Callable[[Mapping[str, Any]], None]  # refuses a row of the table


@dataclass(frozen=True)
class Stamp:
    """A file as it was: by its size and time a change is suspected, by its checksum known.

    The time is only ever compared for being the same, never for being later: clocks go back.
    """

    file: str
    size: int
    mtime_ns: int
    sha256: str

    def __post_init__(self) -> None:
        require("\0" not in self.file, "file", "a name that a file can have", self.file)

    @property
    def uri(self) -> str:
        """Where it is, as BIDS refers to files of other datasets."""
        return Path(self.file).as_uri()

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The file as it is.

        Raises:
            OSError: it cannot be read.
        """
        path = path.absolute()
        status = path.stat()
        return cls(str(path), status.st_size, status.st_mtime_ns, file_checksum(path))

    def is_same(self, path: Path) -> bool:
        """Whether a file still has this content.

        Raises:
            OSError: it cannot be read.
        """
        status = path.stat()
        if status.st_size != self.size:
            return False
        return status.st_mtime_ns == self.mtime_ns or file_checksum(path) == self.sha256


Inputs = dict[str, Stamp | None]  # by what a file is taken for; None: it cannot be read


def stamps(scan: Scan, channels: tuple[str, ...]) -> Inputs:
    """A scan's files as they are."""
    return stamps_of(scan.roles(channels))


def stamps_of(files: Mapping[str, Path]) -> Inputs:
    """Files as they are, by what each is taken for."""
    return {role: _stamp(path) for role, path in files.items()}


def _stamp(path: Path) -> Stamp | None:
    try:
        return Stamp.of(path)
    except (OSError, ValueError):  # a name that no file can have
        return None


def are_same(inputs: Inputs, scan: Scan, channels: tuple[str, ...]) -> bool:
    """Whether a scan's files still have the content of these stamps.

    A file that cannot be read now, but could then, counts as the same: its results stay.
    """
    roles = scan.roles(channels)
    if set(inputs) != set(roles):
        return False
    return all(_is_same(inputs[role], path) for role, path in roles.items())


def to_json(inputs: Inputs) -> dict[str, Any]:
    """Stamps, ready for JSON."""
    return {role: stamp and asdict(stamp) for role, stamp in inputs.items()}


def from_json(content: Mapping[str, Any]) -> Inputs:
    """The inverse of `to_json`.

    Raises:
        InputError: it is no such content.
    """
    inputs: Inputs = as_type(Inputs, content, "inputs")
    return inputs


def _is_same(stamp: Stamp | None, path: Path) -> bool:
    try:
        path.stat()
        return stamp is not None and stamp.is_same(path)
    except (OSError, ValueError):  # gone, or not to be reached at the moment
        return True


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
    rows: list[dict[str, Any]] = field(default_factory=list)
    files: Files = field(default_factory=dict)
    seconds: float = 0.0
    ran: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(0 <= self.seconds < math.inf, "seconds", "a number from 0 on", self.seconds)

    def write(self, path: Path) -> None:
        """Writes it, whole or not at all."""
        write_json(path, asdict(self))

    @classmethod
    def read(
        cls, path: Path, root: Path, stem: str, is_own: IsOwn, check: CheckRow
    ) -> ScanRecord | None:
        """The record of this file; None if there is none, or a damaged one, of which it warns.

        Damaged is also one of another scan, or which names anything but results of its own inside
        the folder: what a record names is moved and removed.

        Args:
            path: of the file.
            root: the folder of results.
            stem: of the scan whose record it must be.
            is_own: which names the scan's results can have.
            check: raises InputError for a row that no run makes.
        """
        try:
            found = as_type(dict[str, Any], parsed_json(content_of(path)), "a record")
            record = settings_from(cls, found, "the record")
            record._require_sound(root, stem, is_own)
            for row in record.rows:
                check(row)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            reason = str(error) if isinstance(error, InputError) else repr(error)
            warn(f"{path} is damaged, its scan counts as not done: {reason}")
            return None
        return record

    def _require_sound(self, root: Path, stem: str, is_own: IsOwn) -> None:
        """Refuses what no run writes."""
        if self.stem != stem or not _STEM.fullmatch(stem):  # which patterns are made of, too
            raise InputError(f"it is of a scan {self.stem!r}")
        require_sound(root, self.files, partial(is_own, stem))

    def missing(self, folder: Path) -> list[str]:
        """Results that are not in the cohort's folder any more, or have another size."""
        return missing(folder, self.files)

    def damaged(self, folder: Path) -> list[str]:
        """Results that are not there, or have another content."""
        return damaged(folder, self.files)
