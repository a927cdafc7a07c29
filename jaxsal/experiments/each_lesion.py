"""What was found of a scan's lesions, kept one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jaxsal.experiments.each_scan import KeptRows, Made
from jaxsal.scan.prediction import completed
from jaxsal.scan.provenance import identity_of

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.inputs.entries import Entry
    from jaxsal.lesions import Instance
    from jaxsal.tables import Row


class KeptLesions:
    """Rows of the lesions of a scan: an interrupted run, or one of more lesions, goes on there.

    Args:
        study: the scans.
        name: of the experiment.
        settings: what the rows of a lesion depend on besides model, prediction and scan, so not
            which lesions are chosen; for JSON.
        entry: the scan.
        files: what else they are made from, by role; files may be missing.
    """

    def __init__(
        self,
        study: Study,
        name: str,
        settings: Mapping[str, Any],
        entry: Entry,
        files: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        self._folder, self._channels = study.out / ".jaxsal" / name, study.model.channels
        finding = completed(study.prediction, study.model)
        self._identity = identity_of(study.model, finding, settings)
        self._entry, self._files = entry, files

    def rows(self, lesion: Instance) -> list[Row] | None:
        """Those of a lesion; None if there are none that can be used."""
        made = self._kept(lesion).made(self._entry)
        return made.rows if made else None

    def keep(self, lesion: Instance, rows: list[Row]) -> list[Row]:
        """Writes those of a lesion, ready for JSON, and returns them.

        Raises:
            OutputError: they cannot be written.
        """
        self._kept(lesion).keep(self._entry, Made(rows))
        return rows

    def _kept(self, lesion: Instance) -> KeptRows:
        folder = self._folder / f"lesion-{lesion.label:04d}"
        return KeptRows(folder, self._channels, self._identity, lambda entry: self._files)
