"""Every method of jaxsal's explains a scan, by command: maps, pictures, table and forecast."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cohorts import make_cohort, results, write_manifest
from helpers.thorough import thorough_except
from helpers.tiny import CHANNELS, ROI, TinyScan, contents, load, read_table

from jaxsal.cli.main import main
from jaxsal.registry import METHODS as REGISTRY
from jaxsal.scan.methods import most_together
from jaxsal.settings import ExplainSettings

LAYER = ["--layer", "encoder.0"]
STEPS = ["--fewest-steps", "2", "--most-steps", "2", "--completeness", "9"]
NOISY = ["--samples", "2", "--noise", "0.1"]
METHODS: dict[str, tuple[list[str], str, tuple[str, ...]]] = {
    # options, what files are called, and statistics
    "gradient": ([], "gradient-max", ("max", "min", "mean_inside", "positive_share")),
    "vargrad": (NOISY, "vargrad-max", ("max", "mean_inside", "inside_share")),
    "integrated-gradients": (
        STEPS,
        "integrated-gradients",
        ("max", "min", "mean_inside", "positive_share"),
    ),
    "hirescam": (LAYER, "hirescam", ("max", "mean_inside", "inside_share")),
    "layercam": (LAYER, "layercam", ("max", "mean_inside", "inside_share")),
}
OF_LAYERS = ("hirescam", "layercam")


def maps_of(method: str, stem: str) -> list[str]:
    name = METHODS[method][1]
    if method in OF_LAYERS:
        return [f"{stem}_{name}"]
    return [f"{stem}_{channel}_{name}" for channel in CHANNELS]


# Quick: each method, and each field twice.
@pytest.mark.parametrize(
    ("method", "field"),
    thorough_except(
        product(METHODS, ("sliding", "whole")),
        ("hirescam", "whole"),
        ("layercam", "sliding"),
        ("integrated-gradients", "whole"),
    ),
)
def test_a_lesion_is_explained(
    method: str,
    field: str,
    tmp_path: Path,
    scan: TinyScan,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, (options, _, statistics) = tmp_path / "out", METHODS[method]
    command = ["explain", str(model_folder), "--image", *map(str, scan.images), "--out", str(out)]
    command += ["--roi", str(ROI[0]), "--labels", "1", "--method", method, "--field", field]
    assert main([*command, *options]) == 0
    files = maps_of(method, "lesion-0001")
    expected = {f"maps/{name}.nii.gz" for name in files} | {"pictures/lesion-0001.png"}
    found = set(contents(out))
    assert {name for name in found if name.startswith(("maps/", "pictures/"))} == expected
    (row,) = read_table(out / "instances.tsv")
    for name in files:
        values = load(out / "maps" / f"{name}.nii.gz")
        column = name.removeprefix("lesion-0001_")
        assert {f"{column}_{key}" for key in statistics} <= set(row)
        assert float(row[f"{column}_max"]) == pytest.approx(values.max(), rel=1e-4)
        assert values.any()
        assert "min" in statistics or values.min() >= 0
    said = " ".join(capsys.readouterr().err.split())
    count = {
        "gradient": "(1 image",
        "vargrad": "(2 noisy images",
        "integrated-gradients": "gradients (2 steps",
    }
    assert count.get(method, "1 lesion of") in said
    if method == "integrated-gradients":
        assert (row[f"{method}_steps"], row[f"{method}_complete"]) == ("2", "1")
        assert 0 <= float(row[f"{method}_completeness"]) < 9


@pytest.mark.thorough
def test_a_cohort_takes_them_together(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = make_cohort(tmp_path, 1)
    table = write_manifest(tmp_path / "scans.tsv", [entry])
    out = tmp_path / "out"
    command = ["cohort", "run", str(model_folder), str(table), "--out", str(out)]
    command += ["--roi", str(ROI[0]), "--aggregate", "mean", *NOISY, *STEPS, *LAYER]
    command += ["--output", "table", "--method", *METHODS]
    assert main(command) == 0
    rows: list[dict[str, Any]] = results(out)["lesions.tsv"]
    columns = {
        f"{channel}_{method}-mean_max" for channel in CHANNELS for method in ("gradient", "vargrad")
    }
    columns |= {f"{method}_max" for method in OF_LAYERS} | {"integrated-gradients_completeness"}
    assert columns <= set(rows[0])
    assert "samples" not in rows[0]  # no map is a mean over them
    assert all(np.isfinite(float(row[column])) for row in rows for column in columns)


@pytest.mark.parametrize(
    ("method", "size"), [("gradient", 30), ("integrated-gradients", 0), ("hirescam", None)]
)
def test_portions_are_as_large_as_sharing_pays(method: str, size: int | None) -> None:
    """Of lesions whose images differ each is recorded alone; heat maps share all windows."""
    given = {"layer": "encoder.0"} if method in OF_LAYERS else {}
    assert most_together(ExplainSettings(REGISTRY[method].make(**given)), 30) == size
