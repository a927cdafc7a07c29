"""How alike two images of one head are, whatever their contrasts."""

from __future__ import annotations

import numpy as np

_BINS = 32
_RANGE = (0.5, 99.5)  # percentiles: a few extreme voxels must not fill one bin with all others


def mutual_information(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> float:
    """Mutual information of the intensities of two images on one grid, in nats.

    Args:
        first: (X, Y, Z).
        second: (X, Y, Z).
        inside: (X, Y, Z) bool, the voxels to look at.

    Returns:
        From a joint histogram of 32 × 32 bins of equal width; 0 if there is no voxel.
    """
    if not inside.any():
        return 0.0
    a, b = _binned(first[inside]), _binned(second[inside])
    joint = np.bincount(a * _BINS + b, minlength=_BINS**2).reshape(_BINS, _BINS) / a.size
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float(np.sum(joint[there] * np.log(joint[there] / independent[there])))


def _binned(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, _RANGE)
    scaled = (values - low) * (_BINS / max(float(high - low), 1e-12))
    return np.clip(scaled, 0, _BINS - 1).astype(np.int64)
