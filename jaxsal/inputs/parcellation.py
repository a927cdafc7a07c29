"""Parcellations: in which region of the brain each voxel of a scan lies, and regions' names.

A parcellation may lie on any grid in the scan's world: each voxel of the scan has the region of the
nearest voxel of the parcellation, or none where there is none within half a voxel.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import ndimage

from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.nifti import read_voxels
from jaxsal.same_grid import difference
from jaxsal.store.files import require_content
from jaxsal.voxels import require_none, whole_numbers

LEAST_COVERED = 0.95
"""Share of a scan's voxels off the background that must lie in a parcellation's field of view."""

NOWHERE = "(no region)"
"""What the label 0 is called."""

_SHOWN = 10  # labels in messages
_KEYS = ("index", "label")
_ADVICE = "0 is no region, regions have labels from 1 on"


@dataclass(frozen=True, eq=False)
class Parcellation:
    """The regions of a scan.

    Attributes:
        labels: (X, Y, Z) int32, on the scan's grid; 0 lies in no region.
        on_network: (x, y, z) int32, on the network's grid.
        names: of the regions, by label; those without one are called by their number.
    """

    labels: np.ndarray
    on_network: np.ndarray
    names: Mapping[int, str]

    def name(self, label: int) -> str:
        """What a region is called."""
        return self.names.get(label, str(label)) if label else NOWHERE

    @cached_property
    def sizes(self) -> dict[int, int]:
        """Voxels of each region, and of none, on the network's grid."""
        return _counts(self.on_network)

    def regions_of(self, lesions: np.ndarray) -> dict[int, str | None]:
        """The region of each lesion, by its label.

        That is the one that most of its voxels that lie in any lie in; of equal ones it is the one
        with the lower label. None if more than half of the lesion's voxels lie in none.

        Args:
            lesions: (X, Y, Z) int, the lesions' labels on the scan's grid; 0 is background.
        """
        inside = lesions != 0
        pairs = np.stack([lesions[inside], self.labels[inside]])
        found, counts = np.unique(pairs, axis=1, return_counts=True)
        voxels: dict[int, dict[int, int]] = {}
        for (lesion, region), count in zip(found.T.tolist(), counts.tolist(), strict=True):
            voxels.setdefault(lesion, {})[region] = count
        return {lesion: self._most(own) for lesion, own in voxels.items()}

    def _most(self, voxels: Mapping[int, int]) -> str | None:
        """The region with most of these voxels, of which there are so many by label."""
        regions = sorted(voxels.keys() - {0})
        if not regions or 2 * voxels.get(0, 0) > sum(voxels.values()):
            return None
        return self.name(max(regions, key=lambda label: voxels[label]))  # the first of equal ones


def read_parcellation(
    path: Path, names: Path | None, grid: Grid, brain: np.ndarray
) -> Parcellation:
    """Reads a parcellation, and brings it to a scan by nearest neighbour.

    Args:
        path: a label map of whole numbers, on any grid in the scan's world; 0 is no region.
        names: a table of the regions' names, see `read_region_names`; None: they have none.
        grid: the network's, whose `Grid.scan` is the scan's.
        brain: (X, Y, Z) bool on the scan's grid, what is not background.

    Raises:
        InputError: a file cannot be used, its field of view does not cover the brain, no voxel of
            the brain lies in a region, or regions have no names.
    """
    found, own = _read(path)
    known = {} if names is None else read_region_names(names)
    if names is not None:
        _require_named(path, found, names, known)
    scan = grid.scan
    _require_shared(path, own, scan, brain)
    labels = nearest(found, own, scan)
    if not labels[brain].any():
        raise InputError(
            f"{path} has no region inside the brain of the scan: check that it is this scan's, and "
            "in its world"
        )
    on_network = labels if grid is scan else nearest(found, own, grid)
    return Parcellation(labels, on_network, known)


