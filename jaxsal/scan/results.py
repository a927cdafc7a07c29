"""The files of a run: volumes, maps, table, and the record of how they came about."""

from __future__ import annotations

import csv
import hashlib
import io
import platform
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsal import __version__
from jaxsal.devices import current_device
from jaxsal.files import file_checksum, whole_file
from jaxsal.grid import Grid
from jaxsal.lesions import Instance
from jaxsal.model import Model
from jaxsal.report.page import Column
from jaxsal.saliency.maps import CLASS_LEVEL, Crop
from jaxsal.scan.output_folder import OutputFolder
from jaxsal.volumes import write_volume

Row = dict[str, Any]

# Columns of the table: key, unit or meaning, decimals.
_INSTANCE_COLUMNS = {
    "label": ("value of the lesion in instances.nii.gz", 0),
    "kind": ("TP, FP or FN against the reference; predicted; given by the user; class", None),
    "voxels": ("size in voxels", 0),
    "volume_mm3": ("volume in mm³", 1),
    "x_mm": ("centroid in world coordinates, mm", 1),
    "y_mm": ("centroid in world coordinates, mm", 1),
    "z_mm": ("centroid in world coordinates, mm", 1),
}
_LIBRARIES = ("jaxlib", "flax", "numpy", "scipy", "nibabel", "orbax-checkpoint")


def instance_row(instance: Instance) -> Row:
    """A lesion's row of the table, without statistics of its map."""
    return _row(
        instance.label, instance.kind, instance.voxels, instance.volume_mm3, instance.centroid_mm
    )


def class_row(domain: np.ndarray, grid: Grid) -> Row:
    """The row of a class-level map over this domain (X, Y, Z) bool."""
    positions = np.argwhere(domain)
    centroid = tuple(grid.world(positions.mean(0)).tolist())
    volume = len(positions) * grid.voxel_volume
    return _row(CLASS_LEVEL, "class", len(positions), volume, centroid)


def _row(label: int, kind: str, voxels: int, volume: float, centroid: Sequence[float]) -> Row:
    return dict(zip(_INSTANCE_COLUMNS, (label, kind, voxels, volume, *centroid), strict=True))


def instance_columns() -> list[Column]:
    """The page's columns for what a row tells without statistics of the map."""
    return [
        Column(key, key.replace("_mm3", " (mm³)").replace("_mm", " (mm)"), text, digits)
        for key, (text, digits) in _INSTANCE_COLUMNS.items()
    ]


def write_prediction(
    results: OutputFolder, grid: Grid, probability: np.ndarray, labels: np.ndarray
) -> None:
    """Writes the lesion probability and the label map."""
    write_volume(results.path("prediction.nii.gz"), probability.astype(np.float32), grid)
    write_volume(results.path("instances.nii.gz"), labels.astype(np.int32), grid)


def write_maps(
    results: OutputFolder, names: Sequence[str], grid: Grid, crop: Crop, *, full_grid: bool
) -> None:
    """Writes a map, one file per channel of it, cropped with its affine moved or on the full grid.

    Names are those of the files without their ending.
    """
    values = crop.values
    if full_grid:
        edges = [
            (o, g - o - n) for o, g, n in zip(crop.origin, grid.shape, values.shape, strict=False)
        ]
        values = np.pad(values, [*edges, (0, 0)])
    else:
        x, y, z = values.shape[:3]
        grid = grid.crop(crop.origin, (x, y, z))
    for channel, name in enumerate(names):
        write_volume(
            results.path(f"{name}.nii.gz"), np.ascontiguousarray(values[..., channel]), grid
        )


def write_table(path: Path, rows: Sequence[Row], statistics: Sequence[str] = ()) -> None:
    """Writes the table as tab-separated values, a header line even if there are no rows."""
    columns = [*_INSTANCE_COLUMNS, *statistics]
    text = io.StringIO()
    table = csv.DictWriter(
        text, columns, delimiter="\t", lineterminator="\n", extrasaction="ignore"
    )
    table.writeheader()
    for row in rows:
        table.writerow({k: _shown(v) for k, v in row.items()})
    with whole_file(path) as file:
        file.write(text.getvalue().encode())


def _shown(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


class RunRecord:
    """How results came about: versions, device, model, inputs and time.

    Args:
        command: what was run.
        model: with what.
        inputs: on which files, by what each is taken for.
    """

    def __init__(self, command: str, model: Model, inputs: Mapping[str, Path]) -> None:
        self._clock = time.perf_counter()
        self._command, self._model = command, model
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._inputs = {
            role: {"file": str(path), "sha256": file_checksum(path)}
            for role, path in inputs.items()
            if path.is_file()
        }

    def summary(self) -> dict[str, Any]:
        """The facts that a reader of the page wants first."""
        return {
            "jaxsal": __version__,
            "jax": jax.__version__,
            "python": platform.python_version(),
            "libraries": {name: version(name) for name in _LIBRARIES},
            "device": current_device().device_kind,
            "precision": self._model.precision,
            "started": self._started,
            "seconds": round(time.perf_counter() - self._clock, 1),
        }

    def files(self) -> dict[str, str]:
        """The input files, by what each is taken for."""
        return {role: entry["file"] for role, entry in self._inputs.items()}

    def finished(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The whole record, ready for JSON."""
        return {
            "command": self._command,
            **self.summary(),
            "settings": settings,
            "model": {
                "network": self._model.config.kind,
                "architecture": self._model.config.to_arguments(),
                "channels": list(self._model.channels),
                "threshold": self._model.threshold,
                "parameters_sha256": _parameters_checksum(self._model),
                "source": dict(self._model.source),
            },
            "inputs": self._inputs,
        }


def _parameters_checksum(model: Model) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.parameters.items()):
        digest.update(name.encode())
        digest.update(np.asarray(value).tobytes())
    return digest.hexdigest()
