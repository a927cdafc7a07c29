"""The figure of contributions: distributions above, profiles by distance below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsal.experiments.contributions_tally import SHELLS, SIGNS, Tally
from jaxsal.figures.charts import legend, new_figure, style
from jaxsal.figures.palette import NEGATIVE, POSITIVE, UNITS, colour_of
from jaxsal.wording import counted, number

_COLOURS = dict(zip(SIGNS, (POSITIVE, NEGATIVE), strict=True))
_BARS = 100  # in a distribution, from nothing to the largest magnitude
_DISTANCE = "mm from the lesion's border (negative: inside; last: all beyond)"


def draw(tally: Tally, kinds: Sequence[str], shown: str, channels: Sequence[str]) -> Figure:
    """Per channel: the distribution of values, their amount by distance, and the share of positive.

    Args:
        tally: of all maps.
        kinds: of lesions, in order.
        shown: whose distribution and amounts are drawn.
        channels: names of the channels.
    """
    figure = new_figure(5.6 * len(channels), 9.0, title_of(tally, shown))
    axes = figure.subplots(3, len(channels), squeeze=False, sharex="row", sharey="row")
    for column, channel in enumerate(channels):
        _distribution(axes[0, column], tally, shown, channel, _largest(tally, shown, channels))
        _amounts(axes[1, column], tally, shown, channel)
        _shares(axes[2, column], tally, kinds, channel)
    if axes[0, 0].get_yscale() == "log":
        axes[0, 0].set_ylim(top=10 * axes[0, 0].get_ylim()[1])  # room for the legend
    return figure


def title_of(tally: Tally, shown: str) -> str:
    """The figure's title, with the number of lesions that are drawn."""
    lesions = counted(tally.lesions[shown], f"{shown} lesion")
    return f"Contributions to {lesions} of {counted(tally.scans[shown], 'scan')}"


def _largest(tally: Tally, kind: str, channels: Sequence[str]) -> float:
    return max(tally.signed[kind, c, sign].magnitudes.largest for c in channels for sign in SIGNS)


def _distribution(axes: Axes, tally: Tally, kind: str, channel: str, largest: float) -> None:
    edges = np.linspace(0, (largest or 1.0) * 1.001, _BARS + 1)
    for sign, direction in zip(SIGNS, (1, -1), strict=True):
        magnitudes = tally.signed[kind, channel, sign].magnitudes
        counts = magnitudes.histogram(edges)
        if not magnitudes.count:
            continue
        middle = direction * magnitudes.median
        axes.stairs(
            counts[::direction],
            direction * edges if direction > 0 else -edges[::-1],
            fill=True,
            color=_COLOURS[sign],
            alpha=0.75,
            label=f"{sign}: n = {magnitudes.count:,}, median {number(middle)}",
        )
        axes.axvline(middle, color=_COLOURS[sign], linewidth=1.5)
    style(axes, f"{channel}: values of at least {tally.least:g}", UNITS, "voxels")
    if axes.patches:
        axes.set_yscale("log")
        axes.minorticks_off()
        legend(axes, loc="upper right")


def _amounts(axes: Axes, tally: Tally, kind: str, channel: str) -> None:
    places = _middles()
    for sign, direction in zip(SIGNS, (1, -1), strict=True):
        amount = tally.signed[kind, channel, sign].amount / tally.lesions[kind]
        axes.bar(places, direction * amount, 1.0, color=_COLOURS[sign], alpha=0.85, label=sign)
    style(axes, f"{channel}: sum of values per lesion ({kind})", _DISTANCE, UNITS)
    axes.axvline(0, color="#16191d", linewidth=0.8)
    legend(axes)


def _shares(axes: Axes, tally: Tally, kinds: Sequence[str], channel: str) -> None:
    places = _middles()
    for kind in kinds:
        positive, negative = (tally.signed[kind, channel, sign].amount for sign in SIGNS)
        total = positive + negative
        with np.errstate(invalid="ignore"):
            share = np.where(total > 0, positive / total, np.nan)
        known = ~np.isnan(share)
        label = f"{kind}: n = {tally.lesions[kind]:,}"
        axes.plot(
            places[known], share[known], ".-", color=colour_of(kind), label=label, linewidth=1.5
        )
    style(axes, f"{channel}: positive share of magnitude", _DISTANCE, "share, 0 to 1")
    axes.set_ylim(-0.02, 1.02)
    axes.axhline(0.5, color="#16191d", linewidth=0.8, linestyle=":")
    axes.axvline(0, color="#16191d", linewidth=0.8)
    legend(axes)


def _middles() -> np.ndarray:
    """Where shells are drawn; the outermost ones, which have no end, as if they had one."""
    return np.arange(-SHELLS.inside, SHELLS.outside + 1) + 0.5
