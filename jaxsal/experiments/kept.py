"""Rows of scans, kept lest an experiment that was ended computes them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaxsal.cohort.entries import Entry
from jaxsal.cohort.storage.records import Stamp, are_same, stamps, write_json
from jaxsal.scan.loading import Scan
from jaxsal.scan.results import Row


class KeptRows:
    """Rows of scans in a folder, a file per scan.

    Args:
        folder: for the files; made if it is not there.
        channels: of the model.
        identity: what rows depend on but the scans, ready for JSON; rows of another are not used.
    """

    def __init__(
        self, folder: Path, channels: tuple[str, ...], identity: Mapping[str, Any]
    ) -> None:
        self._folder, self._channels = folder, channels
        text = json.dumps(identity, sort_keys=True)
        self._identity = hashlib.sha256(text.encode()).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)

    def rows(self, entry: Entry) -> list[Row] | None:
        """Those of a scan, if they are there and its files are as they were."""
        try:
            told = json.loads(self._path(entry).read_bytes())
            inputs = {role: stamp and Stamp(**stamp) for role, stamp in told["inputs"].items()}
            if told["identity"] == self._identity and are_same(inputs, entry.scan, self._channels):
                return list(told["rows"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # none, or none that can be read
        return None

    def keep(self, entry: Entry, rows: Sequence[Row]) -> None:
        """Keeps those of a scan.

        Raises:
            OutputError: they cannot be written.
        """
        inputs = stamps(entry.scan, self._channels).items()
        told = {
            "identity": self._identity,
            "inputs": {role: stamp and asdict(stamp) for role, stamp in inputs},
            "rows": list(rows),
        }
        write_json(self._path(entry), told)

    def _path(self, entry: Entry) -> Path:
        return self._folder / f"{entry.stem}.json"


def told(entry: Entry) -> dict[str, Any]:
    """A scan, ready for JSON, to be kept in a row."""
    scan = entry.scan
    return {
        "id": entry.id,
        "images": [str(path.absolute()) for path in scan.images],
        "reference": scan.reference and str(scan.reference.absolute()),
        "instances": scan.instances and str(scan.instances.absolute()),
        "entities": dict(entry.entities),
    }


def entry_of(told: Mapping[str, Any]) -> Entry:
    """The inverse of `told`."""
    reference, instances = (
        Path(told[role]) if told[role] else None for role in ("reference", "instances")
    )
    images = tuple(map(Path, told["images"]))
    return Entry(told["id"], Scan(images, reference, instances), told["entities"])
