"""What a lesion's map amounts to in numbers."""

from __future__ import annotations

import numpy as np

from jaxsal.saliency.maps import Crop

STATISTICS = {
    "max": "largest value of the map",
    "min": "smallest value of the map",
    "mean_inside": "mean of the map over the lesion",
    "positive_share": "positive part of the map's total magnitude, from 0 to 1",
}


def map_statistics(crop: Crop, domain: np.ndarray) -> list[dict[str, float]]:
    """Statistics of a map, for each image channel, by the names in `STATISTICS`.

    Args:
        crop: the map.
        domain: (X, Y, Z) bool, the lesion on the image's grid.
    """
    box = tuple(slice(o, o + n) for o, n in zip(crop.origin, crop.values.shape, strict=False))
    inside = domain[box]
    return [_statistics(values, inside) for values in np.moveaxis(crop.values, -1, 0)]


def _statistics(values: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    magnitude = float(np.abs(values).sum(dtype=np.float64))
    positive = float(np.maximum(values, 0).sum(dtype=np.float64))
    return {
        "max": float(values.max()),
        "min": float(values.min()),
        "mean_inside": float(values[inside].mean(dtype=np.float64)),
        "positive_share": positive / magnitude if magnitude else 0.0,
    }
