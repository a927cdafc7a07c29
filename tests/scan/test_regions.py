"""How much of each map lies in each region of a parcellation, and in which region lesions lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import ROI, SHAPE, TinyScan, as_dense, contents, load, read_table, save

import jaxsal.scan.explain as explaining
from jaxsal.cli.main import main
from jaxsal.inputs.parcellation import NOWHERE, Parcellation
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.scan.region_table import are_regions, region_rows

LEFT = 11  # half along X: the label 3 below, 5 from here on, of which the last slice is in none


def regions() -> np.ndarray:
    found = np.full(SHAPE, 3, np.int16)
    found[LEFT:], found[-1] = 5, 0
    return found


@pytest.fixture(scope="module")
def parcellation(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options."""
    folder = tmp_path_factory.mktemp("regions")
    (folder / "names.tsv").write_text("index\tname\n3\tleft\n5\tright\n")
    path = save(folder / "regions.nii.gz", regions())
    return ["--parcellation", str(path), "--region-names", str(folder / "names.tsv")]


@pytest.fixture
def arguments(scan: TinyScan, model_folder: Path) -> list[str]:
    return [
        *("explain", str(model_folder), "--image", *map(str, scan.images), "--roi", str(ROI[0])),
        *("--samples", "1", "--memory", "1"),
    ]


def run(*words: object) -> int:
    return main([*map(str, words)])


def test_shares_and_peaks_of_a_map_are_those_worked_out_by_hand() -> None:
    labels = np.array([0, 4, 4, 4, 2, 2, 9])[:, None, None]
    values = np.array([[3, -2, -1, 4, 0], [0, 0, 0, -5, -5]], np.float32).T[:, None, None]
    crop = Crop(values, (1, 0, 0), 1)  # on 4, 4, 4, 2, 2: all of 4 and all of 2
    shown = Appearance.of_channels("toy", ("flair", "t1"))
    found = region_rows("toy-max", shown, crop, Parcellation(labels, labels, {4: "Pons"}))
    first = {"method": "toy-max", "channel": "flair_toy"}
    assert found == [
        {**first, "index": 2, "region": "2", "mass_share": 0.4, "peak": 4.0},
        {**first, "index": 4, "region": "Pons", "mass_share": 0.6, "peak": 3.0},
        {"method": "toy-max", "channel": "t1_toy", "index": 2, "region": "2"}
        | {"mass_share": 1.0, "peak": -5.0},
    ]


def test_a_region_that_goes_on_outside_of_the_crop_is_0_there() -> None:
    labels = np.array([0, 4, 4])[:, None, None]
    crop = Crop(np.full((2, 1, 1, 1), -1, np.float32), (0, 0, 0), 1)
    shown = Appearance.of_channels("toy", ("t1",))
    found = region_rows("toy", shown, crop, Parcellation(labels, labels, {}))
    assert [(row["region"], row["mass_share"], row["peak"]) for row in found] == [
        (NOWHERE, 0.5, -1.0),
        ("4", 0.5, 0.0),
    ]


def test_an_explanation_says_in_which_regions_maps_and_lesions_lie(
    arguments: list[str], parcellation: list[str], scan: TinyScan, tmp_path: Path
) -> None:
    assert run(*arguments, *parcellation, "--out", tmp_path) == 0
    lesions, found = read_table(tmp_path / "instances.tsv"), read_table(tmp_path / "regions.tsv")
    labels, instances = regions(), load(tmp_path / "instances.nii.gz")
    names = {0: NOWHERE, 3: "left", 5: "right"}
    compared = 0
    for lesion in lesions:
        voxels = labels[instances == int(lesion["label"])]
        assert lesion["region"] == names[np.bincount(voxels).argmax()]
        for channel in ("flair", "t1"):
            name = f"lesion-{int(lesion['label']):04d}_{channel}_smoothgrad-max.nii.gz"
            values = as_dense(tmp_path / "maps" / name, scan.affine).astype(np.float64)
            own = {
                row["region"]: row
                for row in found
                if (row["label"], row["channel"]) == (lesion["label"], channel)
            }
            for label, region in names.items():
                inside = values[labels == label]
                if not inside.any():
                    assert region not in own
                    continue
                share = np.abs(inside).sum() / np.abs(values).sum()
                row = own[region]
                # six digits are written
                assert float(row["mass_share"]) == pytest.approx(share, rel=1e-5)
                assert float(row["peak"]) == pytest.approx(inside.max(), rel=1e-5)
                assert (row["kind"], row["method"]) == (lesion["kind"], "smoothgrad-max")
                compared += 1
    assert compared == len(found) > 2 * len(lesions) > 0
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "that most of its voxels lie in" in page
    assert ">left<" in page
    inputs = json.loads((tmp_path / "run.json").read_bytes())["inputs"]
    assert {"parcellation", "region_names"} < set(inputs)


