"""The cohort's commands as a user runs them."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import ROI, TinyScan, save

from jaxsal.cli.main import main
from jaxsal.cohort.planning import plan

pytestmark = pytest.mark.filterwarnings("always")  # commands print warnings


@pytest.fixture
def bids(tmp_path: Path, scan: TinyScan) -> Path:
    """Two sessions with two runs each, in a folder with a space."""
    root = tmp_path / "my cohort"
    for session in ("01", "02"):
        folder = root / "sub-e1" / f"ses-{session}" / "anat"
        folder.mkdir(parents=True)
        for run in (1, 2):
            stem = f"sub-e1_ses-{session}_run-{run}"
            shutil.copy(scan.flair, folder / f"{stem}_FLAIR.nii.gz")
            shutil.copy(scan.t1, folder / f"{stem}_desc-preproc_T1w.nii.gz")
    return root


def table(path: Path, *rows: str) -> str:
    path.write_text("\n".join(["scan\tflair\tt1\treference", *rows]), encoding="utf-8")
    return str(path)


def test_a_cohort_that_is_ready_is_said_to_be(
    tmp_path: Path,
    scan: TinyScan,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [f"ü {i}\t{scan.flair}\t{scan.t1}\tn/a" for i in range(2)]
    cohort = table(tmp_path / "größe 1.tsv", rows[0])
    command = ["cohort", "check", str(model_folder), cohort, "--processes", "1"]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert captured.out == "1 scan: 1 ready\n"
    stages = [line.split("] ")[1] for line in captured.err.splitlines()]
    assert stages == ["finding scans", "checking", "checking: 100 %, 1/1 scans"]

    table(tmp_path / "größe 1.tsv", *rows)
    assert main([*command, "--headers-only"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "2 scans: 2 ready (1 with warnings)\n"
    assert f"ü 1: flair: warning: {scan.flair} is also the flair of ü 0\n" in captured.err


def test_a_run_warns_once_of_scans_of_mixed_axes(
    tmp_path: Path,
    scan: TinyScan,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    turned = [tmp_path / path.name for path in scan.images]
    for path, other in zip(scan.images, turned, strict=True):
        nib.save(nib.as_closest_canonical(nib.load(path)), other)
    rows = [f"{i}\t{flair}\t{t1}\tn/a" for i, (flair, t1) in enumerate([scan.images, turned])]
    cohort = table(tmp_path / "scans.tsv", *rows)
    # The table is no folder, so that nothing is computed.
    assert main(["cohort", "run", str(model_folder), cohort, "--out", cohort]) == 2
    assert capsys.readouterr().err.count("scans have different axes") == 1


@pytest.mark.parametrize("quick", [True, False])
def test_a_plan_says_what_it_takes_itself(
    tmp_path: Path,
    scan: TinyScan,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    quick: bool,
) -> None:
    monkeypatch.setattr(plan, "Effort", partial(plan.Effort, 1, least_seconds=0.0))
    cohort = table(tmp_path / "scans.tsv", f"a\t{scan.flair}\t{scan.t1}\tn/a")
    line = ["cohort", "plan", str(model_folder), cohort, "--samples", "1", "--roi", str(ROI[0])]
    assert main([*line, *["--quick"][:quick]]) == 0
    captured = capsys.readouterr()
    device, *texts = captured.err.splitlines()
    assert device.startswith("computing on ")
    lines = [text.split("] ")[1] for text in texts if "compiling for" not in text]
    first, tried, said, *_ = lines
    assert (first, tried) == ("reading", "trying a")
    assert said.startswith("planning takes about ")
    assert ("; with --quick about " in said) is not quick
    assert captured.out.startswith("1 scan: ")


def test_all_problems_are_listed_and_fail(
    tmp_path: Path,
    scan: TinyScan,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "cut.nii.gz").write_bytes(scan.t1.read_bytes()[:999])
    save(tmp_path / "short.nii.gz", np.ones((5, 5, 5), np.uint8))
    cohort = table(
        tmp_path / "scans.tsv",
        f"a\tnone.nii\tcut.nii.gz\t{scan.flair}",
        f"b\t{scan.flair}\t{scan.t1}\tshort.nii.gz",
        f"c\t{scan.flair}\t{scan.t1}\t",
    )
    command = ["cohort", "check", str(model_folder), cohort, "--processes", "1"]
    assert main(command) == 1
    captured = capsys.readouterr()
    assert captured.out == "3 scans: 1 ready (1 with warnings), 2 with problems\n"
    lines = [line for line in captured.err.splitlines() if line[0] != "["]
    assert [line for line in lines if "warning" not in line] == [
        f"a: flair: {tmp_path}/none.nii does not exist: check the name.",
        next(line for line in lines if line.startswith(f"a: t1: {tmp_path}/cut.nii.gz is trunc")),
        next(
            line for line in lines if line.startswith(f"a: reference: {scan.flair} must be whole")
        ),
        next(line for line in lines if line.startswith(f"b: reference: {tmp_path}/short.nii.gz")),
    ]
    assert main([*command, "--headers-only"]) == 1
    assert "cut.nii.gz" not in capsys.readouterr().err


def test_images_of_a_bids_folder_are_selected(
    bids: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bids", reason="needs pybids")
    command = ["cohort", "check", str(model_folder), str(bids), "--processes", "1"]
    select = ["--select", "t1=suffix:T1w,desc:preproc", "--select", "flair=desc:"]
    assert main([*command, *select]) == 0
    assert capsys.readouterr().out == "4 scans: 4 ready\n"
    next(bids.glob("*/ses-02/anat/*run-2*T1w*")).unlink()
    assert main([*command, *select]) == 1
    captured = capsys.readouterr()
    assert captured.out == "4 scans: 3 ready, 1 with problems\n"
    assert "sub-e1_ses-02_run-2: t1: " in captured.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{model} {folder}/none", "jaxsal cohort check: error: {folder}/none does not exist"),
        ("{folder} {table}", "is not a model directory"),
        ("{model} {broken}", "broken.tsv has 2 problems:\n  line 2: "),
        ("{model} {table} --processes 0", "processes must be at least 1, got 0"),
        ("{model} {table} --select t1=desc:x", "is a table"),
        ("{model} {table} --select t1=desc:x --select t1=run:1", "t1=... is given twice"),
        ("{model} {table} --select t1", "must be like t1=suffix:T1w,desc:preproc; got 't1'"),
        ("{model} {table} --select =desc:x", "must be like"),
        ("{model} {table} --select t1=desc", "must be like"),
        ("{model}", "COHORT"),
    ],
)
def test_mistakes_are_told_and_fail(
    options: str,
    said: str,
    tmp_path: Path,
    scan: TinyScan,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {
        "model": model_folder,
        "folder": tmp_path,
        "table": table(tmp_path / "scans.tsv", f"a\t{scan.flair}\t{scan.t1}"),
        "broken": table(tmp_path / "broken.tsv", "a\tf\t", "b\tf\t"),
    }
    command = ["cohort", "check", *[part.format(**places) for part in options.split()]]
    try:
        status = main(command)
    except SystemExit as stop:  # argparse's own
        status = stop.code
    assert status == 2
    captured = capsys.readouterr()
    assert said.format(**places) in captured.err
    assert captured.out == ""
