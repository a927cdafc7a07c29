"""Networks of many families, exported and converted: logits and maps are PyTorch's in float64."""

from __future__ import annotations

import pytest

from bench.families import agreement
from bench.pytorch.families import FAMILIES

pytestmark = pytest.mark.usefixtures("xla_convolutions")

QUICK = ("hand-written",)  # and bench/test_families.py has a U-Net of slices
EVERY = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.thorough) for name in FAMILIES
]


@pytest.mark.parametrize("name", EVERY)
def test_logits_and_maps_are_those_of_autograd(name: str) -> None:
    """1e-9 of the peak in float64.

    In float32 an activation with a kink may have either slope where its input is zero within
    rounding, so that a map is as far off as PyTorch's own in float32, or within 1e-5.
    """
    row = agreement(name)
    assert row["float64_logits"] <= 1e-9
    assert row["float64_gradient"] <= 1e-9
    assert row["logits"] <= 1e-5
    for what in ("gradient", "maximum", "grad-cam++"):
        assert row[what] <= max(1e-5, 10 * row[f"torch_{what}"]), what