def _read(path: Path) -> tuple[np.ndarray, Grid]:
    """A parcellation (X, Y, Z) int32 as it is in its file, and its grid."""
    raw, own = read_voxels(path)
    found, limit = whole_numbers(raw, str(path), _ADVICE), np.iinfo(np.int32).max
    require_none(found > limit, found, str(path), f"at most {limit}", _ADVICE)
    if not found.any():
        raise InputError(f"{path} has no region, it is 0 everywhere: give a parcellation")
    return np.ascontiguousarray(found, np.int32), own


def read_region_names(path: Path) -> dict[int, str]:
    """The names of regions by label: of a table with tabs, as BIDS has them.

    Its columns are "index" or "label", and "name"; others are ignored. Upper and lower case are the
    same.

    Raises:
        InputError: it cannot be read, lacks a column, or has a label or a name twice, a label that
            is no whole number, or one without a name.
    """
    require_content(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter="\t", strict=True)
            lines = [[cell.strip() for cell in row] for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}; give a table in UTF-8") from error
    header = [name.lower() for name in lines[0]] if lines else []
    keys = [key for key in _KEYS if key in header]
    if not keys or "name" not in header:
        raise InputError(
            f"{path} must be a table with tabs whose header has a column index or label, and a "
            f"column name; it has {', '.join(header) or 'none'}"
        )
    places = header.index(keys[0]), header.index("name")
    found: dict[int, str] = {}
    for number, cells in enumerate(lines[1:], 2):
        if any(cells):
            label, name = _line(f"{path}, line {number}", cells, *places)
            _require_new(f"{path}, line {number}", label, name, found)
            found[label] = name
    return found


def nearest(labels: np.ndarray, own: Grid, grid: Grid) -> np.ndarray:
    """Labels (X', Y', Z') int32 of the file of one grid on another one: (X, Y, Z).

    Each voxel has the label of the nearest one, by the voxel axes of `own`; 0 where it lies outside
    of all, by more than half a voxel.
    """
    if own.matches(grid.file):
        return grid.from_file(labels)
    place = np.linalg.solve(own.affine_mm, grid.affine_mm)
    found: np.ndarray = ndimage.affine_transform(
        labels,
        place[:3, :3],
        place[:3, 3],
        grid.shape,
        labels.dtype,
        order=0,
        mode="grid-constant",  # "constant" leaves out the outer half of the outer voxels
        prefilter=False,
    )
    return found


def _counts(labels: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(labels, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _require_shared(path: Path, own: Grid, scan: Grid, brain: np.ndarray) -> None:
    """Refuses a parcellation whose field of view does not cover the brain."""
    if own.matches(scan.file):
        return
    seen = nearest(np.ones(own.shape, np.uint8), own, scan)[brain].astype(bool)
    share = float(seen.mean()) if seen.size else 0.0
    if share < LEAST_COVERED:
        raise InputError(
            f"{path} does not cover the scan: {100 * share:.0f} % of the brain lies in its field "
            f"of view, and {100 * LEAST_COVERED:.0f} % must; {difference(own, scan.file)}. "
            "Register it to the scan first, or give that of this scan"
        )


def _require_named(path: Path, labels: np.ndarray, table: Path, names: Mapping[int, str]) -> None:
    without = sorted(_counts(labels).keys() - names.keys() - {0})
    if without:
        more = ", …" if len(without) > _SHOWN else ""
        raise InputError(
            f"{table} must name every region of {path}, but has no name of the label "
            f"{', '.join(map(str, without[:_SHOWN]))}{more}: add what is missing"
        )


def _line(where: str, cells: list[str], key: int, name: int) -> tuple[int, str]:
    given = [*cells, *[""] * (max(key, name) + 1 - len(cells))]
    try:
        label = int(given[key])
    except ValueError as error:
        raise InputError(
            f"{where}: the label must be a whole number, got {given[key]!r}"
        ) from error
    if not given[name]:
        raise InputError(f"{where}: the label {label} has no name; give one")
    return label, given[name]


def _require_new(where: str, label: int, name: str, known: Mapping[int, str]) -> None:
    if label in known:
        raise InputError(f"{where}: the label {label} is there twice; leave one out")
    if name in known.values() or name == NOWHERE:
        raise InputError(f"{where}: the name {name!r} is taken; give each region one of its own")
