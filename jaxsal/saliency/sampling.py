"""Fewer gradients for large lesions: which of a lesion's voxels are taken, or taken together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def stratified(voxels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """A sample of a lesion's voxels that is spread over the lesion.

    The lesion is bisected, and its parts again, each across its longest axis, into as many strata
    of equal numbers of voxels (but for one) as voxels are wanted; one is drawn from each. The same
    voxels are drawn in whatever order they are given.

    Args:
        voxels: (V, 3) positions, all different.
        count: voxels wanted, at least 1.
        seed: equal seeds draw equal voxels.

    Returns:
        (min(count, V),) increasing indices into ``voxels``.
    """
    if count >= len(voxels):
        return np.arange(len(voxels))
    parts = list(strata(voxels, count))
    sizes = np.array([len(part) for part in parts])
    drawn = np.random.default_rng(seed).integers(sizes)
    return np.sort([part[i] for part, i in zip(parts, drawn, strict=True)])


def strata(voxels: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Indices into ``voxels`` (V, 3) of each of ``count`` <= V strata; see `stratified`."""
    yield from _bisected(voxels, np.lexsort(voxels.T[::-1]), count)


def _bisected(voxels: np.ndarray, part: np.ndarray, count: int) -> Iterator[np.ndarray]:
    if count == 1:
        yield part
        return
    axis = np.ptp(voxels[part], axis=0).argmax()
    part = part[np.argsort(voxels[part, axis], kind="stable")]
    first = count // 2
    least, one_more = divmod(len(part), count)  # strata of one more voxel than the least
    cut = first * least + one_more * first // count
    yield from _bisected(voxels, part[:cut], first)
    yield from _bisected(voxels, part[cut:], count - first)


def consecutive(voxels: np.ndarray, size: int) -> list[np.ndarray]:
    """Groups of voxels that are next to each other in the order given, as the published scripts do.

    Args:
        voxels: (V, 3) positions.
        size: of a group; the last one may be smaller.

    Returns:
        Indices into ``voxels`` of each group, in their order.
    """
    return np.split(np.arange(len(voxels)), range(size, len(voxels), size))
