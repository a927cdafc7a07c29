"""Pages can be read by everybody: colour maps by colour-blind readers, texts in both themes."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest

from jaxsal.figures.palette import COLD, HOT
from jaxsal.report.view import colour_map

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
MACHADO = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)  # of linear sRGB
WHITE = np.array([0.9505, 1.0, 1.089])


def linear(colours: np.ndarray) -> np.ndarray:
    """Linear RGB of sRGB, both from 0 to 1."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def lab(colours: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB (n, 3)."""
    x, y, z = np.cbrt(np.clip(colours, 0, 1) @ XYZ.T / WHITE).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def seen(ramp: tuple[str, ...], vision: str) -> np.ndarray:
    """The colours of a ramp from weak to strong, at every step, as somebody sees them: L*a*b*."""
    table = colour_map(ramp)
    steps = np.arange(256)
    rgb = np.stack([np.interp(steps, table["I"], table[letter]) for letter in "RGB"], axis=1)
    return lab(linear(rgb / 255) @ MACHADO[vision].T)


@pytest.mark.parametrize("vision", MACHADO)
@pytest.mark.parametrize("ramp", [HOT, COLD], ids=["positive", "negative"])
def test_stronger_is_lighter_whoever_looks(ramp: tuple[str, ...], vision: str) -> None:
    lightness = seen(ramp, vision)[:, 0]
    assert np.diff(lightness).min() > 0
    assert lightness[-1] - lightness[0] > 40


@pytest.mark.parametrize("vision", MACHADO)
def test_the_signs_look_different_whoever_looks(vision: str) -> None:
    difference = np.linalg.norm(seen(HOT, vision) - seen(COLD, vision), axis=1)
    assert difference.min() > 15  # of which 2.3 is just noticeable


def themes() -> dict[str, dict[str, str]]:
    """The colours of the pages by their names, in the light and in the dark theme."""
    style = files("jaxsal.report").joinpath("style.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    )
    return {"light": light, "dark": light | dark}


def contrast(first: str, second: str) -> float:
    """WCAG's contrast ratio."""
    rgb = [np.array([int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)]) for c in (first, second)]
    low, high = sorted(float(linear(each) @ XYZ[1]) for each in rgb)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("text", ["ink", "soft", "link", "hot", "cold", "note"])
def test_texts_have_the_contrast_of_wcag_aa(theme: str, text: str) -> None:
    colours = themes()[theme]
    assert min(contrast(colours[text], colours[paper]) for paper in ("paper", "raised")) >= 4.5
