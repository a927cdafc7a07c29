"""The queue of voxels: all lesions' voxels, grouped by the windows that their logits come from.

Lesions are tiny and uneven. So batches are filled from all lesions of a group of windows, and the
results are handed to each voxel's lesion afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jaxsal.field import WindowPlan


@dataclass(frozen=True)
class Domain:
    """A lesion domain.

    Attributes:
        label: the lesion's label.
        voxels: (V, 3) its voxels' positions in the image.
    """

    label: int
    voxels: np.ndarray


@dataclass(frozen=True)
class WindowGroup:
    """Voxels whose logits come from the same windows.

    Attributes:
        windows: indices into the plan's windows.
        rows: the voxels, as indices into the plan's, those of a lesion next to each other.
    """

    windows: tuple[int, ...]
    rows: np.ndarray


def window_groups(plan: WindowPlan, owners: np.ndarray) -> list[WindowGroup]:
    """All voxels of a plan by the set of windows that reach them.

    Args:
        plan: of all voxels.
        owners: (V,) the lesion of each voxel.

    Returns:
        The groups, those with common windows near each other.
    """
    sets, group_of = np.unique(plan.weights > 0, axis=0, return_inverse=True)
    groups = []
    for index, windows in enumerate(sets):
        rows = np.flatnonzero(group_of.reshape(-1) == index)
        order = np.argsort(owners[rows], kind="stable")
        groups.append(WindowGroup(tuple(np.flatnonzero(windows).tolist()), rows[order]))
    return sorted(groups, key=lambda group: group.windows)


def by_lesions(rows: np.ndarray, owners: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Splits the rows of a group so that each part belongs to at most this many lesions."""
    _, rank = np.unique(owners[rows], return_inverse=True)
    for first in range(0, int(rank.max()) + 1, most):
        yield rows[(rank >= first) & (rank < first + most)]
