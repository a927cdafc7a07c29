"""A scan's explained lesions in memory: table, maps, pictures, and the folder when it is wanted."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.devices import default_devices
from jaxsal.errors import InputError
from jaxsal.figures.canvas import write_figure
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Scan
from jaxsal.progress import OnProgress
from jaxsal.saliency.maps import Crop, SaliencyMaps
from jaxsal.saliency.memory import default_budget
from jaxsal.scan.amount import Following, amount_of, compute_portions
from jaxsal.scan.call import Call
from jaxsal.scan.lesion_table import for_reading
from jaxsal.scan.prediction import write_prediction
from jaxsal.scan.provenance import RunRecord
from jaxsal.scan.region_table import REGION_COLUMNS, all_regions
from jaxsal.scan.writing import (
    lesion_picture,
    map_row,
    table_columns,
    write_lesion,
    write_run,
)
from jaxsal.store.output_folder import OutputFolder
from jaxsal.tables import Row
from jaxsal.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

    from jaxsal.scan.portions import LesionResults, Portions
    from jaxsal.settings import ExplainSettings

_SHOWN_ROWS = 20
_SHOWN_COLUMNS = ("label", "kind", "volume_mm3")


@dataclass(frozen=True, eq=False, repr=False)
class ExplainedScan:
    """The lesions of a scan, and a map of each; a notebook shows a picture and the table.

    Attributes:
        scan: its files.
        rows: of the table, as ``jaxsal explain`` writes them, true lesions first.
        maps: by label, on `grid`; the one of class level has the label 0.
        grid: of the maps: the network's, which is the scan's where that has its axes and voxels.
    """

    scan: Scan
    rows: tuple[Row, ...]
    maps: SaliencyMaps
    _portions: Portions
    _settings: ExplainSettings
    _run: RunRecord
    _files: object = None

    def __repr__(self) -> str:
        of_lesions = self._settings.level == "instance"
        explained = counted(len(self.rows), "lesion") if of_lesions else "class level"
        saliency = self._settings.saliency
        values = ((each, getattr(saliency, each.name)) for each in fields(saliency))
        chosen = [f"{each.name}={value!r}" for each, value in values if value != each.default]
        return f"ExplainedScan({', '.join([explained, self._settings.name, *chosen])})"

    @property
    def grid(self) -> Grid:
        """Where the voxels of the maps lie."""
        return self._portions.prediction.scan.grid

    @property
    def labels(self) -> np.ndarray:
        """(X, Y, Z) int32, all lesions by label, on the scan's grid; 0 elsewhere."""
        return self._in_file(self._portions.prediction.labels)

    @property
    def probability(self) -> np.ndarray:
        """(X, Y, Z) float32, the lesion probability on the scan's grid."""
        return self._in_file(self._portions.prediction.probability)

    @cached_property
    def table(self) -> pa.Table:
        """A row per explained lesion, with the columns of instances.tsv."""
        import pyarrow as pa

        names = table_columns(self._portions)
        return pa.table({name: [row.get(name) for row in self.rows] for name in names})

    @cached_property
    def regions(self) -> pa.Table:
        """How much of each map lies in each region, with the columns of regions.tsv.

        Raises:
            InputError: no parcellation was given.
        """
        import pyarrow as pa

        if self._portions.prediction.scan.parcellation is None:
            raise InputError("without a parcellation there are no regions: explain with one")
        rows = list(all_regions(self.rows))
        names = [column.key for column in REGION_COLUMNS]
        return pa.table({name: [row[name] for row in rows] for name in names})

    def plot(self, label: int | None = None) -> Figure:
        """The picture of a lesion: its map over each channel of the image, in three planes.

        Args:
            label: of the lesion; None: the first of the table.

        Raises:
            InputError: it has no map, or there is none at all.
        """
        row = self._row(label)
        own = int(row["label"])
        return lesion_picture(self._portions, self._domains[own], self.maps.crop(own), row)

    def view(self, label: int | None = None, channel: str | None = None) -> Any:
        """A lesion in a notebook's viewer: the scan, the lesion's outline, its map.

        Needs ipyniivue, ``pip install "jaxsal[view]"``. The image is the network's: normalised
        and, where the scan was resampled, in the network's voxels.

        Args:
            label: of the lesion; None: the first of the table.
            channel: which is shown; None: the first.

        Returns:
            An ``ipyniivue.NiiVue``, which a notebook shows.

        Raises:
            InputError: the lesion has no map, or there is none at all; there is no such channel;
                ipyniivue is not installed.
        """
        from jaxsal.scan.widget import lesion_widget

        own, portions = int(self._row(label)["label"]), self._portions
        scan, shown = portions.prediction.scan, portions.shown
        omega = portions.wanted.labels == self._domains[own]
        channels = portions.model.channels
        crop = self.maps.crop(own)
        return lesion_widget(scan.image, omega, crop, scan.grid, channels, channel, shown.scale)

    def save(self, out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Writes what ``jaxsal explain --out`` does: volumes, table, maps, pictures, page, record.

        Args:
            out: folder for it.
            overwrite: replace what earlier runs left there; see `jaxsal.store`.

        Returns:
            The folder.

        Raises:
            InputError: the folder holds other things.
            OutputError: it cannot be written.
        """
        folder = Path(out)
        with OutputFolder(folder, overwrite=overwrite) as results:
            write_prediction(results, self._portions.prediction)
            rows = [
                write_lesion(results, self._portions, lesion, at, self.maps.crop(_label(lesion)))
                for at, lesion in _lesions(self._portions)
            ]
            write_run(results, self._portions, self._settings, self.scan, self._run, rows)
        return folder

    @property
    def _domains(self) -> dict[int, int]:
        """The number of each label's domain."""
        return {_label(lesion): at for at, lesion in _lesions(self._portions)}

    def _row(self, label: int | None) -> Row:
        if not self.rows:
            raise InputError("no lesion was explained, so there is nothing to show")
        if label is None:
            return self.rows[0]
        by_label: Mapping[int, Row] = {int(row["label"]): row for row in self.rows}
        self.maps.crop(label)  # which refuses one without a map
        return by_label[label]

    def _in_file(self, volume: np.ndarray) -> np.ndarray:
        return self._portions.prediction.grid.to_file(volume)

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """The picture of the first lesion and the table, as notebooks show them."""
        from markupsafe import Markup

        if not self.rows:
            return "<p>No lesion was explained.</p>"
        content = io.BytesIO()
        write_figure(self.plot(), content)
        picture = base64.b64encode(content.getvalue()).decode()
        names = [*_SHOWN_COLUMNS, *self._portions.shown.table_columns()]
        line = Markup("<tr>{}</tr>").format
        cells = [
            line(Markup("").join(Markup("<td>{}</td>").format(_as_text(row.get(n))) for n in names))
            for row in self.rows[:_SHOWN_ROWS]
        ]
        head = line(Markup("").join(Markup("<th>{}</th>").format(name) for name in names))
        rest = len(self.rows) - _SHOWN_ROWS
        more = Markup("<p>and {} more</p>").format(rest) if rest > 0 else ""
        image = Markup('<img alt="map of the first lesion" src="data:image/png;base64,{}">')
        table = Markup("<table>{}{}</table>").format(head, Markup("").join(cells))
        return str(image.format(picture) + table + more)


def explain_in_memory(
    call: Call,
    scan: Scan,
    on_progress: OnProgress | None,
    files: object = None,
) -> ExplainedScan:
    """Finds and explains a scan's lesions; writes nothing.

    Args:
        call: what it is explained with.
        scan: its files.
        on_progress: called as gradients are computed.
        files: what has the files removed; it lives as long as the result.

    Raises:
        InputError: a file or a setting cannot be worked with.
    """
    run, _ = call.record()
    portions = call.find(lambda stage: None)
    run.saw(portions.prediction.scan.backgrounds)
    portions = portions.within(call.settings.saliency.memory or default_budget(default_devices()))
    crops: dict[int, Crop] = {}
    following = Following(on_progress, lambda note: None)
    amount = amount_of(portions, {})
    compute_portions(portions, {}, amount, following, lambda _, maps: crops.update(maps))
    rows = [map_row(portions, lesion, at, crops[at]) for at, lesion in _lesions(portions)]
    by_label = {_label(lesion): crops[at] for at, lesion in _lesions(portions)}
    maps = SaliencyMaps(by_label, portions.prediction.scan.grid.shape)
    return ExplainedScan(scan, tuple(for_reading(rows)), maps, portions, call.settings, run, files)


def _lesions(portions: Portions) -> Iterator[tuple[int, LesionResults]]:
    """Each lesion with the number of its domain, which at class level is not its label."""
    return ((at, lesion) for part in portions.results for at, lesion in part.items())


def _label(lesion: LesionResults) -> int:
    return int(lesion.explained.row["label"])


def _as_text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
