"""From lesion probability to lesion instances, and their kind against a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage, special

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.grid import Grid

Kind = Literal["TP", "FP", "FN", "predicted", "given"]

MINIMUM_VOLUME = 5.0
"""Components must be larger than this, in mm³: more than 5 voxels at 1 mm, as in the reference."""

TOUCHING = ndimage.generate_binary_structure(3, 2)
"""18-connectivity: voxels of a lesion touch by a face or an edge; a corner is not enough."""


@dataclass(frozen=True)
class Instance:
    """One lesion of a label map.

    Attributes:
        label: its value in the label map.
        kind: "TP", "FP" or "FN" against a reference, "predicted" without one, "given" by the user.
        voxels: size of its domain.
        volume_mm3: its volume in mm³.
        centroid_mm: mean of its voxel centres in world coordinates (mm).
        box: the smallest one that holds it, in the array.
    """

    label: int
    kind: Kind
    voxels: int
    volume_mm3: float
    centroid_mm: tuple[float, float, float]
    box: Box


def components(
    mask: np.ndarray, voxel_volume: float, minimum_volume: float = MINIMUM_VOLUME
) -> np.ndarray:
    """Label the 18-connected components that are strictly larger than a minimum volume.

    Args:
        mask: lesion voxels (X, Y, Z) bool.
        voxel_volume: volume of one voxel in mm³.
        minimum_volume: in mm³; a component of exactly this volume is removed.

    Returns:
        Labels (X, Y, Z) int32: 0 outside, 1, 2, ... in the order of the components' first voxels.
    """
    labels, count = ndimage.label(mask, structure=TOUCHING)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    # The margin absorbs the rounding of float32 affines: 5 voxels of 1.0000001 mm³ are 5 mm³.
    kept = sizes * voxel_volume > minimum_volume * (1 + 1e-5)
    kept[0] = False
    renumbered = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    contiguous: np.ndarray = renumbered[labels]
    return contiguous


def label_lesions(
    segmented: np.ndarray,
    grid: Grid,
    reference: np.ndarray | None = None,
    minimum_volume: float = MINIMUM_VOLUME,
) -> tuple[np.ndarray, list[Instance]]:
    """Find the predicted lesions and, given a reference, the missed ones (Spagnolo et al. 2026).

    A predicted component is TP if it shares a voxel with the reference, FP if not. A component of
    the reference, by the same connectivity and minimum volume, is FN if not one of its voxels is
    segmented, whatever becomes of predicted components that are too small: a lesion that only such
    ones touch is neither TP nor FN.

    Args:
        segmented: voxels that are lesion by the network (X, Y, Z) bool.
        grid: the grid of both arrays.
        reference: the true lesions (X, Y, Z), not zero inside.
        minimum_volume: components must be larger than this, in mm³.

    Returns:
        Labels (X, Y, Z) int32 and their instances by label: first the predicted, then the missed.

    Raises:
        InputError: if an array is not on the grid.
    """
    _require_shape("segmented", segmented, grid)
    labels = components(segmented, grid.voxel_volume, minimum_volume)
    predicted = int(labels.max(initial=0))
    if reference is None:
        return labels, _measure(labels, ["predicted"] * predicted, grid)

    _require_shape("reference", reference, grid)
    mask = reference != 0
    touched = np.bincount(labels[mask], minlength=predicted + 1)[1:] > 0
    kinds: list[Kind] = ["TP" if hit else "FP" for hit in touched]

    true_labels = components(mask, grid.voxel_volume, minimum_volume)
    missed = np.bincount(true_labels[segmented], minlength=true_labels.max(initial=0) + 1) == 0
    missed[0] = False
    appended = np.where(missed, predicted + np.cumsum(missed), 0).astype(np.int32)
    labels = np.maximum(labels, appended[true_labels])  # the missed are disjoint from the predicted
    kinds += ["FN"] * int(missed.sum())
    return labels, _measure(labels, kinds, grid)


def instances_of(labels: np.ndarray, grid: Grid) -> list[Instance]:
    """The instances of a user's label map (X, Y, Z), one per label, by ascending label.

    Labels need not be contiguous and are kept; a label in several pieces is one instance.

    Raises:
        InputError: if the labels are not integers, are negative or not on the grid.
    """
    _require_shape("labels", labels, grid)
    if labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
        received = f"{labels.dtype} with the smallest value {labels.min(initial=0)}"
        raise InputError(f"labels must be integers from 0 (background) on, received {received}.")
    return _measure(labels, None, grid)


def select(instances: Sequence[Instance], wanted: Sequence[int] | None) -> list[Instance]:
    """The instances with the wanted labels, in the order of `instances`; None selects all.

    Raises:
        InputError: if there is no instance of a wanted label.
    """
    if wanted is None:
        return list(instances)
    available = [instance.label for instance in instances]
    unknown = sorted(set(wanted) - set(available))
    if unknown:
        raise InputError(
            f"No lesion has the label {_listed(unknown)}. Available: {_listed(available)}."
        )
    return [instance for instance in instances if instance.label in wanted]


def _measure(labels: np.ndarray, kinds: Sequence[Kind] | None, grid: Grid) -> list[Instance]:
    """Measure all labels in one pass over the lesion voxels; kinds=None: all are "given"."""
    inside = labels != 0
    voxels = np.argwhere(inside)
    names, member, sizes = np.unique(labels[inside], return_inverse=True, return_counts=True)
    if not len(names):
        return []
    grouped = voxels[np.argsort(member, kind="stable")]
    starts = np.cumsum(sizes) - sizes
    centroids = grid.world(np.add.reduceat(grouped, starts) / sizes[:, None])
    low, high = np.minimum.reduceat(grouped, starts), np.maximum.reduceat(grouped, starts) + 1
    return [
        Instance(
            label=int(names[i]),
            kind="given" if kinds is None else kinds[i],
            voxels=int(sizes[i]),
            volume_mm3=float(sizes[i] * grid.voxel_volume),
            centroid_mm=_triple(centroids[i]),
            box=Box(low[i], high[i]),
        )
        for i in range(len(names))
    ]


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    x, y, z = point
    return float(x), float(y), float(z)


def _listed(labels: Sequence[int], most: int = 10) -> str:
    """Labels as text, the middle of long lists left out."""
    if len(labels) <= most:
        return ", ".join(map(str, labels)) or "none"
    return f"{', '.join(map(str, labels[: most - 1]))}, ..., {labels[-1]} ({len(labels)} in all)"


def _require_shape(name: str, array: np.ndarray, grid: Grid) -> None:
    if array.shape != grid.shape:
        raise InputError(
            f"{name} must have the shape of the grid {grid.shape}, received {array.shape}."
        )


def output_channel(target: int, outputs: int) -> int:
    """The output channel that a target means, among this many.

    A single output channel is that of the lesion, before a sigmoid: 0 and 1 both mean it.

    Raises:
        InputError: if there is no such channel.
    """
    if outputs == 1 and target in (0, 1):
        return 0
    if not 0 <= target < outputs:
        raise InputError(f"target must be one of the network's {outputs} outputs, got {target}.")
    return target


def lesion_probability(logits: ArrayLike, target: int, probability: str = "softmax") -> np.ndarray:
    """Probability of one output channel: softmax over several channels, sigmoid of a single one.

    Args:
        logits: (X, Y, Z, K).
        target: the channel.
        probability: "softmax", or "sigmoid" for channels that do not exclude each other.

    Returns:
        (X, Y, Z), in the dtype of the logits.
    """
    logits = np.asarray(logits)
    result: np.ndarray
    if logits.shape[-1] == 1:
        result = special.expit(logits[..., 0])
    elif probability == "sigmoid":
        result = special.expit(logits[..., target])
    else:
        result = special.softmax(logits, axis=-1)[..., target]
    return result
