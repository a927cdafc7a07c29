"""What a run has finished of its lesions: kept in its folder, for the same command to go on after.

A hidden folder beside the results holds the files of finished portions, a record of each with their
checksums, written last, and a record of what all of it depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jaxsal.files import file_checksum, write_json
from jaxsal.identity import require_same
from jaxsal.inside import require_no_links
from jaxsal.model import Model
from jaxsal.scan.output_folder import OutputFolder
from jaxsal.scan.provenance import RunRecord
from jaxsal.scan.results import Row
from jaxsal.settings import ExplainSettings, PredictSettings

_FOLDER, _RECORD = ".jaxsal-unfinished", "record.json"
_HOLDS = "finished lesions of an interrupted run of other settings or files"


def identity_of(
    run: RunRecord, model: Model, finding: PredictSettings, settings: ExplainSettings
) -> dict[str, Any]:
    """All that results depend on, ready for JSON."""
    threshold = model.threshold if finding.threshold is None else finding.threshold
    asked = asdict(settings)
    del asked["saliency"]["memory"]  # on which results depend by rounding only
    return {
        **run.identity(),
        "prediction": {**asdict(finding), "threshold": threshold},
        "settings": {**asked, "method": settings.method},
    }


class Unfinished:
    """The finished lesions of a run that is not complete.

    Args:
        out: folder of the run's results.
    """

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self._out = Path(out)
        self._root = self._out / _FOLDER
        self._files = self._root / "files"
        self._written: list[str] = []  # since a portion was kept last

    @property
    def lesions(self) -> int:
        """How many lesions are kept."""
        rows = (_read(path).get("rows") for path in self._root.glob("portion-*.json"))
        return sum(len(told) for told in rows if isinstance(told, list))

    @contextmanager
    def opened(self, identity: Mapping[str, Any], *, overwrite: bool) -> Iterator[None]:
        """Goes on with what is kept, if it is of the same run; removed at the end if it is nothing.

        Args:
            identity: all that results depend on, ready for JSON.
            overwrite: begin anew if something else is kept.

        Raises:
            OtherResultsError: something else is kept.
            InputError: there is a link in what is kept.
            OutputError: the folder cannot be written.
        """
        if not self.is_of(identity, overwrite=overwrite):
            self.discard()
            self._files.mkdir(parents=True)
            write_json(self._root / _RECORD, {"identity": identity})
        try:
            yield
        finally:
            if not self.lesions:
                self.discard()

    def is_of(self, identity: Mapping[str, Any], *, overwrite: bool) -> bool:
        """Whether lesions are kept of the run with this identity; see `opened`."""
        require_no_links(self._root)
        earlier = _read(self._root / _RECORD).get("identity")
        if earlier is None:
            return False
        now = json.loads(json.dumps(identity))
        if earlier != now and not overwrite:
            require_same(self._out, earlier, now, _HOLDS)
        return bool(earlier == now)

    def go_on(self, domains: np.ndarray, memory: int) -> int:
        """Keeps nothing of other lesions than these.

        Args:
            domains: (X, Y, Z) integers, what is explained; another device may find others.
            memory: bytes to stay within, as far as there is nothing kept.

        Returns:
            Bytes that the kept maps were computed within, on which maps depend by rounding, unless
            there are far fewer now.
        """
        record = _read(self._root / _RECORD)
        found = hashlib.sha256(np.ascontiguousarray(domains).tobytes()).hexdigest()
        if record.get("domains") != found:
            for path in self._root.glob("portion-*.json"):
                path.unlink()
            shutil.rmtree(self._files)
            record |= {"domains": found, "memory": memory}
            write_json(self._root / _RECORD, record)
        first = int(record.get("memory", memory))
        return first if first <= 2 * memory else memory

    def path(self, name: str) -> Path:
        """Where to write a result of the portion that is computed, such as "maps/…"."""
        self._written.append(name)
        path = self._files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def keep(self, number: int, rows: Sequence[Row]) -> None:
        """A portion is finished: these are its rows, and its files those written since the last."""
        files = {name: file_checksum(self._files / name) for name in self._written}
        write_json(self._portion(number), {"rows": rows, "files": files})
        self._written = []

    def rows(self, number: int) -> list[Row] | None:
        """The rows of a portion, if it is finished and its files are as they were written."""
        told, there = _read(self._portion(number)), self._names()
        try:
            whole = all(
                name in there and file_checksum(self._files / name) == checksum
                for name, checksum in told["files"].items()
            )
            return list(told["rows"]) if whole else None
        except (AttributeError, KeyError, TypeError):
            return None

    def hand_over(self, results: OutputFolder) -> None:
        """Adds the files of all portions to the results; they stay here, too, to go on with."""
        for name in sorted(self._names()):
            source, target = self._files / name, results.path(name)
            try:
                os.link(source, target)
            except OSError:  # a file system without links
                shutil.copyfile(source, target)

    def discard(self) -> None:
        """Removes what is kept."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _portion(self, number: int) -> Path:
        return self._root / f"portion-{number:05d}.json"

    def _names(self) -> set[str]:
        """Names of the files that are here; none is taken from a record, which may say anything."""
        files = (path for path in self._files.rglob("*") if path.is_file())
        names = (path.relative_to(self._files).as_posix() for path in files)
        return {name for name in names if not name.endswith(".part")}


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        told = json.loads(path.read_bytes())
        if isinstance(told, dict):
            return told
    return {}
