"""``jaxsal bench``: one number, and a forecast that follows from it."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

from jaxsal.cli.main import main
from jaxsal.scan.calibration import measure_throughput

pytestmark = pytest.mark.usefixtures("one_device")

ROI = ["--roi", "16", "--shape", "24", "28", "20"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One short measurement is enough."""
    quick = partial(measure_throughput, samples=1, most_lesions=2)
    monkeypatch.setattr("jaxsal.scan.calibration.measure_throughput", quick)


def test_it_tells_the_speed_and_the_forecast_for_a_scan(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--lesions", "2", "--voxels", "30", "--samples", "5"]
    assert main(["bench", str(model_folder), *ROI, *size]) == 0
    said = capsys.readouterr().out
    assert "sliding field, 24 × 28 × 20 voxels" in said
    speed = float(re.search(r"([\d.e+]+) voxel gradients per second", said)[1])
    seconds = float(
        re.search(r"2 lesions × 30 voxels × 5 samples = 300 gradients: (.*) s", said)[1]
    )
    assert seconds == pytest.approx(300 / speed, rel=0.05, abs=0.06)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--samples 0", ("--samples", "at least 1", "got 0")),
        ("--lesions many", ("--lesions", "must be a whole number", "'many'")),
        ("--memory -1", ("memory must be more than zero",)),
        ("--shape 0 8 8", ("shape", "at least 1 voxel", "[0, 8, 8]")),
        ("--shape 4 4 4", ("(4, 4, 4)", "no room for lesions")),
        ("--device abacus", ("no device 'abacus'",)),
        ("--precision float8", ("--precision", "float8")),
    ],
)
def test_mistakes_are_told(
    arguments: str, parts: tuple[str, ...], model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["bench", str(model_folder), *ROI, *arguments.split()])
    except SystemExit as stopped:  # the parser's own way
        status = stopped.code
    assert status == 2
    said = capsys.readouterr().err
    assert all(part in said for part in parts)
