"""The paper's scan on a device that need not be here: the time follows from counted programs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from bench import forecast
from bench.__main__ import main
from bench.case import TOY, make_model
from bench.ceilings import Ceilings
from bench.targets import TARGETS
from bench.visits import visits_of
from jaxsal.errors import InputError
from jaxsal.scan.calibration import synthetic_scan


def test_windows_and_pull_backs_are_those_that_reach_lesion_voxels():
    job = replace(TOY, field="sliding", roi=(16, 16, 16))
    visits = visits_of(job, make_model(job))
    voxels = np.argwhere(synthetic_scan(job.shape, 2, job.lesions, job.seed)[1])
    starts = (0, 8)  # of windows of 16 voxels in 24, which overlap by at least a quarter
    reached = [
        {(x, y, z) for x in starts for y in starts for z in starts if inside(voxel, (x, y, z), 16)}
        for voxel in voxels
    ]
    assert visits.window == (16, 16, 16)
    assert visits.pull_backs == sum(map(len, reached))
    assert visits.windows == len(set().union(*reached))


def inside(voxel: np.ndarray, start: tuple[int, ...], size: int) -> bool:
    return bool((voxel >= start).all() and (voxel < np.add(start, size)).all())


@pytest.fixture
def known_programs(monkeypatch):
    """Programs of known operations and bytes, on a device of known peaks."""
    figures = {
        "linearise": {"gflop": 2.0, "gbyte": 1.0},  # 0.2 s by operations, 0.25 s by bytes
        "pull_back": {"gflop": 30.0, "gbyte": 4.0},  # 3 s, 1 s
    }
    monkeypatch.setattr(forecast, "figures_of", lambda program, *_: figures[program.name])
    monkeypatch.setattr(forecast, "peaks_of", lambda *_: Ceilings("float32", 10e9, 4e9))
    return figures


def test_the_time_is_that_of_all_programs_at_the_assumed_share_of_the_peak(known_programs):
    row = forecast.forecast(TOY, TARGETS["cpu"], 0.5, 1e6)
    visits = visits_of(TOY, make_model(TOY))
    at_peak = 2 * (0.25 * visits.windows + 3 * visits.pull_backs / row["batch"])
    assert row["at_peak_s"] == pytest.approx(at_peak)
    assert row["host_s"] == row["gradients"] == 10  # a second each
    assert row["host_us_per_gradient"] == 1e6
    assert row["scan_s"] == pytest.approx(at_peak / 0.5 + 10)
    assert row["gflop"] == 30 / row["batch"]


def test_a_program_that_does_not_compile_ends_the_forecast(known_programs):
    known_programs["pull_back"]["failed"] = "no tile sizes"
    with pytest.raises(InputError, match="pull_back does not compile for cpu: no tile sizes"):
        forecast.forecast(TOY, TARGETS["cpu"], 0.5, None)


def test_the_host_s_time_is_that_of_the_newest_result():
    def result(finished: str, *cases: tuple[str, float]) -> dict[str, Any]:
        rows = [{"case": case, "host_us_per_gradient": us} for case, us in cases]
        return {"question": "host", "finished": finished, "rows": rows}

    planning = "planning 48 lesions of 93 voxels, "
    old = result("2026-01-01", (f"{planning}whole", 9.0), (f"{planning}sliding", 19.0))
    new = result("2026-02-01", ("64 lesions of 80 voxels, sliding", 1.0), (f"{planning}whole", 3.0))
    other = {"question": "peers", "finished": "2026-03-01", "rows": []}
    assert forecast.host_microseconds([old, new, other], "whole") == 3
    assert forecast.host_microseconds([old, new, other], "sliding") == 19
    assert forecast.host_microseconds([other], "whole") is None


def answer(folder: Any, *words: str) -> dict[str, Any]:
    assert main(["paper_scan", "--toy", "--out", str(folder), *words]) == 0
    (path,) = folder.glob("paper_scan-*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.thorough  # quick: its parts, above
def test_a_device_that_is_here_is_measured_too(tmp_path):
    found = answer(tmp_path, "--target", "cpu", "--fields", "whole")
    predicted, measured = found["rows"]
    assert (predicted["how"], measured["how"]) == ("predicted for cpu", "measured")
    assert predicted["gradients"] == measured["gradients"]
    assert found["machine"]["platform"] == jax.default_backend()


@pytest.mark.skipif(not TARGETS["h100"].is_installed, reason="needs JAX's CUDA plug-in")
def test_a_device_that_is_not_here_is_not_taken_for_measured(tmp_path):
    found = answer(tmp_path, "--target", "h100")
    assert [row["how"] for row in found["rows"]] == 2 * ["predicted for h100"]
    assert found["machine"]["device"] == "Compiled for h100, not run"
