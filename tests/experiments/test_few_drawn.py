"""Figures of too few lesions for medians show each lesion, and no median."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsal.experiments import faithfulness_figure, randomisation_figure, stability_figure
from jaxsal.experiments.faithfulness_curves import ALL, DIRECTIONS, PERCENT

LIKENESS = ("spearman", "spearman_magnitude", "ssim")


def of_stability(lesions: int) -> Figure:
    rows = [
        {"scan": "a", "label": label, "aggregate": "max", "channel": "t1", "images": images}
        | dict.fromkeys(("relative_l2", "correlation", "peak_error"), 0.1 * label)
        for label in range(1, lesions + 1)
        for images in (1, 2)
    ]
    return stability_figure.draw(rows, ["t1"])


def of_randomisation(lesions: int) -> Figure:
    rows = [
        {"scan": "a", "label": label, "stage": stage, "layer": layer, "channel": "t1"}
        | dict.fromkeys(LIKENESS, 0.1 * label)
        for label in range(lesions)
        for stage, layer in ((0, "noise"), (1, "last"), (2, "first"))
    ]
    return randomisation_figure.draw(rows, ["t1"], LIKENESS, ["noise"])


def height(part: float, direction: str) -> float:
    return part if direction == "insertion" else 1 - part


def of_faithfulness(lesions: int) -> Figure:
    rows = [
        {"scan": "a", "label": label, "channel": ALL, "auc": 0.5, "infill": "mean"}
        | {"method": "map", "direction": direction}
        | {f"logit_{percent:g}": height(percent / 100, direction) for percent in PERCENT}
        for label in range(lesions)
        for direction in DIRECTIONS
    ]
    return faithfulness_figure.draw(rows, ["map"], ["mean"])


@pytest.mark.parametrize("draw", [of_stability, of_randomisation, of_faithfulness])
def test_figures_show_each_of_too_few_lesions_and_no_median(draw: Callable[[int], Figure]) -> None:
    for axes in draw(4).axes:
        assert all(line.get_linewidth() < 1 for line in axes.lines)
        assert named(axes)
    for axes in draw(5).axes:
        assert any(line.get_linewidth() > 1.5 for line in axes.lines)
        assert named(axes)


def named(axes: Axes) -> Sequence[str]:
    return [name for name in axes.get_legend_handles_labels()[1] if name]
