"""`jaxsal.explain`: what the command writes, in one call and in memory."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers.tiny import CHANNELS, MISSED, ROI, SHAPE, TinyScan, contents, load, read_table, save
from matplotlib.figure import Figure

import jaxsal
from jaxsal.cli.main import main
from jaxsal.errors import InputError, OutputError
from jaxsal.model import Model
from jaxsal.settings import UncertaintySettings

OPTIONS: dict[str, Any] = {"roi": ROI, "samples": 2, "seed": 5}
NAMES = tuple(f"lesion-{{:04d}}_{channel}_smoothgrad-max" for channel in CHANNELS)


@pytest.fixture(scope="module")
def reference(scan: TinyScan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask of one true lesion, which is missed."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[MISSED] = 1
    return save(tmp_path_factory.mktemp("reference") / "mask.nii.gz", mask, scan.affine)


@pytest.fixture(scope="module")
def regions(scan: TinyScan, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A parcellation into two halves, of which one has a name."""
    folder = tmp_path_factory.mktemp("regions")
    halves = np.ones(SHAPE, np.uint8)
    halves[SHAPE[0] // 2 :] = 2
    names = folder / "names.tsv"
    names.write_text("index\tname\n1\tright\n2\tleft\n", encoding="utf-8")
    path = save(folder / "halves.nii.gz", halves, scan.affine)
    return {"parcellation": path, "region_names": names}


@pytest.fixture(scope="module")
def result(
    tiny_model: Model, scan: TinyScan, reference: Path, regions: dict[str, Path]
) -> jaxsal.ExplainedScan:
    return jaxsal.explain(tiny_model, scan.images, reference=reference, **regions, **OPTIONS)


@pytest.fixture(scope="module")
def written(
    model_folder: Path,
    scan: TinyScan,
    reference: Path,
    regions: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What the command writes."""
    out = tmp_path_factory.mktemp("command") / "out"
    images = ["--image", *map(str, scan.images), "--reference", str(reference)]
    images += ["--parcellation", str(regions["parcellation"])]
    images += ["--region-names", str(regions["region_names"])]
    size = ["--roi", *map(str, ROI), "--samples", "2", "--seed", "5"]
    assert main(["explain", str(model_folder), *images, "--out", str(out), *size]) == 0
    return out


def _close(found: np.ndarray, expected: np.ndarray) -> bool:
    """But for rounding: a program compiled in another process, or with other options, differs."""
    return bool(np.abs(found - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1e-30))


def test_what_it_saves_is_what_the_command_writes(result, written, tmp_path):
    assert result.save(tmp_path / "out") == tmp_path / "out"
    ours, theirs = contents(tmp_path / "out"), contents(written)
    assert ours.keys() == theirs.keys()
    assert ours["instances.nii.gz"] == theirs["instances.nii.gz"]
    volumes = [name for name in ours if name.endswith(".nii.gz")]
    assert len(volumes) > 2
    for name in volumes:
        found, expected = nib.load(tmp_path / "out" / name), nib.load(written / name)
        np.testing.assert_array_equal(found.affine, expected.affine)
        assert _close(found.get_fdata(), expected.get_fdata()), name


@pytest.mark.thorough
def test_saving_twice_needs_permission(result, tmp_path):
    result.save(tmp_path)
    with pytest.raises(InputError, match="overwrite"):
        result.save(tmp_path)
    result.save(tmp_path, overwrite=True)


def test_the_table_is_that_of_the_command(result, written):
    with (written / "instances.tsv").open(newline="") as file:
        theirs = {row["label"]: row for row in csv.DictReader(file, delimiter="\t")}
    table = result.table
    assert table.num_rows == len(theirs) > 1
    for row in table.to_pylist():
        for name, value in row.items():
            written_value = theirs[str(row["label"])][name]
            same = str(value) == written_value
            assert same or float(written_value) == pytest.approx(value, rel=1e-4), name


def test_regions_are_those_of_the_command(result, written):
    theirs = read_table(written / "regions.tsv")
    assert {row["region"] for row in theirs} == {"right", "left"}
    assert result.regions.column_names == list(theirs[0])
    theirs.sort(key=lambda row: [int(row["label"]), row["channel"], int(row["index"])])
    ours = result.regions.sort_by([(name, "ascending") for name in ("label", "channel", "index")])
    for mine, other in zip(ours.to_pylist(), theirs, strict=True):
        for name in ("label", "kind", "method", "channel", "index", "region"):
            assert str(mine[name]) == other[name]
        assert float(other["mass_share"]) == pytest.approx(mine["mass_share"], rel=1e-4)


@pytest.mark.thorough
def test_a_parcellation_may_be_an_array(tiny_model, scan, regions):
    image = nib.load(regions["parcellation"])
    given = np.asarray(image.dataobj), image.affine
    found = jaxsal.explain(
        tiny_model, scan.images, parcellation=given, labels=[1], method="gradient", roi=ROI
    )
    assert set(found.regions["region"].to_pylist()) <= {"1", "2"}
    assert found.table["region"][0].as_py() in ("1", "2")


def test_a_notebook_views_a_lesion(result):
    pytest.importorskip("ipyniivue")
    label = result.maps.labels[-1]
    image, map_, _ = result.view(label, "t1").volumes
    assert image.name == "t1.nii.gz"
    assert map_.cal_max == pytest.approx(np.abs(result.maps.crop(label).values[..., 1]).max())


def test_maps_labels_and_probability_are_those_of_the_files(result, written):
    np.testing.assert_array_equal(result.labels, load(written / "instances.nii.gz"))
    assert _close(result.probability, load(written / "prediction.nii.gz"))
    for label in result.maps.labels:
        files = [written / "maps" / f"{name.format(label)}.nii.gz" for name in NAMES]
        stored = np.stack([load(path) for path in files], -1)
        assert _close(result.maps.crop(label).values, stored)


def test_missed_lesions_come_after_those_found(result):
    kinds = result.table["kind"].to_pylist()
    assert kinds == sorted(kinds, key=["TP", "FN", "FP"].index)
    assert kinds.count("FN") == 1


def test_a_lesion_is_plotted(result):
    figure = result.plot(result.maps.labels[-1])
    assert isinstance(figure, Figure)
    assert figure.axes
    with pytest.raises(InputError, match="no map of label 99"):
        result.plot(99)


def test_a_result_tells_on_one_line_how_many_lesions_were_explained_and_how(result):
    said = f"ExplainedScan({len(result.rows)} lesions, smoothgrad-max, target=1, samples=2, seed=5)"
    assert repr(result) == said


def test_notebooks_show_a_picture_and_the_table(result):
    shown = result.to_html()
    assert shown.count("<tr>") == 1 + len(result.rows)
    assert "data:image/png;base64," in shown
    assert "<td>TP</td>" in shown or "<td>FN</td>" in shown
    assert "<th>flair_max</th>" in shown


@pytest.mark.parametrize("form", ["nibabel", "array"])
def test_images_need_not_be_files(tiny_model, scan, result, form):
    loaded = [nib.load(path) for path in scan.images]
    given = loaded if form == "nibabel" else [(i.get_fdata(), i.affine) for i in loaded]
    again = jaxsal.explain(tiny_model, given, labels=[result.maps.labels[0]], **OPTIONS)
    label = result.maps.labels[0]
    assert again.maps.labels == (label,)
    ours, theirs = again.maps.dense(label), result.maps.dense(label)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()  # batches of fewer lesions


@pytest.mark.thorough
def test_a_class_level_map_has_the_label_0(tiny_model, scan):
    found = jaxsal.explain(tiny_model, scan.images, level="class", **OPTIONS)
    assert "ExplainedScan(class level, smoothgrad, " in repr(found)
    assert found.maps.labels == (0,)
    assert found.plot().axes


@pytest.mark.thorough
def test_a_label_map_and_uncertainty_are_taken(tiny_model, scan):
    labels = np.zeros(nib.load(scan.images[0]).shape, np.uint8)
    labels[10:12, 10:12, 10:12] = 7
    given = labels, nib.load(scan.images[0]).affine
    asked = UncertaintySettings("mirror")
    found = jaxsal.explain(
        tiny_model, scan.images, instances=given, uncertainty=asked, method="gradient", roi=ROI
    )
    assert found.maps.labels == (7,)
    assert found.table["entropy"][0].as_py() >= 0


def test_without_lesions_there_is_nothing_to_show(tiny_model, scan):
    found = jaxsal.explain(tiny_model, scan.images, minimum_volume=1e6, **OPTIONS)
    assert found.table.num_rows == 0
    assert "No lesion" in found.to_html()
    with pytest.raises(InputError, match="nothing to show"):
        found.plot()
    with pytest.raises(InputError, match="without a parcellation"):
        found.regions  # noqa: B018


def test_a_pytorch_network_is_converted(scan):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv3d(2, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 2, 1)
    )
    labels = np.zeros(nib.load(scan.images[0]).shape, np.uint8)
    labels[10, 10, 10] = 1
    given = labels, nib.load(scan.images[0]).affine
    found = jaxsal.explain(network, scan.images, instances=given, method="gradient", roi=16)
    x = torch.tensor(jaxsal.read_image(scan.images, CHANNELS)[0][None]).movedim(-1, 1)
    x.requires_grad_()
    network(x)[0, 1, 10, 10, 10].backward()
    expected = x.grad[0].movedim(0, -1).numpy()
    difference = np.abs(found.maps.dense(1) - expected).max()
    assert difference <= 1e-5 * np.abs(expected).max()  # float32


WRONG = {
    "an unknown option": ({"sample": 3}, "unknown option sample; did you mean samples"),
    "an option of another method": ({"layer": "x"}, "unknown option layer"),
    "a value out of range": ({"samples": 0}, "samples must be"),
    "a number for an image": ({"mask": 3}, r"mask must be a path.*got int"),
    "an array without its axes": ({"mask": (np.ones(3), np.eye(4))}, r"mask must be an array"),
    "labels beyond 32 bits": (
        {"instances": (np.full(SHAPE, 2**32 + 1), np.eye(4))},
        r"instances must hold.*32 bits",
    ),
    "a method that needs a layer": ({"method": "layercam", "samples": None}, "needs layer"),
    "names of regions that are no path": (
        {"parcellation": (np.ones(SHAPE), np.eye(4)), "region_names": {1: "left"}},
        "region_names must be the path of a table; got dict",
    ),
    "names of regions alone": ({"region_names": "names.tsv"}, "names regions"),
    "kinds in one word": ({"kinds": "TP"}, "kinds must be several.*'TP'"),
    "one label": ({"labels": 3}, r"labels must be several, such as \[3, 7\]; got 3"),
    "kinds without a reference": ({"kinds": ["FN"]}, "mask of the true"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(tiny_model, scan, name):
    wrong, said = WRONG[name]
    options = {k: v for k, v in {**OPTIONS, **wrong}.items() if v is not None}
    if name == "a method that needs a layer":
        options = {"method": "layercam"}
    with pytest.raises(InputError, match=said):
        jaxsal.explain(tiny_model, scan.images, **options)


@pytest.mark.parametrize("model", [3, lambda batch: batch])
def test_what_is_no_model_is_refused(scan, model):
    with pytest.raises(InputError, match=r"a model directory, a jaxsal\.Model or a Py"):
        jaxsal.explain(model, scan.images)


def test_a_folder_that_cannot_be_written_is_said(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((InputError, OutputError)):
        result.save(tmp_path / "file" / "out")
