"""The maps of a cohort by region: how much of them lies in each, over the lesions of each kind."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from jaxsal.scan.region_table import REGION_COLUMNS, all_regions
from jaxsal.tables import Column, Row

_KEY = ("method", "channel", "index", "region", "kind")
_VALUES = {"mass_share": "share of mass", "peak": "peak"}
_QUANTILES = {"q1": 0.25, "median": 0.5, "q3": 0.75}
_MEANINGS = {column.key: column for column in REGION_COLUMNS}

SUMMARY_COLUMNS = (
    *(_MEANINGS[key] for key in _KEY),
    Column("n", "n", "maps that are not 0 everywhere in the region; the figures are over these", 0),
    Column("maps", "maps", "all maps of the method, channel and kind that are not 0 everywhere", 0),
    *(
        Column(
            f"{value}_{name}",
            f"{heading}, {name}",
            f"{name} of: {_MEANINGS[value].description}",
        )
        for value, heading in _VALUES.items()
        for name in _QUANTILES
    ),
)
"""Columns of the summary: q1 and q3 are quartiles, interpolated linearly."""


class RegionSummary:
    """Adds up what maps are like in each region."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, int, str, str], list[tuple[float, float]]] = {}
        self._maps: dict[tuple[str, str, str], int] = {}

    def add(self, lesions: Iterable[Row]) -> None:
        """Adds the rows of some lesions, with those of their maps' regions."""
        for lesion in lesions:
            rows = list(all_regions([lesion]))
            for row in rows:
                method, channel, index, region, kind = (row[key] for key in _KEY)
                of_kind = self._values.setdefault((method, channel, index, region, kind), [])
                of_kind.append((row["mass_share"], row["peak"]))
            for of_map in {(row["method"], row["channel"], row["kind"]) for row in rows}:
                self._maps[of_map] = self._maps.get(of_map, 0) + 1

    def rows(self) -> list[Row]:
        """The summary, sorted by method, channel, the region's label and kind."""
        found = []
        for key, values in sorted(self._values.items()):
            method, channel, _, _, kind = key
            maps = self._maps[method, channel, kind]
            row: Row = dict(zip(_KEY, key, strict=True))
            found.append({**row, "n": len(values), "maps": maps, **_figures(values)})
        return found


def _figures(values: list[tuple[float, float]]) -> dict[str, float]:
    found = np.quantile(np.array(values, np.float64), list(_QUANTILES.values()), axis=0)
    return {
        f"{value}_{name}": float(found[j, i])
        for i, value in enumerate(_VALUES)
        for j, name in enumerate(_QUANTILES)
    }
