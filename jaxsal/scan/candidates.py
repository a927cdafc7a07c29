"""Where lesions may have been missed: the network is uncertain there, and found none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxsal.lesions import components

if TYPE_CHECKING:
    from jaxsal.grid import Grid


def candidates_of(
    entropy: np.ndarray, found: np.ndarray, least: float, grid: Grid, minimum_volume: float
) -> np.ndarray:
    """Components of high entropy off what was found, by the connectivity and volume of lesions.

    The rim of a lesion that was found is uncertain, too: a component that touches one is none.

    Args:
        entropy: (X, Y, Z) in nats.
        found: (X, Y, Z) bool, the voxels that are lesion.
        least: entropy of a candidate's voxels, at least.
        grid: of both.
        minimum_volume: candidates must be larger than this, in mm³.

    Returns:
        Labels (X, Y, Z) int32, 0 for background.
    """
    labels = components((entropy >= least) | found, grid.voxel_volume, minimum_volume)
    apart = np.ones(labels.max(initial=0) + 1, bool)
    apart[labels[found]] = apart[0] = False
    numbers: np.ndarray = np.where(apart, np.cumsum(apart), 0).astype(np.int32)[labels]
    return numbers