def test_without_a_parcellation_there_is_neither_table_nor_column(
    arguments: list[str], tmp_path: Path
) -> None:
    assert run(*arguments, "--labels", "1", "--no-pictures", "--out", tmp_path) == 0
    assert not (tmp_path / "regions.tsv").exists()
    assert "region" not in read_table(tmp_path / "instances.tsv")[0]


@pytest.mark.thorough
def test_an_interrupted_explanation_goes_on_with_the_same_parcellation_only(
    arguments: list[str], parcellation: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    arguments += ["--no-pictures", *parcellation]
    assert run(*arguments, "--out", whole) == 0
    written: list[Any] = []
    write = explaining.write_lesion

    def write_one(*lesion: Any) -> Any:
        if written:
            raise KeyboardInterrupt
        written.append(write(*lesion))
        return written[-1]

    with monkeypatch.context() as patch:
        patch.setattr(explaining, "write_lesion", write_one)
        assert run(*arguments, "--out", out) == 130
    other = save(tmp_path / "other.nii.gz", regions()[::-1].copy())
    assert run(*arguments, "--parcellation", other, "--out", out) == 2
    calls: list[Any] = []
    monkeypatch.setattr(explaining, "write_lesion", lambda *a: calls.append(a) or write(*a))
    assert run(*arguments, "--out", out) == 0
    lesions = len(read_table(out / "instances.tsv"))
    assert 0 < len(calls) < lesions
    assert {k: v for k, v in contents(out).items() if k != "run.json"} == {
        k: v for k, v in contents(whole).items() if k != "run.json"
    }


@pytest.mark.thorough
def test_a_class_level_map_has_regions_and_its_lesions_have_none(
    arguments: list[str], parcellation: list[str], tmp_path: Path
) -> None:
    given = ["--level", "class", *parcellation, "--out", tmp_path]
    assert run(*arguments, *given) == 0
    assert [row["region"] for row in read_table(tmp_path / "instances.tsv")] == [""]
    found = read_table(tmp_path / "regions.tsv")
    assert {(row["label"], row["kind"]) for row in found} == {("0", "class")}
    for channel in ("flair", "t1"):
        shares = [float(row["mass_share"]) for row in found if row["channel"] == channel]
        assert sum(shares) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--region-names", "names.tsv"], "give a parcellation, too"),
        (["--parcellation", "none.nii.gz"], "none.nii.gz does not exist"),
        (["--parcellation", "far.nii.gz"], "0 % of the brain lies in its field of view"),
    ],
)
def test_bad_parcellations_are_refused_and_nothing_is_written(
    given: list[str],
    message: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    affine = np.eye(4)
    affine[:3, 3] = 500
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), affine), "far.nii.gz")
    assert run(*arguments, *given, "--out", "out") == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "kept", [None, {}, [1], [{"method": "m"}], [{"method": "m", "channel": "c", "region": 1}]]
)
def test_rows_of_regions_are_told_from_anything_else(kept: Any) -> None:
    good = {"method": "m", "channel": "c", "region": "r", "index": 1, "mass_share": 1.0, "peak": 2}
    assert are_regions([good])
    assert not are_regions(kept)
