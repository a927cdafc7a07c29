"""Files as they were: by their stamps it is seen whether a scan's files have changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.store.files import file_checksum

if TYPE_CHECKING:
    from jaxsal.inputs.entries import Scan


@dataclass(frozen=True)
class Stamp:
    """A file as it was: by its size and time a change is suspected, by its checksum known.

    The time is only ever compared for being the same, never for being later: clocks go back.
    """

    file: str
    size: int
    mtime_ns: int
    sha256: str

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
    except OSError:
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
    """The inverse of `to_json`."""
    return {role: stamp and Stamp(**stamp) for role, stamp in content.items()}


def _is_same(stamp: Stamp | None, path: Path) -> bool:
    try:
        path.stat()
        return stamp is not None and stamp.is_same(path)
    except OSError:  # gone, or not to be reached at the moment
        return True
