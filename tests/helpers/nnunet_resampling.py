"""nnU-Net v2's preprocessing and resampling, written after its published source with scipy.

``skimage.transform.resize(mode="edge", anti_aliasing=False)``, which nnU-Net calls, is scipy's
``zoom(mode="nearest", grid_mode=True)`` with the result clipped to the range of the input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def resize(image: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    """As skimage's ``resize``, of an image of any rank."""
    factors = [1 / (n / m) for n, m in zip(image.shape, shape, strict=True)]
    zoomed = ndimage.zoom(image, factors, order=order, mode="nearest", grid_mode=True)
    return np.clip(zoomed, image.min(), image.max())


def resample(
    data: np.ndarray,
    shape: Sequence[int],
    spacing: Sequence[float],
    wanted: Sequence[float],
    order: int,
) -> np.ndarray:
    """As ``resample_data_or_seg_to_shape`` with the planner's arguments, of (C, ...)."""
    if data.shape[1:] == tuple(shape):
        return data
    uneven = next((s for s in (spacing, wanted) if max(s) / min(s) > 3), None)
    longest = [] if uneven is None else [a for a in range(3) if uneven[a] == max(uneven)]
    if len(longest) != 1:
        return np.stack([resize(each.astype(float), shape, order) for each in data])
    (axis,) = longest
    inside = [n for a, n in enumerate(shape) if a != axis]
    result = []
    for each in np.moveaxis(data.astype(float), 1 + axis, 1):
        slices = np.stack([resize(one, inside, order) for one in each])
        places = (np.arange(shape[axis]) + 0.5) * len(slices) / shape[axis] - 0.5
        nearest = np.floor(places + 0.5).astype(int).clip(0, len(slices) - 1)
        result.append(np.moveaxis(slices[nearest], 0, axis))
    return np.stack(result)


def new_shape(
    shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]
) -> tuple[int, ...]:
    """As ``compute_new_shape``."""
    return tuple(round(i / j * k) for i, j, k in zip(spacing, wanted, shape, strict=True))


def preprocess(
    data: np.ndarray, spacing: Sequence[float], wanted: Sequence[float]
) -> tuple[np.ndarray, tuple[slice, ...]]:
    """As ``DefaultPreprocessor.run_case_npy`` with z-scores of whole images, and the crop."""
    inside = ndimage.binary_fill_holes((data != 0).any(0))
    where = ndimage.find_objects(inside.astype(int))[0]
    crop = data[(slice(None), *where)].astype(np.float32)
    scored = np.stack([(each - each.mean()) / each.std() for each in crop])
    shape = new_shape(scored.shape[1:], spacing, wanted)
    return resample(scored, shape, spacing, wanted, 3).astype(np.float32), where
