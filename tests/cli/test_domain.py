"""Lesions of a network with four classes: by a threshold, or where lesion is the most probable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny import ROI, TinyScan, load, random_model, read_table, save
from scipy import ndimage

import jaxsal
from jaxsal.checkpoints import save_model
from jaxsal.cli.main import main
from jaxsal.model import Model
from jaxsal.preprocessing import Outputs

TARGET = 3
ARGMAX = ["--domain", "argmax", "--target", str(TARGET)]
HEAT = ["--method", "gradcam", "--layer", "decoder.0.joined"]


pytestmark = pytest.mark.filterwarnings("always")  # commands print warnings


@pytest.fixture(scope="module")
def model() -> Model:
    """A network that is nowhere sure: no probability reaches the threshold of 0.5."""
    model, top = random_model(4), "decoder.0.upsample.conv"  # which gives the logits
    scales = {name: 0.1 if name.startswith(top) else 1 for name in model.parameters}
    return replace(model, parameters={k: v * scales[k] for k, v in model.parameters.items()})


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "four"
    save_model(model, folder)
    return folder


@pytest.fixture(scope="module")
def segmented(model: Model, scan: TinyScan) -> np.ndarray:
    """Where PyTorch's argmax of the blended logits is the lesion class."""
    logits = np.array(jaxsal.sliding_window(model, roi=ROI)(scan.image))
    assert torch.from_numpy(logits).softmax(-1)[..., TARGET].max() < 0.5
    mask: np.ndarray = torch.from_numpy(logits).argmax(-1).numpy() == TARGET
    assert 0 < mask.sum() < mask.size / 2
    return mask


def arguments(scan: TinyScan, folder: Path, out: Path) -> list[str]:
    images = ["--image", str(scan.flair), "--image", str(scan.t1)]
    return [str(folder), *images, "--roi", str(ROI[0]), "--out", str(out)]


def table(scan: TinyScan, reference: Path, folder: Path) -> str:
    rows = ("scan\tflair\tt1\treference", f"a\t{scan.flair}\t{scan.t1}\t{reference}")
    (folder / "scans.tsv").write_text("\n".join(rows), encoding="utf-8")
    return str(folder / "scans.tsv")


def test_lesions_are_the_components_of_the_argmax(
    tmp_path: Path, scan: TinyScan, folder: Path, segmented: np.ndarray
) -> None:
    out = tmp_path / "out"
    options = [*ARGMAX, "--minimum-volume", "0"]
    assert main(["predict", *arguments(scan, folder, out), *options]) == 0
    expected, count = ndimage.label(segmented, ndimage.generate_binary_structure(3, 2))
    np.testing.assert_array_equal(load(out / "instances.nii.gz"), expected)
    assert len(read_table(out / "instances.tsv")) == count > 0
    told = json.loads((out / "run.json").read_text())["settings"]["prediction"]
    assert (told["domain"], told["threshold"]) == ("argmax", None)


def test_the_class_level_is_explained_over_the_argmax(
    tmp_path: Path, scan: TinyScan, folder: Path, segmented: np.ndarray
) -> None:
    out = tmp_path / "out"
    command = ["explain", *arguments(scan, folder, out), *HEAT, "--level", "class", "--no-pictures"]
    assert main([*command, *ARGMAX]) == 0
    (row,) = read_table(out / "instances.tsv")
    assert int(row["voxels"]) == segmented.sum()


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_it_is_told_that_no_voxel_reaches_the_threshold(
    command: str, tmp_path: Path, scan: TinyScan, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [] if command == "predict" else [*HEAT, "--level", "class", "--no-pictures"]
    out = tmp_path / "out"
    assert main([command, *arguments(scan, folder, out), *own, "--target", str(TARGET)]) == 0
    said = capsys.readouterr().err
    assert "no voxel is segmented: the highest lesion probability is 0." in said
    assert "the most probable of 4 classes" in said
    assert not load(out / "instances.nii.gz").any()


def test_evaluate_takes_the_argmax(
    tmp_path: Path,
    scan: TinyScan,
    folder: Path,
    segmented: np.ndarray,
    capsys: pytest.CaptureFixture[str],
) -> None:
    truth = save(tmp_path / "truth.nii.gz", segmented.astype(np.uint8))
    out = tmp_path / "figures.tsv"
    command = ["evaluate", str(folder), table(scan, truth, tmp_path), "--roi", str(ROI[0])]
    command += ["--minimum-volume", "0", "--out", str(out)]
    assert main([*command, *ARGMAX]) == 0
    assert "1 of 1 scan, domain argmax" in capsys.readouterr().out
    (row,) = read_table(out)
    assert (row["dice"], row["fp"], row["fn"], row["threshold"]) == ("1", "0", "0", "")
    assert main([*command, "--overwrite", "--target", str(TARGET)]) == 0
    (row,) = read_table(out)
    assert (row["dice"], row["tp"], row["threshold"]) == ("0", "0", "0.5")


def test_a_cohort_takes_the_argmax(
    tmp_path: Path, scan: TinyScan, folder: Path, segmented: np.ndarray
) -> None:
    truth = save(tmp_path / "truth.nii.gz", np.zeros(segmented.shape, np.uint8))
    command = ["cohort", "run", str(folder), table(scan, truth, tmp_path), "--roi", str(ROI[0])]
    out = tmp_path / "out"
    assert main([*command, *ARGMAX, *HEAT, "--output", "table", "--out", str(out)]) == 0
    rows = read_table(out / "lesions.tsv")
    (labels,) = (load(path) for path in out.rglob("*_dseg.nii.gz"))
    assert len(rows) == labels.max() > 0
    assert not labels[~segmented].any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("predict {scan} --domain argmax --threshold 0.3", "leave out the threshold"),
        ("evaluate {table} --domain argmax --tune-threshold 0.1:0.5", "has no threshold"),
        ("predict {regions} --domain argmax --target 0", "4 outputs with a sigmoid each"),
    ],
)
def test_what_does_not_go_with_the_argmax_is_refused(
    options: str,
    said: str,
    tmp_path: Path,
    scan: TinyScan,
    model: Model,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    regions = tmp_path / "regions"
    save_model(replace(model, outputs=Outputs(("a", "b", "c", "d"), "sigmoid")), regions)
    out = tmp_path / "out"
    places = {
        "scan": " ".join(arguments(scan, folder, out)),
        "regions": " ".join(arguments(scan, regions, out)),
        "table": f"{folder} {table(scan, scan.flair, tmp_path)}",
    }
    assert main(options.format(**places).split()) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()
