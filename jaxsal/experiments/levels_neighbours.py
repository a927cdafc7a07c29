"""Which lesion of a scan is nearest to another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from jaxsal.saliency.maps import Crop

_FACES = ndimage.generate_binary_structure(3, 1)


@dataclass(frozen=True)
class Neighbour:
    """The nearest other lesion.

    Attributes:
        label: of it.
        gap: distance in mm between the nearest centres of voxels.
    """

    label: int
    gap: float


def voxels_of(labels: np.ndarray) -> dict[int, np.ndarray]:
    """The voxels (V, 3) of each label of a map (X, Y, Z), in one pass over it."""
    found = ndimage.value_indices(labels, ignore_value=0)
    return {int(label): np.stack(found[label], axis=-1) for label in sorted(found)}


def nearest(
    lesions: dict[int, np.ndarray], spacing: tuple[float, float, float]
) -> dict[int, Neighbour]:
    """The nearest neighbour of each lesion; none if there is only one.

    Args:
        lesions: voxels (V, 3) by label.
        spacing: voxel size in mm.
    """
    trees = {label: cKDTree(_border(voxels) * spacing) for label, voxels in lesions.items()}
    boxes = {label: (tree.mins, tree.maxes) for label, tree in trees.items()}
    return {
        label: _nearest(label, trees, _box_gaps(label, boxes)) for label in trees if len(trees) > 1
    }


def _nearest(
    label: int, trees: dict[int, cKDTree], box_gaps: Sequence[tuple[float, int]]
) -> Neighbour:
    best = Neighbour(0, np.inf)
    for box_gap, other in box_gaps:
        if box_gap >= best.gap:
            break  # nor can those be nearer whose boxes are farther still
        few, many = sorted((trees[label], trees[other]), key=lambda tree: tree.n)
        gap = float(many.query(few.data)[0].min())
        if gap < best.gap:
            best = Neighbour(other, gap)
    return best


def _box_gaps(
    label: int, boxes: dict[int, tuple[np.ndarray, np.ndarray]]
) -> list[tuple[float, int]]:
    """Distances between the boxes of lesions, from the nearest on."""
    low, high = boxes[label]
    return sorted(
        (float(np.linalg.norm(np.maximum(0, np.maximum(first - high, low - last)))), other)
        for other, (first, last) in boxes.items()
        if other != label
    )


def _border(voxels: np.ndarray) -> np.ndarray:
    """Those of the voxels (V, 3) that have a face in common with what is not of them."""
    first = voxels.min(0) - 1
    mask = np.zeros(voxels.max(0) - first + 2, bool)
    mask[tuple((voxels - first).T)] = True
    border: np.ndarray = np.argwhere(mask & ~ndimage.binary_erosion(mask, _FACES)) + first
    return border


def values_at(crop: Crop, voxels: np.ndarray) -> np.ndarray:
    """A map's values (V, C) at voxels (V, 3) of the image; 0 outside of its crop."""
    places = voxels - crop.origin
    inside = ((places >= 0) & (places < crop.values.shape[:3])).all(1)
    values = np.zeros((len(voxels), crop.values.shape[-1]), np.float32)
    values[inside] = crop.values[tuple(places[inside].T)]
    return values
