"""Several domains in one figure: their rows, one range of colours, peaks of whole maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from jaxsal.errors import InputError
from jaxsal.figures.panels import PanelRow, panel_figure
from jaxsal.grid import Grid

SHAPE = (20, 18, 12)
CHANNELS = ("flair", "t1")


def row(place: int, peak: float, **more: Any) -> PanelRow:
    image = np.random.default_rng(0).standard_normal((*SHAPE, 2)).astype(np.float32)
    omega = np.zeros(SHAPE, bool)
    omega[place : place + 3, 8:10, 5:7] = True
    saliency = np.zeros((6, 6, 6, 2), np.float32)
    saliency[2, 3, 2] = (peak, -peak / 2)
    origin = (place - 1, 6, 3)
    grid = Grid(SHAPE, np.diag([1.0, 1.0, 2.0, 1.0]))
    return PanelRow(f"row at {place}", image, omega, saliency, origin, grid, **more)


def texts(figure: Figure) -> str:
    inside = [text.get_text() for axes in figure.axes for text in axes.texts]
    return "\n".join([text.get_text() for text in figure.texts] + inside)


def test_each_domain_has_a_row_with_its_peaks() -> None:
    figure = panel_figure([row(4, 2.0), row(12, 0.25)], CHANNELS, "a title\nmore of it")
    assert len(figure.axes) == 2 * 3 + 1  # the image and two maps each, and the colours
    told = texts(figure)
    for expected in ("a title", "more of it", "row at 4", "row at 12", "max 2.00", "max 0.250"):
        assert expected in told
    assert "min −1.00 · max 0" in told


@pytest.mark.parametrize("peak", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_drawn_and_its_peak_written(peak: float) -> None:
    assert f"max {peak}" in texts(panel_figure([row(4, peak)], CHANNELS, "a title"))


def test_all_maps_share_one_range_of_colours() -> None:
    figure = panel_figure([row(4, 2.0), row(12, 0.25)], CHANNELS, "a title")
    maps = [axes.images[-1] for axes in figure.axes[:-1] if len(axes.images) == 2]
    assert [image.get_clim() for image in maps] == [(-2.0, 2.0)] * 4


def test_the_outline_is_that_of_the_domain() -> None:
    figure = panel_figure([row(4, 1.0)], CHANNELS, "a title")
    lines = {line.get_label(): line for line in figure.axes[0].collections}
    assert isinstance(lines["omega"], LineCollection)
    ends = np.concatenate(lines["omega"].get_segments())
    np.testing.assert_allclose(ends.min(0), [3.5, 7.5])
    np.testing.assert_allclose(ends.max(0), [6.5, 9.5])
    x = sorted(figure.axes[0].get_xlim())
    assert x[0] < 5 < x[1]


def test_probability_is_a_panel_of_its_own() -> None:
    probability = np.zeros(SHAPE, np.float32)
    probability[5, 9] = 0.7
    figure = panel_figure([row(4, 1.0, probability=probability)], CHANNELS, "a title")
    assert len(figure.axes) == 4 + 1
    shown = figure.axes[1].images[-1]
    assert shown.get_clim() == (0, 1)
    assert np.asarray(shown.get_array()).max() == pytest.approx(0.7)


def test_a_domain_needs_voxels() -> None:
    empty = row(4, 1.0)
    empty.omega[:] = False
    with pytest.raises(InputError, match="label 1"):
        panel_figure([empty], CHANNELS, "a title")
