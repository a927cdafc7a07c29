"""First-order statistics and texture of a region, as the IBSI defines them.

Source: the Image Biomarker Standardisation Initiative's reference manual (Zwanenburg et al.,
arXiv:1612.07003, chapter "Image features"; Radiology 295:328, 2020). Codes such as N8CA are its
names of features.
"""

from __future__ import annotations

from itertools import product

import numpy as np

BINS = 16
"""Grey levels of a discretised region: its own range in parts of one width (fixed bin number)."""

FIRST_ORDER = {
    "energy": "sum of the squared values (N8CA)",
    "entropy": f"Shannon's, bits, of the values in {BINS} bins between least and largest (TLU2)",
    "skewness": "third standardised moment (KE2A); 0 if all values are equal",
    "kurtosis": "fourth standardised moment less 3 (IPH6); 0 if all values are equal",
    "p10": "10th percentile (QG58)",
    "p50": "median (Y12H)",
    "p90": "90th percentile (8DWT)",
}
TEXTURE = {
    "contrast": "mean squared difference of the grey levels of neighbours (ACUI)",
    "correlation": "of the grey levels of neighbours (NI2N); 1 if all are equal",
    "homogeneity": "inverse difference: mean of 1 / (1 + difference) of the grey levels (IB1Z)",
}
# One of each two opposite directions to the 26 neighbours.
DIRECTIONS = tuple(step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0))


def discretised(values: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Grey levels from 1 to `bins`, of the values' own range (IBSI's fixed bin number).

    Args:
        values: of a region, of any shape; not empty.
        bins: number of grey levels.

    Returns:
        Integers of the same shape; 1 everywhere if all values are equal.
    """
    least, largest = values.min(), values.max()
    if least == largest:
        return np.ones(values.shape, np.int64)
    shares = (values.astype(np.float64) - least) / (np.float64(largest) - least)
    found: np.ndarray = np.minimum(np.floor(bins * shares).astype(np.int64) + 1, bins)
    return found


def first_order(values: np.ndarray, levels: np.ndarray) -> dict[str, float]:
    """Statistics of a region's values, by the names of `FIRST_ORDER`.

    Percentiles are values of the region: the least that so many percent do not exceed.

    Args:
        values: (V,), at least one.
        levels: (V,) their grey levels, of which the entropy is.
    """
    values = values.astype(np.float64)
    apart = values - values.mean()
    variance = float(np.mean(apart**2)) if np.ptp(values) > 0 else 0.0
    shares = np.bincount(levels) / len(levels)
    shares = shares[shares > 0]
    percentiles = np.percentile(values, (10, 50, 90), method="inverted_cdf")
    return {
        "energy": float(values @ values),
        "entropy": float(-(shares @ np.log2(shares))) + 0.0,  # no -0.0
        "skewness": float(np.mean(apart**3)) / variance**1.5 if variance else 0.0,
        "kurtosis": float(np.mean(apart**4)) / variance**2 - 3 if variance else 0.0,
        **dict(zip(("p10", "p50", "p90"), percentiles.tolist(), strict=True)),
    }


def co_occurrence(levels: np.ndarray) -> np.ndarray:
    """How often two grey levels are neighbours: the 13 directions merged, both ways counted.

    Args:
        levels: (X, Y, Z) int, from 1 on; 0 outside the region.

    Returns:
        (G, G) int64 symmetric counts of pairs at Chebyshev distance 1 with both in the region; G is
        the highest level.
    """
    highest = int(levels.max())
    counts = np.zeros((highest + 1) ** 2, np.int64)
    for step in DIRECTIONS:
        here = levels[tuple(slice(max(0, -s), -s if s > 0 else None) for s in step)]
        there = levels[tuple(slice(max(0, s), s if s < 0 else None) for s in step)]
        pairs = (here * (highest + 1) + there).ravel()
        counts += np.bincount(pairs, minlength=len(counts))
    square = counts.reshape(highest + 1, highest + 1)[1:, 1:]
    found: np.ndarray = square + square.T
    return found


def texture(levels: np.ndarray) -> dict[str, float]:
    """Features of the co-occurrence matrix, by the names of `TEXTURE`.

    Args:
        levels: as for `co_occurrence`. A region without two neighbours is as one of equal values.
    """
    counts = co_occurrence(levels)
    if not counts.any():
        return {"contrast": 0.0, "correlation": 1.0, "homogeneity": 1.0}
    joint = counts / counts.sum()
    level = np.arange(1, len(joint) + 1)
    difference = np.abs(level[:, None] - level)
    marginal = joint.sum(axis=0)
    apart = level - marginal @ level
    variance = float(marginal @ apart**2)
    uniform = np.count_nonzero(marginal) == 1
    return {
        "contrast": float((joint * difference**2).sum()),
        "correlation": 1.0 if uniform else float(apart @ joint @ apart) / variance,
        "homogeneity": float((joint / (1 + difference)).sum()),
    }
