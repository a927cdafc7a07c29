"""A scan's heat maps as files: one per lesion, whatever the number of channels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import (
    ROI,
    SHAPE,
    TinyScan,
    as_dense,
    assert_same_map,
    contents,
    load,
    read_table,
    save,
)

import jaxsal
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Scan
from jaxsal.model import Model
from jaxsal.progress import Progress
from jaxsal.saliency.heat_maps import heat_maps
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.methods.gradcam import GradCamSettings
from jaxsal.scan.explain import explain
from jaxsal.scan.lesion_table import map_statistics
from jaxsal.settings import ExplainSettings, PredictSettings

LAYER = "encoder.0"
SOURCE = "model.0"  # what the network that it was converted from calls the same layer
SETTINGS = GradCamSettings(LAYER)
STATISTICS = ("max", "mean_inside", "inside_share")


def run(
    model: Model,
    scan: TinyScan,
    out: Path,
    saliency: GradCamSettings = SETTINGS,
    instances: Path | None = None,
    **settings: object,
) -> Path:
    settings = {"pictures": False, **settings}
    explaining = ExplainSettings(saliency, **settings)
    explain(model, Scan(scan.images, None, instances), out, PredictSettings(roi=ROI), explaining)
    return out


def map_file(folder: Path, label: int, method: str = "gradcam++") -> Path:
    return folder / "maps" / f"lesion-{label:04d}_{method}.nii.gz"


@pytest.fixture(scope="module")
def explained(scan: TinyScan, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("heat") / "out"
    model = replace(tiny_model, aliases={SOURCE: LAYER})
    return run(model, scan, out, GradCamSettings(SOURCE), pictures=True)


def test_there_is_one_map_and_picture_per_lesion(explained: Path) -> None:
    lesions = [f"lesion-{label:04d}" for label in (1, 2, 3)]
    maps = {f"maps/{lesion}_gradcam++.nii.gz" for lesion in lesions}
    pictures = {f"pictures/{lesion}.png" for lesion in lesions}
    others = {"prediction.nii.gz", "instances.nii.gz", "instances.tsv", "run.json", "index.html"}
    assert set(contents(explained)) == maps | pictures | others


def test_maps_lie_in_place_and_are_those_of_the_library(
    explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    labels = load(explained / "instances.nii.gz")
    field = jaxsal.sliding_window(tiny_model, roi=ROI)
    maps = jaxsal.gradcam_plus_plus(tiny_model, scan.image, labels, layer=LAYER, field=field)
    for label in (1, 2, 3):
        path = map_file(explained, label)
        assert nib.load(path).get_data_dtype() == np.float32
        assert_same_map(as_dense(path, scan.affine), maps.dense(label))


def test_the_table_has_the_statistics_of_the_maps(explained: Path, scan: TinyScan) -> None:
    labels, rows = load(explained / "instances.nii.gz"), read_table(explained / "instances.tsv")
    assert [int(row["label"]) for row in rows] == [1, 2, 3]
    for row in rows:
        assert list(row)[7:] == [f"gradcam++_{name}" for name in STATISTICS]
        inside = labels == int(row["label"])
        values = as_dense(map_file(explained, int(row["label"])), scan.affine).astype(np.float64)
        expected = values.max(), values[inside].mean(), values[inside].sum() / values.sum()
        found = [float(row[f"gradcam++_{name}"]) for name in STATISTICS]
        np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_the_page_and_the_record_tell_the_method(explained: Path) -> None:
    page = (explained / "index.html").read_text().partition('id="view-data"')[0]
    for part in ("pictures/lesion-0003.png", "inside share", "drawn over the image of each"):
        assert part in page
    for part in ("positive share", "Negative"):
        assert part not in page
    saliency = json.loads((explained / "run.json").read_text())["settings"]["saliency"]
    assert saliency["method"] == "gradcam++"
    assert saliency["layer"] == LAYER
    assert saliency["derivatives"] == "closed-form"
    assert saliency["alignment"] == "receptive-field"
    assert saliency["field"] == "sliding"
    assert "samples" not in saliency


@pytest.mark.parametrize("method", ["gradcam++", "gradcam", "hirescam"])
def test_the_class_level_of_given_instances_is_one_map_of_their_union(
    method: str, tmp_path: Path, explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    given = np.array([0, 40, 0, 12])[load(explained / "instances.nii.gz")].astype(np.int16)
    path = save(tmp_path / "given.nii.gz", given)
    settings = GradCamSettings(LAYER, method=method)
    out = run(tiny_model, scan, tmp_path / "out", settings, path, level="class", full_grid=True)
    (file,) = (out / "maps").iterdir()
    assert file.name == f"class_{method}.nii.gz"
    assert nib.load(file).shape == SHAPE
    (row,) = read_table(out / "instances.tsv")
    assert (row["label"], int(row["voxels"])) == ("0", np.count_nonzero(given))
    field = jaxsal.sliding_window(tiny_model, roi=ROI)
    domain = (given > 0).astype(np.int32)
    maps = heat_maps(tiny_model, scan.image, domain, settings, class_level=True, field=field)
    assert_same_map(load(file), maps.dense(1))


@pytest.mark.thorough
def test_the_whole_volume_can_be_differentiated(
    tmp_path: Path, explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    settings = GradCamSettings(LAYER, method="gradcam")
    out = run(tiny_model, scan, tmp_path / "out", settings, labels=(3,), field="whole")
    domain = 3 * (load(explained / "instances.nii.gz") == 3)
    maps = jaxsal.gradcam(tiny_model, scan.image, domain, layer=LAYER)
    found = as_dense(map_file(out, 3, "gradcam"), scan.affine)
    assert_same_map(found, maps.dense(3))


def test_an_unknown_layer_is_refused_before_anything_is_computed(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    stages: list[str] = []
    settings = ExplainSettings(GradCamSettings("encoder.7"))
    with pytest.raises(InputError, match=r"'encoder\.7'; did you mean encoder\."):
        explain(
            tiny_model,
            Scan(scan.images),
            tmp_path / "out",
            PredictSettings(roi=ROI),
            settings,
            on_stage=stages.append,
        )
    assert stages == []


def test_progress_counts_lesions_and_windows(
    tmp_path: Path, explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    seen: list[Progress] = []
    settings = ExplainSettings(SETTINGS, pictures=False)
    finding = PredictSettings(roi=ROI)
    out = tmp_path / "out"
    explain(tiny_model, Scan(scan.images), out, finding, settings, on_progress=seen.append)
    labels = load(explained / "instances.nii.gz")
    field = jaxsal.sliding_window(tiny_model, roi=ROI)
    maps = jaxsal.gradcam(tiny_model, scan.image, labels, layer=LAYER, field=field)
    total = sum(len(maps.windows(label)) for label in maps.labels)
    assert seen[-1] == Progress(3, 3, total, total)
    assert {each.lesions_done for each in seen} > {0, 3}  # the count moves before all are complete


def test_a_lesion_out_of_its_maps_crop_counts_as_zeros() -> None:
    values = np.array([1.0, 3.0], np.float32).reshape(2, 1, 1, 1)
    domain = np.zeros((6, 2, 2), bool)
    domain[4:, 0, 0] = True  # the crop ends in the first of the two
    domain[3, 1, 1] = True
    (found,) = map_statistics(Crop(values, (3, 0, 0), 1), domain)
    assert {name: found[name] for name in STATISTICS} == {
        "max": 3.0,
        "mean_inside": 1.0,
        "inside_share": 0.75,
    }
