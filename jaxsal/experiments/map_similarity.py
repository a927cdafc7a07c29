"""How alike two maps are."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, stats

_WINDOW = 7  # voxels along each axis; Wang et al.'s for images of one channel in scikit-image
_K1, _K2 = 0.01, 0.03


def relative_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Norm of the difference over the root mean square of both norms; NaN if both are zero.

    0 for equal maps, √2 for orthogonal ones of equal norm, 2 for opposite ones.
    """
    first, second = (np.ravel(each).astype(np.float64) for each in (one, other))
    scale = np.sqrt((first @ first + second @ second) / 2)
    return float(np.linalg.norm(first - second) / scale) if scale else np.nan


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; NaN if one map is constant."""
    first, second = (np.ravel(each).astype(np.float64) for each in (one, other))
    first, second = first - first.mean(), second - second.mean()
    scale = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / scale) if scale else np.nan


def correlation_of_ranks(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's; NaN if one map is constant."""
    return correlation(stats.rankdata(one), stats.rankdata(other))


def structural_similarity(one: np.ndarray, other: np.ndarray) -> float:
    """SSIM of two maps (x, y, z), each divided by its largest magnitude; NaN if one is zero.

    Means, variances and covariance are those of windows of 7³ voxels, or of the largest odd number
    that fits, all weighted alike; values range over 2, from -1 to 1. The mean over all windows that
    lie within the maps. -1 to 1; 1 for equal maps, whatever their scale.

    Source: Z. Wang et al., "Image quality assessment: from error visibility to structural
    similarity", IEEE Trans. Image Process. 13, 2004.
    """
    peaks = [float(np.abs(each).max(initial=0)) for each in (one, other)]
    if 0 in peaks:
        return np.nan
    first, second = (
        each.astype(np.float64) / peak for each, peak in zip((one, other), peaks, strict=True)
    )
    size = min(_WINDOW, *(n - 1 + n % 2 for n in one.shape))
    inside = tuple(slice(size // 2, n - size // 2) for n in one.shape)

    def mean(values: np.ndarray) -> np.ndarray:
        found: np.ndarray = ndimage.uniform_filter(values, size)[inside]
        return found

    unbiased = size**3 / (size**3 - 1) if size > 1 else 1.0
    means = mean(first), mean(second)
    variances = [
        unbiased * (mean(a * b) - x * y)
        for a, b, x, y in (
            (first, first, means[0], means[0]),
            (second, second, means[1], means[1]),
            (first, second, *means),
        )
    ]
    c1, c2 = (2 * _K1) ** 2, (2 * _K2) ** 2
    luminance = (2 * means[0] * means[1] + c1) / (means[0] ** 2 + means[1] ** 2 + c1)
    structure = (2 * variances[2] + c2) / (variances[0] + variances[1] + c2)
    return float((luminance * structure).mean())
