"""``jaxsal evaluate`` as a user runs it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import MISSED, ROI, SHAPE, TinyScan, contents, load, read_table, save
from monai.metrics import DiceMetric
from torch import from_numpy

from jaxsal.checkpoints import load_model, store_threshold
from jaxsal.cli.evaluation_tables import show_cohort
from jaxsal.cli.main import main
from jaxsal.errors import InputError
from jaxsal.evaluation.intervals import IntervalEstimate

OPTIONS = ["--roi", str(ROI[0])]


@pytest.fixture(scope="module")
def predicted(scan: TinyScan, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the model finds in the tiny scan: three lesions."""
    out = tmp_path_factory.mktemp("predicted") / "out"
    images = ["--image", str(scan.flair), "--image", str(scan.t1)]
    assert main(["predict", str(model_folder), *images, *OPTIONS, "--out", str(out)]) == 0
    return out


@pytest.fixture
def reference(predicted: Path, tmp_path: Path) -> Path:
    """One of the three lesions, and one that is missed."""
    truth = (load(predicted / "instances.nii.gz") == 2).astype(np.uint8)
    truth[MISSED] = 1
    return save(tmp_path / "truth.nii.gz", truth)


@pytest.fixture
def model(model_folder: Path, tmp_path: Path) -> Path:
    """A model directory that may be changed."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def table(folder: Path, *rows: tuple[object, ...]) -> str:
    lines = ["scan\tflair\tt1\treference", *("\t".join(map(str, row)) for row in rows)]
    (folder / "scans.tsv").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "scans.tsv")


def test_figures_of_scans_and_cohort(
    tmp_path: Path,
    scan: TinyScan,
    model_folder: Path,
    predicted: Path,
    reference: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = save(tmp_path / "empty.nii.gz", np.zeros(SHAPE, np.uint8))
    cohort = table(
        tmp_path,
        ("ä [b]", scan.flair, scan.t1, reference),
        ("bad", scan.flair, tmp_path / "none.nii", reference),
        ("none", scan.flair, scan.t1, "n/a"),
        ("empty", scan.flair, scan.t1, empty),
    )
    out = tmp_path / "figures.tsv"
    assert main(["evaluate", str(model_folder), cohort, *OPTIONS, "--out", str(out)]) == 3
    captured = capsys.readouterr()
    assert "none: left out, it has no reference" in captured.err
    assert f"bad FAILED: {tmp_path}/none.nii does not exist" in captured.err

    first, bad, last = read_table(out)
    found, truth = load(predicted / "instances.nii.gz") > 0, load(reference)
    both = (from_numpy(mask[None, None].astype(np.float32)) for mask in (found, truth))
    assert float(first["dice"]) == pytest.approx(DiceMetric()(*both).item(), abs=1e-5)
    assert [first[kind] for kind in ("tp", "fp", "fn")] == ["1", "2", "1"]
    rates = [float(first[rate]) for rate in ("tpr", "fdr", "fnr", "f1")]
    np.testing.assert_allclose(rates, [1 / 2, 2 / 3, 1 / 2, 2 / 5], rtol=1e-5)
    voxel = abs(np.linalg.det(nib.load(scan.flair).affine))
    assert float(first["reference_mm3"]) == pytest.approx(truth.sum() * voxel, rel=1e-4)
    assert float(first["predicted_mm3"]) == pytest.approx(found.sum() * voxel, rel=1e-4)
    assert (first["scan"], bad["scan"], bad["dice"]) == ("ä [b]", "bad", "")
    assert "none.nii does not exist" in bad["reason"]
    assert (last["dice"], last["fp"], last["tpr"], last["fdr"]) == ("0", "3", "", "1")

    figures = {
        (row["figure"], row["over"]): row for row in read_table(tmp_path / "figures-cohort.tsv")
    }
    assert float(figures["fdr", "scans"]["value"]) == pytest.approx((2 / 3 + 1) / 2, rel=1e-5)
    assert float(figures["fdr", "lesions"]["value"]) == pytest.approx(5 / 6, rel=1e-5)
    assert {row["low"] for row in figures.values()} == {""}
    assert "ä [b]" in captured.out
    assert "2 of 4 scans, threshold 0.7" in captured.out
    assert "TPR 0.500 of 1 scan 0.500" in " ".join(captured.out.split())
    assert "no confidence intervals: they need 3 scans or more" in captured.out


def test_the_threshold_is_tuned_and_stored(
    tmp_path: Path,
    scan: TinyScan,
    model: Path,
    predicted: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    probability = load(predicted / "prediction.nii.gz")
    wanted = 0.68
    truth = save(tmp_path / "truth.nii.gz", (probability >= wanted).astype(np.uint8))
    cohort = table(tmp_path, *((name, scan.flair, scan.t1, truth) for name in "abc"))
    command = ["evaluate", str(model), cohort, *OPTIONS, "--out", str(tmp_path / "figures.tsv")]
    before = contents(model)
    assert main([*command, "--tune-threshold", "0.64:0.72:0.02", "--minimum-volume", "0"]) == 0
    said = capsys.readouterr().out
    assert "nDSC 1.000 [1.000, 1.000]" in " ".join(said.split())
    assert "chosen on these scans" in said
    assert "end of the range" not in said
    assert contents(model) == before
    curve = read_table(tmp_path / "figures-thresholds.tsv")
    assert [row["threshold"] for row in curve] == ["0.64", "0.66", "0.68", "0.7", "0.72"]
    assert [row["threshold"] for row in curve if row["ndsc"] == "1"] == ["0.68"]
    assert {row["threshold"] for row in read_table(tmp_path / "figures.tsv")} == {"0.68"}

    assert main([*command, "--tune-threshold", "0.68:0.7:0.02", "--store", "--overwrite"]) == 0
    said = capsys.readouterr().out
    assert "now has the threshold 0.68" in said
    assert "end of the range" in said
    after = contents(model)
    record, changed = (json.loads(files.pop("model.json")) for files in (before, after))
    assert after == before
    assert changed == {**record, "threshold": 0.68}
    assert load_model(model).threshold == 0.68


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{model} {none}", "no scan has one"),
        ("{model} {table} --store", "give both"),
        ("{model} {table} --threshold 0.3 --tune-threshold 0.1:0.5", "not both"),
        ("{model} {table} --tune-threshold 0.5:0.1", "from low to high"),
        ("{model} {table} --tune-threshold 0:0.5", "more than 0 and less than 1"),
        ("{model} {table} --tune-threshold 0.1:nan", "more than 0 and less than 1"),
        ("{model} {table} --tune-threshold 0.1:0.5:1e-9", "too many"),
        ("{model} {table} --tune-threshold 0.1", "must be like 0.1:0.5"),
        ("{model} {table} --tune-threshold 0.1:0.5:0.1:2", "must be like 0.1:0.5"),
        ("{model} {table} --out {folder}/none/a.tsv", "there is no folder {folder}/none"),
        ("{model} {table} --out {table} --overwrite", "scans.tsv lists the scans"),
        ("{model} {table} --out {folder}/old.tsv", "old.tsv exists"),
        ("{model} {table} --out {folder}/new.csv", "must end in .tsv"),
    ],
)
def test_mistakes_are_told_before_anything_is_computed(
    options: str,
    said: str,
    tmp_path: Path,
    scan: TinyScan,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "old.tsv").touch()
    places = {
        "model": model_folder,
        "folder": tmp_path,
        "table": table(tmp_path, ("a", scan.flair, scan.t1, scan.flair)),
        "none": table(tmp_path / "n", ("a", scan.flair, scan.t1, "")),
    }
    try:
        status = main(["evaluate", *[part.format(**places) for part in options.split()]])
    except SystemExit as stop:  # argparse's own
        status = stop.code
    assert status == 2
    assert said.format(**places) in capsys.readouterr().err


def test_a_cohort_of_bad_scans_is_no_success(
    tmp_path: Path, scan: TinyScan, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = table(tmp_path, ("a", scan.flair, tmp_path / "none.nii", scan.flair))
    before = contents(model)
    command = ["evaluate", str(model), cohort, *OPTIONS, "--tune-threshold", "0.1:0.5", "--store"]
    assert main(command) == 1
    assert capsys.readouterr().out == "no scan could be evaluated\n"
    assert contents(model) == before


def test_a_threshold_is_stored_only_where_it_belongs(model: Path, tmp_path: Path) -> None:
    before = contents(model)
    for threshold in (0, 1, math.nan):
        with pytest.raises(InputError, match="more than 0 and less than 1"):
            store_threshold(model, threshold)
    assert contents(model) == before
    with pytest.raises(InputError, match="not a model directory"):
        store_threshold(tmp_path, 0.5)
    next(path for path in (model / "parameters").rglob("*") if path.is_file()).write_bytes(b"")
    damaged = contents(model)
    with pytest.raises(InputError, match="damaged"):
        store_threshold(model, 0.5)
    assert contents(model) == damaged


def test_figures_without_an_interval_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    means = {"dice": IntervalEstimate(0.5, (0.25, 1.0), 4), "tpr": IntervalEstimate(0.5, None, 2)}
    means |= {"fdr": IntervalEstimate(math.nan, None, 0)}
    show_cohort(means, {"tpr": IntervalEstimate(0.25, None, 4)})
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines == [
        "Dice 0.500 [0.250, 1.000]",
        "TPR 0.500 of 2 scans 0.250 [not defined]",
        "FDR – of 0 scans",
    ]
