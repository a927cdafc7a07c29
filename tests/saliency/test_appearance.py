"""How maps appear: what a picture's title says of them."""

from __future__ import annotations

from typing import Any

import pytest

from jaxsal.registry import METHODS


@pytest.mark.parametrize(
    ("name", "options", "title"),
    [
        ("smoothgrad", {"samples": 7}, ", SmoothGrad, N = 7"),
        ("smoothgrad", {"samples": 40, "tolerance": 0.1}, ", SmoothGrad, N ≤ 40"),
        ("vargrad", {"samples": 3}, ", VarGrad, N = 3"),
        ("gradient", {}, ", gradient"),
        ("occlusion", {}, ", occlusion"),
        ("gradcam++", {"layer": "decoder.0"}, ", Grad-CAM++ at decoder.0"),
    ],
)
def test_a_title_names_the_method_and_the_number_of_noisy_images(
    name: str, options: dict[str, Any], title: str
) -> None:
    method = METHODS[name]
    assert method.shown(method.make(**options), "instance", ("flair", "t1")).subtitle == title
