"""The figure of aggregation: a large and a small lesion under both, and peaks against volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsal.figures.charts import (
    colour_bar,
    legend,
    map_panel,
    new_figure,
    plain_log,
    side_by_side,
    style,
)
from jaxsal.figures.palette import CHANNELS, UNITS, colours_to
from jaxsal.figures.scene import make_scene
from jaxsal.saliency.maps import Crop
from jaxsal.tables import Row
from jaxsal.wording import counted, number

if TYPE_CHECKING:
    from jaxsal.cohort.results import ScanResults

_TITLES = {"mean": "mean (Eq. 2)", "max": "signed maximum (Eq. 3)"}
_AXIAL = 2


@dataclass(frozen=True, eq=False)
class Example:
    """A lesion that is shown.

    Attributes:
        title: what to call it.
        scan: where it is.
        label: of the lesion.
        maps: by aggregate.
    """

    title: str
    scan: ScanResults
    label: int
    maps: Mapping[str, Crop]


def draw(examples: Sequence[Example], rows: Sequence[Row], channels: Sequence[str]) -> Figure:
    """Axial slices of the first channel's maps; right of them the peaks of all lesions.

    Args:
        examples: the lesions to show, the largest first.
        rows: of the table.
        channels: names of the channels.
    """
    count = len({(row["scan"], row["label"]) for row in rows})
    figure = new_figure(12.5, 7.2, f"Maximum and mean over a lesion, {counted(count, 'lesion')}")
    left, right = side_by_side(figure, (2, 1.15))
    panels = left.subplots(len(examples), len(_TITLES), squeeze=False)
    scenes = [
        {
            name: make_scene(
                example.scan.image,
                example.scan.labels,
                example.label,
                crop.values,
                crop.origin,
                example.scan.grid,
            )
            for name, crop in example.maps.items()
        }
        for example in examples
    ]
    for column, (name, title) in enumerate(_TITLES.items()):
        planes = [scene[name].map_plane(_AXIAL, 0) for scene in scenes]
        colours = colours_to(max(float(np.abs(plane).max()) for plane in planes))
        for line, (example, scene) in enumerate(zip(examples, scenes, strict=True)):
            values = example.maps[name].values[..., 0]
            peaks = f"{number(float(values.min()))} to {number(float(values.max()))}"
            map_panel(
                panels[line, column],
                scene[name],
                0,
                colours,
                f"{example.title}; {channels[0]},\n{title}: {peaks}",
            )
        colour_bar(left, list(panels[:, column]), colours, UNITS)
    for panel, (name, title) in zip(
        right.subplots(2, 1, sharex=True, sharey=True), _TITLES.items(), strict=True
    ):
        _peaks_by_volume(panel, rows, channels, name, title)
    return figure


def _peaks_by_volume(
    axes: Axes, rows: Sequence[Row], channels: Sequence[str], aggregate: str, title: str
) -> None:
    for index, channel in enumerate(channels):
        own = [row for row in rows if (row["aggregate"], row["channel"]) == (aggregate, channel)]
        volumes = [row["volume_mm3"] for row in own]
        peaks = [max(row["max"], -row["min"]) for row in own]
        label = f"{channel}: n = {len(own):,}"
        colour = CHANNELS[index % len(CHANNELS)]
        axes.scatter(volumes, peaks, s=14, color=colour, label=label, alpha=0.75, linewidths=0)
    style(axes, f"{title}: peak magnitude", "volume of the lesion, mm³", UNITS)
    axes.set_xscale("log")
    if any(peak > 0 for peak in (row["max"] for row in rows)):
        axes.set_yscale("log")
        plain_log(axes.yaxis)
    plain_log(axes.xaxis)
    legend(axes, loc="lower left")
