"""The results in a cohort's folder, read: tables, label maps and maps.

Imports no JAX, so that worker processes start fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.box import Box
from jaxsal.cohort.columns import MethodOutline, Outline
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import Names
from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.inputs.images import read_image
from jaxsal.network_grid import map_on_grid
from jaxsal.saliency.maps import Crop
from jaxsal.store.inside import require_inside
from jaxsal.store.records import ScanRecord, Stamp
from jaxsal.volumes import read_grid, read_labels, read_volume

if TYPE_CHECKING:
    from jaxsal.tables import Row

_SAME_VOXELS = 1e-4  # relative, by which headers round the size of voxels


@dataclass(frozen=True, eq=False)
class ScanResults:
    """A finished scan of a cohort's folder; files are read when they are asked for.

    Attributes:
        folder: the cohort's.
        record: of the scan.
        channels: of the model.
    """

    folder: Path
    record: ScanRecord
    channels: tuple[str, ...]

    @property
    def id(self) -> str:
        """The id of the scan."""
        return self.record.id

    @property
    def rows(self) -> list[Row]:
        """A row of the table per explained lesion."""
        return self.record.rows

    @cached_property
    def grid(self) -> Grid:
        """Of the image."""
        return read_grid(self._labels_file)

    @cached_property
    def labels(self) -> np.ndarray:
        """(X, Y, Z) int32, the lesions."""
        return read_labels(self._labels_file, self.grid)

    @cached_property
    def probability(self) -> np.ndarray:
        """(X, Y, Z) float32, of lesion.

        Raises:
            InputError: the run kept only the table.
        """
        return read_volume(self._kept(self._names.probability)).data

    @cached_property
    def image(self) -> np.ndarray:
        """(X, Y, Z, C) float32, z-scored over the foreground.

        Raises:
            InputError: a file is gone, or not what it was when it was explained.
        """
        images = {name: self.record.inputs.get(name) for name in self.channels}
        image, _ = unchanged_image(images, self.record.inputs.get("mask"))
        return image

    def map(self, label: int, method: MethodOutline) -> Crop:
        """A lesion's map.

        Raises:
            InputError: there is none, or it does not lie within the image.
        """
        paths = [self._kept(self._names.map(label, file)) for file in method.files]
        values, (x, y, z) = read_map(paths, self.grid)
        samples = next((r.get("samples", 1) for r in self.rows if r["label"] == label), 1)
        return Crop(values, (int(x), int(y), int(z)), samples)

    @property
    def _names(self) -> Names:
        return Names(self.record.stem)

    @property
    def _labels_file(self) -> Path:
        require_inside(self.folder, [self._names.labels])
        return self.folder / self._names.labels

    def _kept(self, name: str) -> Path:
        if name not in self.record.files:
            raise InputError(
                f"the results of {self.id} have no {name}: maps are kept by --output cropped and "
                "full"
            )
        return self.folder / name


class CohortResults:
    """The results in a cohort's folder.

    Args:
        root: the folder, of a run that may be unfinished.

    Raises:
        InputError: it holds no results of a cohort's run.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folder = CohortFolder(root)
        run = self._folder.run()
        self.identity = run["identity"]
        self.methods = {method.name: method for method in Outline.read(run).methods}
        self.channels = tuple(self.identity["model"]["channels"])

    def scans(self) -> Iterator[ScanResults]:
        """The finished ones, in the cohort's order."""
        for record in self._records():
            if record.status == "finished":
                yield ScanResults(self.root, record, self.channels)

    @property
    def failed(self) -> dict[str, str]:
        """Why scans failed, by their ids."""
        return {r.id: r.reason for r in self._records() if r.status == "failed"}

    def record_path(self, stem: str) -> Path:
        """Where it is recorded what became of a scan; not there before it is done."""
        return self._folder.record_path(stem)

    def _records(self) -> Iterator[ScanRecord]:
        records = map(self._folder.record, self._folder.scans())
        return (record for record in records if record is not None)


def unchanged_image(
    images: Mapping[str, Stamp | None], mask: Stamp | None = None
) -> tuple[np.ndarray, Grid]:
    """The image (X, Y, Z, C) of these files, if they are still as they were.

    Args:
        images: by channel; None: one that could not be read.
        mask: of the brain, if there is one.

    Raises:
        InputError: one is gone, or has changed.
    """
    paths = []
    for channel, stamp in images.items():
        if stamp is None:
            raise InputError(f"the image of {channel} could not be read")
        paths.append(_unchanged(stamp))
    return read_image(paths, list(images), mask=None if mask is None else _unchanged(mask))


def _unchanged(stamp: Stamp) -> Path:
    path = Path(stamp.file)
    if not path.exists():
        raise InputError(f"{path} is gone: put it back to see the maps on it")
    if not stamp.is_same(path):
        raise InputError(f"{path} has changed since: run the cohort again")
    return path


def read_map(paths: Sequence[Path], grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """A map (x, y, z, C), and the voxel of the image's grid (3,) that its first voxel is.

    A map of a scan that was resampled for the network is interpolated to the scan's grid.

    Args:
        paths: of its files, one per channel.
        grid: of the image.

    Raises:
        InputError: a file cannot be read, or does not lie within the image.
    """
    volumes = [read_volume(path) for path in paths]
    values = np.stack([volume.data for volume in volumes], axis=-1)
    own = volumes[0].grid
    place = np.linalg.solve(grid.affine_mm, own.affine_mm)
    box = Box.at(np.rint(place[:3, 3]), own.shape)
    if not np.allclose(np.diag(place), 1, atol=_SAME_VOXELS):
        values, box = map_on_grid(values, own, grid)
    if box.is_empty or not box.lies_within(grid.shape):
        raise InputError(f"{paths[0]} does not lie within the image: it was changed")
    return values, np.array(box.start)
