"""What a lesion's map amounts to in numbers."""

from __future__ import annotations

import numpy as np

from jaxsal.saliency.maps import Crop

# Names and meanings, of maps with negative values, and of heat maps, which have none.
SIGNED = {
    "max": "largest value of the map",
    "min": "smallest value of the map",
    "mean_inside": "mean of the map over the lesion",
    "positive_share": "positive part of the map's total magnitude, from 0 to 1",
}
POSITIVE = {
    "max": SIGNED["max"],
    "mean_inside": SIGNED["mean_inside"],
    "inside_share": "part of the map's total that lies inside the lesion, from 0 to 1",
}


def map_statistics(crop: Crop, domain: np.ndarray) -> list[dict[str, float]]:
    """Statistics of a map, for each of its channels, by the names in `SIGNED` and `POSITIVE`.

    Args:
        crop: the map; the lesion may reach out of it, where it is zero.
        domain: (X, Y, Z) bool, the lesion on the image's grid; not empty.
    """
    box = tuple(slice(o, o + n) for o, n in zip(crop.origin, crop.values.shape, strict=False))
    inside, voxels = domain[box], int(np.count_nonzero(domain))
    return [_statistics(values, inside, voxels) for values in np.moveaxis(crop.values, -1, 0)]


def _statistics(values: np.ndarray, inside: np.ndarray, voxels: int) -> dict[str, float]:
    magnitude = float(np.abs(values).sum(dtype=np.float64))
    positive = float(np.maximum(values, 0).sum(dtype=np.float64))
    within = float(values[inside].sum(dtype=np.float64))
    return {
        "max": float(values.max()),
        "min": float(values.min()),
        "mean_inside": within / voxels,
        "positive_share": positive / magnitude if magnitude else 0.0,
        "inside_share": within / magnitude if magnitude else 0.0,
    }
