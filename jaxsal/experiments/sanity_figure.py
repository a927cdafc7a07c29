"""The figure of the sanity checks: an example of each kind of domain, and the peaks of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from jaxsal.figures.panels import PanelRow, panel_figure
from jaxsal.saliency.maps import Crop
from jaxsal.tables import Row
from jaxsal.wording import number

if TYPE_CHECKING:
    from jaxsal.cohort.results import ScanResults


def sanity_figure(
    examples: Sequence[tuple[ScanResults, Row, Crop]],
    rows: Sequence[Row],
    groups: Mapping[str, str],
    channels: Sequence[str],
) -> Figure:
    """Draws one domain of each group, all maps in one range of colours.

    Args:
        examples: scan, row of the table and map of each.
        rows: of the table, all of them.
        groups: what each is called.
        channels: of the model.
    """
    panels = [
        PanelRow(
            _heading(row["group"], rows, groups, channels[0]),
            scan.image,
            scan.labels == row["domain"],
            crop.values,
            crop.origin,
            scan.grid,
            others=scan.labels > 0,
        )
        for scan, row, crop in examples
    ]
    title = "What the maps show where there is no lesion, and of a single voxel"
    return panel_figure(panels, channels, f"{title}\none example of each; medians are over all n")


def _heading(group: str, rows: Sequence[Row], groups: Mapping[str, str], channel: str) -> str:
    own = [row for row in rows if row["group"] == group]
    low, high = (
        float(np.median([row[f"{channel}_{name}"] for row in own])) for name in ("min", "max")
    )
    return (
        f"{groups[group]} (n = {len(own)}): median peaks on {channel} {number(low)} and "
        f"{number(high)}"
    )
