"""The head in an image: all that is not its background, which may be zero or full of noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from jaxsal.inputs.background import faces, fills_its_box, find_background
from jaxsal.lesions import TOUCHING

_AIR_ON_FACES = 2 / 3  # of all faces' voxels, at least: else no background is in the image
_BINS = 128


def head(image: np.ndarray) -> np.ndarray:
    """The voxels of the head, or of the brain if the scan shows only that.

    Those that are not background in every channel, see
    `jaxsal.inputs.background.find_background`: the
    largest 18-connected piece, holes filled.

    Where the background is not constant, as in a scan's air, those fill their box: more than 90 %
    of it, or more than half of each of its six faces. Then the head is what is bright in the mean
    of the channels (scaled by their 1st and 99th percentiles, smoothed by a voxel), by Otsu's
    threshold, and what that encloses in a slice along any axis; again the largest piece. If this
    leaves less than two thirds of the faces to the air, the image is all head, and so is the grid.

    Args:
        image: (X, Y, Z, C), each channel in any linear units with a dark background.

    Returns:
        (X, Y, Z) bool; empty if the whole image is zero.
    """
    channels = np.moveaxis(image, -1, 0)
    some = ~np.all([find_background(channel)[0] for channel in channels], axis=0)
    if not some.any():
        return some
    if fills_its_box(some):
        return _bright(image)
    filled: np.ndarray = ndimage.binary_fill_holes(_largest(some))
    return filled


def _bright(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, (1, 99), axis=(0, 1, 2))
    scaled = (image - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    smooth = ndimage.gaussian_filter(scaled.mean(-1), 1)
    found = _largest(_filled_in_slices(smooth > otsu(smooth)))
    on_faces = np.concatenate([face.ravel() for face in faces(found)])
    return found if (~on_faces).mean() >= _AIR_ON_FACES else np.ones_like(found)


def _filled_in_slices(mask: np.ndarray) -> np.ndarray:
    """With what it encloses in a slice: a head that the grid cuts off is open only there."""
    filled = mask.copy()
    for axis in range(3):
        within = ndimage.generate_binary_structure(3, 1)
        within[(slice(None),) * axis + (slice(None, None, 2),)] = False
        pieces, count = ndimage.label(~mask, structure=within)
        is_open = np.zeros(count + 1, bool)
        for other in {0, 1, 2} - {axis}:
            is_open[pieces.take((0, -1), other)] = True
        filled |= ~is_open[pieces]
    return filled


def _largest(mask: np.ndarray) -> np.ndarray:
    """Its largest piece; empty if it is."""
    labels, count = ndimage.label(mask, structure=TOUCHING)
    if count == 0:
        return mask
    largest: np.ndarray = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return largest


def otsu(values: np.ndarray) -> float:
    """The threshold that divides values into two classes of least variance within (Otsu 1979).

    Extreme percents do not count: vessels are far brighter than any tissue.

    Args:
        values: of any shape, at least one.
    """
    low, high = np.percentile(values, (0.5, 99.5))
    counts, edges = np.histogram(values, _BINS, (low, max(high, low + 1e-6)))
    below = np.cumsum(counts)[:-1]
    total = np.cumsum(counts * (edges[1:] + edges[:-1]) / 2)
    above = np.maximum(counts.sum() - below, 1)
    between = total[:-1] ** 2 / np.maximum(below, 1) + (total[-1] - total[:-1]) ** 2 / above
    return float(edges[1 + np.argmax(between)])
