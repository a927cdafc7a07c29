"""The question of families is answered at toy size: numbers agree, ratios are measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import main

pytestmark = pytest.mark.usefixtures("xla_convolutions")


@pytest.mark.thorough
def test_a_family_has_errors_and_ratios(tmp_path: Path) -> None:
    assert main(["families", "--toy", "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("families-*.json")
    (row,) = json.loads(path.read_text())["rows"]
    assert row["network"] == "UNet, 2D"
    for what in ("logits", "gradient", "maximum", "grad-cam++"):
        assert row[what] < 1e-5
        assert row[f"float64_{what}"] < 1e-12
    assert row["forward_ratio"] > 0
    assert row["gradient_ratio"] > 0
