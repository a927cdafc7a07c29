"""The violins: the right kinds in the right order, the right medians, nothing invented."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from jaxsal.figures.distributions import distribution_figure, distribution_svg
from jaxsal.figures.palette import kinds_in_order


def rows(**values: list[Any]) -> list[dict[str, Any]]:
    return [{"kind": kind, "peak": peak} for kind, peaks in values.items() for peak in peaks]


def names(figure: Figure) -> list[list[str]]:
    """The lines below each violin."""
    return [label.get_text().split("\n") for label in figure.axes[0].get_xticklabels()]


def violins(figure: Figure) -> list[np.ndarray]:
    """The outlines (N, 2) of the violins."""
    bodies = [item for item in figure.axes[0].collections if isinstance(item, PolyCollection)]
    return [np.asarray(body.get_paths()[0].vertices) for body in bodies]


def medians(figure: Figure) -> list[float]:
    lines = [item for item in figure.axes[0].collections if isinstance(item, LineCollection)]
    return [float(line.get_segments()[0][0][1]) for line in lines]


def test_kinds_are_in_the_paper_s_order_and_others_after_them() -> None:
    given = ["unknown", "TP", "given", "FP", "predicted", "FN", "TN"]
    assert kinds_in_order(given) == ["TN", "FN", "FP", "TP", "predicted", "given", "unknown"]


def test_each_kind_has_a_violin_with_its_number_and_median() -> None:
    peaks = {"TP": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0], "FN": [-1.0, 0.0, 0.5, 1.0, 3.0]}
    figure = distribution_figure(rows(**peaks), "peak", "logit")
    assert names(figure) == [["FN", "n = 5", "median 0.500"], ["TP", "n = 6", "median 6.00"]]
    assert medians(figure) == [0.5, 6.0]
    for outline, values, place in zip(
        violins(figure), (peaks["FN"], peaks["TP"]), (0, 1), strict=True
    ):
        assert (outline[:, 1].min(), outline[:, 1].max()) == (min(values), max(values))
        assert np.abs(outline[:, 0] - place).max() == pytest.approx(0.4)


def test_few_values_are_points() -> None:
    figure = distribution_figure(rows(predicted=[1.0, 2.0, 9.0, 1.5]), "peak", "logit")
    assert violins(figure) == []
    (points,) = figure.axes[0].get_lines()
    np.testing.assert_array_equal(points.get_ydata(), [1.0, 2.0, 9.0, 1.5])
    assert medians(figure) == [1.75]


def test_missing_and_infinite_values_do_not_count() -> None:
    peaks = [None, float("nan"), float("inf"), 1.0, 2.0]
    figure = distribution_figure(rows(TP=peaks, FP=[None]), "peak", "logit")
    assert names(figure) == [["FP", "n = 0"], ["TP", "n = 2", "median 1.50"]]
    assert medians(figure) == [1.5]


def test_equal_values_are_drawn() -> None:
    figure = distribution_figure(rows(TP=[1.0] * 10), "peak", "logit")
    assert np.isfinite(violins(figure)[0]).all()


def test_svg_is_whole_escaped_coloured_by_the_page_and_the_same_every_time() -> None:
    evil = "</svg><script>alert('$x$')</script>"
    table = [*rows(TP=[1.0, 2.0, 3.0, 4.0, 5.0]), {"kind": evil, "peak": 1.0}]
    svg = distribution_svg(table, "peak", evil)
    root = ElementTree.fromstring(svg.replace("xlink:", ""))
    assert root.tag.endswith("svg")
    assert "<script" not in svg
    texts = ["".join(item.itertext()) for item in root.iter() if item.tag.endswith("text")]
    assert evil in texts
    assert "var(--ink)" in svg
    assert not re.search(r"<(style|link|image)[^>]*http", svg)
    assert svg == distribution_svg(table, "peak", evil)
