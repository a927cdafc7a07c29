"""The picture of a lesion's map."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.approximated import caption
from jaxsal.figures.canvas import write_figure
from jaxsal.figures.lesion import lesion_figure
from jaxsal.saliency.maps import Crop

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from jaxsal.scan.portions import Portions
    from jaxsal.tables import Row


def lesion_picture(portions: Portions, label: int, crop: Crop, row: Row) -> Figure:
    """Draws a lesion's map.

    Args:
        portions: the scan and what is explained of it.
        label: of the lesion.
        crop: its map.
        row: the lesion's, of the table.
    """
    explained, scan = portions.wanted.maps[label], portions.prediction.scan
    shown = portions.shown
    return lesion_figure(
        scan.image,
        portions.wanted.labels,
        None if portions.settings.level == "class" else label,
        crop.values,
        crop.origin,
        scan.grid,
        portions.model.channels,
        f"{explained.title}{shown.subtitle}",
        shown.units,
        shown.scale,
        note=caption(row),
    )


def picture_seconds(portions: Portions) -> float:
    """How long a picture takes: that of a lesion with an empty map, drawn and thrown away."""
    label = next(iter(portions.wanted.maps))
    empty = Crop(np.zeros((1, 1, 1, len(portions.shown.maps)), np.float32), (0, 0, 0), 0)
    began = time.perf_counter()
    write_figure(lesion_picture(portions, label, empty, {}), io.BytesIO())
    return time.perf_counter() - began
