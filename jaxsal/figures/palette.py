"""The colours of all figures, on dark paper and on white, and what they mean."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, Normalize

from jaxsal.types import Scale

UNITS = "logit per standard deviation"

# On dark paper
PAPER, LIGHT, FAINT, OMEGA, FRAME = "#0d1015", "#eceff4", "#98a2b3", "#ffffff", "#ffb000"
BEHIND = "#5a5f68"  # of a colour bar whose weak colours are transparent
COLD = ("#2f6fd0", "#3f9be8", "#86cdf6", "#dff3ff")  # from weak to strong
HOT = ("#c8322b", "#ee6a38", "#fbb152", "#fff1c2")

CHOSEN, OTHERS = "#1aff8c", "#0f9d58"  # outlines in the view, whose scan may be white itself

# On white paper
INK, LINE = "#16191d", "#dfe3e8"  # the pages' as well, which replace them by their variables
WARNING = "#d98e04"
POSITIVE, NEGATIVE = HOT[0], COLD[0]  # as maps are drawn
CHANNELS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f")
# In the order of the paper's figure; Okabe and Ito's colours, for colour-blind readers.
KINDS = {
    "TN": "#7f7f7f",
    "FN": "#e69f00",
    "FP": "#56b4e9",
    "TP": "#009e73",
    "predicted": "#0072b2",
    "given": "#cc79a7",
    "class": "#d55e00",
}


def colour_of(kind: str) -> str:
    """The colour of a kind of lesion; grey for an unknown one."""
    return KINDS.get(kind, "#7f7f7f")


def kinds_in_order(kinds: Collection[Any]) -> list[Any]:
    """Kinds of lesions in the paper's order, others after them by name."""
    known = list(KINDS)
    return sorted(kinds, key=lambda k: (known.index(k) if k in known else len(known), str(k)))


class Colours(NamedTuple):
    """A range of values and its colours."""

    norm: Normalize
    colour_map: Colormap


def colours_to(limit: float, scale: Scale = "diverging") -> Colours:
    """Colours from minus a limit, or from zero, to the limit; 0 is the limit of a map of zeros."""
    limit = limit or 1.0
    return Colours(Normalize(-limit if scale == "diverging" else 0.0, limit), colour_map(scale))


def colour_map(scale: Scale) -> Colormap:
    """Colours that brighten with magnitude and fade out towards zero, for a dark picture."""
    weak_to_strong = np.array([matplotlib.colors.to_rgba(colour) for colour in HOT])
    if scale == "diverging":
        cold = np.array([matplotlib.colors.to_rgba(colour) for colour in COLD])
        weak_to_strong = np.concatenate([cold[::-1], weak_to_strong])
    smooth = LinearSegmentedColormap.from_list("", weak_to_strong)
    place = np.linspace(-1 if scale == "diverging" else 0, 1, 511)
    table = smooth(np.linspace(0, 1, 511))
    table[:, 3] = np.clip(np.abs(place) / 0.15, 0, 1)  # opaque from 15 % of the range on
    return ListedColormap(table)
