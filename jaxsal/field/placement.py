"""Where windows lie and which of their voxels weigh more: MONAI's rules and nnU-Net v2's."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from jaxsal.settings import Windows
from jaxsal.types import Triple

_SIGMA_SCALE = 0.125  # of the Gaussian importance, relative to the window: the default of both
_LEAST_IMPORTANCE = 1e-3  # MONAI's lower bound
_PEAK = 10  # nnU-Net's, which makes the most of its half precision


def axis_starts(windows: Windows, size: int, roi: int, overlap: float) -> np.ndarray:
    """First positions (W,) of the windows along one axis.

    "monai": a fixed step apart, the last one moved inside (``dense_patch_slices``). "nnunet": as
    many as that step takes, evenly spaced (``compute_steps_for_sliding_window``).

    Args:
        windows: whose rule.
        size: of the padded volume, at least that of a window.
        roi: size of a window.
        overlap: share of a window that the next one covers again, at least.
    """
    if windows == "nnunet":
        count = int(np.ceil((size - roi) / (roi * (1 - overlap)))) + 1
        return np.round(np.linspace(0, size - roi, count)).astype(int)
    step = roi if size == roi else max(int(roi * (1 - overlap)), 1)
    count = -(-(size - roi) // step) + 1
    return np.minimum(np.arange(count) * step, size - roi)


def gaussian_importance(windows: Windows, roi: Triple) -> np.ndarray:
    """Weight of each voxel of a window, largest in the middle: (X, Y, Z) float32.

    "monai": centred between the edges, at least 0.001 of 1 (``compute_importance_map``).
    "nnunet": centred on voxel n // 2 and rounded to half precision, where what would be 0 becomes
    the smallest that is not (``compute_gaussian``). Up to a factor the two differ near edges.
    """
    along = _nnunet_gaussian if windows == "nnunet" else _monai_gaussian
    x, y, z = (along(n) for n in roi)
    product: np.ndarray = x[:, None, None] * y[:, None] * z
    if windows == "nnunet":
        scaled = product / (product.max() / _PEAK)
        half = scaled.astype(np.float32).astype(np.float16)
        return np.maximum(half, half[half > 0].min()).astype(np.float32)
    return np.maximum(product, max(float(product.min()), _LEAST_IMPORTANCE))


def _monai_gaussian(size: int) -> np.ndarray:
    x = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    weights: np.ndarray = np.exp(x**2 / np.float32(-2 * (_SIGMA_SCALE * size) ** 2))
    return weights


def _nnunet_gaussian(size: int) -> np.ndarray:
    centre = (np.arange(size) == size // 2).astype(float)
    weights: np.ndarray = ndimage.gaussian_filter1d(centre, size * _SIGMA_SCALE, mode="constant")
    return weights
