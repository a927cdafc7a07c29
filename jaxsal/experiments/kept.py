"""Rows and notes of scans, kept lest an experiment that was ended computes them again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxsal.inputs.entries import Entry
from jaxsal.inputs.scan import OTHER_ROLES, Scan
from jaxsal.store.files import write_json
from jaxsal.store.identity import digest
from jaxsal.store.records import Stamp, are_same, stamps
from jaxsal.tables import Row


@dataclass(frozen=True)
class Made:
    """What an experiment made of a scan.

    Attributes:
        rows: ready for JSON.
        notes: what looks like a mistake in the scan, in sentences.
    """

    rows: list[Row]
    notes: tuple[str, ...] = ()


class KeptRows:
    """Rows and notes of scans in a folder, a file per scan.

    Args:
        folder: for the files; made if it is not there.
        channels: of the model.
        identity: what rows depend on but the scans, ready for JSON; rows of another are not used.
        files: what else rows depend on, by what a file is taken for; they may not be there.
    """

    def __init__(
        self,
        folder: Path,
        channels: tuple[str, ...],
        identity: Mapping[str, Any],
        files: Callable[[Entry], Mapping[str, Path]] = lambda entry: {},
    ) -> None:
        self._folder, self._channels, self._files = folder, channels, files
        self._identity = digest(identity)
        folder.mkdir(parents=True, exist_ok=True)

    def made(self, entry: Entry) -> Made | None:
        """Those of a scan, if they are there, and all files are that they are of or tell of."""
        try:
            told = json.loads(self._path(entry).read_bytes())
            inputs, others = (
                {role: stamp and Stamp(**stamp) for role, stamp in told[kind].items()}
                for kind in ("inputs", "others")
            )
            if (
                told["identity"] == self._identity
                and are_same(inputs, entry.scan, self._channels)
                and _unchanged(others, self._files(entry))
                and all(_is_there(row["entry"]) for row in told["rows"] if "entry" in row)
            ):
                return Made(list(told["rows"]), tuple(map(str, told["notes"])))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # none, or none that can be read
        return None

    def keep(self, entry: Entry, made: Made) -> None:
        """Keeps those of a scan.

        Raises:
            OutputError: they cannot be written.
        """
        inputs = stamps(entry.scan, self._channels).items()
        others = {role: _stamp(path) for role, path in self._files(entry).items()}
        told = {
            "identity": self._identity,
            "inputs": {role: stamp and asdict(stamp) for role, stamp in inputs},
            "others": {role: stamp and asdict(stamp) for role, stamp in others.items()},
            **asdict(made),
        }
        write_json(self._path(entry), told)

    def _path(self, entry: Entry) -> Path:
        return self._folder / f"{entry.stem}.json"


def _stamp(path: Path) -> Stamp | None:
    try:
        return Stamp.of(path)
    except OSError:
        return None


def _unchanged(stamps: Mapping[str, Stamp | None], files: Mapping[str, Path]) -> bool:
    """Whether files have this content, and those are not there that were not."""
    if set(stamps) != set(files):
        return False
    pairs = [(stamp, files[role]) for role, stamp in stamps.items()]
    return all(stamp.is_same(path) if stamp else not path.exists() for stamp, path in pairs)


def _is_there(told: Mapping[str, Any]) -> bool:
    """Whether all files are there of a scan that is kept in a row."""
    scan = entry_of(told).scan
    return all(path.exists() for path in (*scan.images, *scan.others.values()))


def told(entry: Entry) -> dict[str, Any]:
    """A scan, ready for JSON, to be kept in a row."""
    scan = entry.scan
    return {
        "id": entry.id,
        "images": [str(path.absolute()) for path in scan.images],
        **{role: str(path.absolute()) for role, path in scan.others.items()},
        "entities": dict(entry.entities),
    }


def entry_of(told: Mapping[str, Any]) -> Entry:
    """The inverse of `told`."""
    others = {role: Path(told[role]) for role in OTHER_ROLES if told.get(role)}
    return Entry(told["id"], Scan(tuple(map(Path, told["images"])), **others), told["entities"])
