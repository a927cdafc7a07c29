"""A scan's saliency maps as files: names, places, numbers, pictures, record."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import (
    CHANNELS,
    MISSED,
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
from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Scan
from jaxsal.inputs.images import LoadedScan
from jaxsal.lesions import label_lesions
from jaxsal.model import Model
from jaxsal.progress import Progress
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.explain import explain
from jaxsal.scan.explanations import to_explain
from jaxsal.scan.lesion_table import for_reading
from jaxsal.scan.prediction import Prediction
from jaxsal.settings import ExplainSettings, PredictSettings

FINDING = PredictSettings(roi=ROI)
SMOOTHGRAD = SmoothGradSettings(samples=2, seed=5)
SETTINGS = ExplainSettings(SMOOTHGRAD, pictures=False)
STATISTICS = ("max", "min", "mean_inside", "positive_share")


def run(
    model: Model,
    images: tuple[Path, ...],
    out: Path,
    *,
    reference: Path | None = None,
    instances: Path | None = None,
    finding: PredictSettings = FINDING,
    **settings: object,
) -> Path:
    scan = Scan(images, reference, instances)
    explain(model, scan, out, finding, changed(**settings))
    return out


def changed(**settings: object) -> ExplainSettings:
    """`SETTINGS` with some of its own, or of SmoothGrad's, changed."""
    own = {f.name: settings.pop(f.name) for f in fields(SETTINGS) if f.name in settings}
    return replace(SETTINGS, **({"saliency": replace(SMOOTHGRAD, **settings)} | own))


def map_file(folder: Path, label: int, channel: str, method: str = "smoothgrad-max") -> Path:
    return folder / "maps" / f"lesion-{label:04d}_{channel}_{method}.nii.gz"


def api_maps(model: Model, image: np.ndarray, labels: np.ndarray, **arguments: object):
    settings = {"samples": SMOOTHGRAD.samples, "seed": SMOOTHGRAD.seed, **arguments}
    return jaxsal.smoothgrad(jaxsal.sliding_window(model, roi=ROI), image, labels, **settings)


@pytest.fixture(scope="module")
def explained(scan: TinyScan, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("explain") / "out"
    return run(tiny_model, scan.images, out, pictures=True)


def test_the_promised_files_appear(explained: Path) -> None:
    lesions = [f"lesion-{label:04d}" for label in (1, 2, 3)]
    maps = {f"maps/{lesion}_{c}_smoothgrad-max.nii.gz" for lesion in lesions for c in CHANNELS}
    pictures = {f"pictures/{lesion}.png" for lesion in lesions}
    others = {"prediction.nii.gz", "instances.nii.gz", "instances.tsv", "run.json", "index.html"}
    assert set(contents(explained)) == maps | pictures | others


def test_maps_lie_in_place_and_are_those_of_the_library(
    explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    maps = api_maps(tiny_model, scan.image, load(explained / "instances.nii.gz"))
    for label in (1, 2, 3):
        for c, channel in enumerate(CHANNELS):
            path = map_file(explained, label, channel)
            assert nib.load(path).get_data_dtype() == np.float32
            assert nib.load(path).header.get_xyzt_units()[0] == "mm"
            assert_same_map(as_dense(path, scan.affine), maps.dense(label)[..., c])


def test_a_voxel_of_a_map_and_of_the_image_have_one_place(
    explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    dense = api_maps(tiny_model, scan.image, load(explained / "instances.nii.gz")).dense(2)[..., 0]
    image = nib.load(map_file(explained, 2, "flair"))
    assert image.shape != SHAPE
    in_map = np.unravel_index(np.abs(load(map_file(explained, 2, "flair"))).argmax(), image.shape)
    in_image = np.unravel_index(np.abs(dense).argmax(), SHAPE)
    np.testing.assert_allclose(
        nib.affines.apply_affine(image.affine, in_map),
        nib.affines.apply_affine(scan.affine, in_image),
        atol=1e-4,
    )


def test_maps_on_the_full_grid_are_the_crops_with_zeros_around(
    tmp_path: Path, explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    out = run(tiny_model, scan.images, tmp_path / "out", full_grid=True, labels=(3,))
    for channel in CHANNELS:
        path = map_file(out, 3, channel)
        np.testing.assert_array_equal(nib.load(path).affine, scan.affine)
        cropped = as_dense(map_file(explained, 3, channel), scan.affine)
        assert_same_map(load(path), cropped)


def test_the_table_has_the_statistics_of_the_maps(explained: Path, scan: TinyScan) -> None:
    labels, rows = load(explained / "instances.nii.gz"), read_table(explained / "instances.tsv")
    columns = [f"{channel}_{name}" for channel in CHANNELS for name in STATISTICS]
    assert [int(row["label"]) for row in rows] == [1, 2, 3]
    for row in rows:
        assert list(row)[7:] == ["samples", "approximated", *columns]
        assert (row["samples"], row["approximated"]) == ("2", "exact")
        for channel in CHANNELS:
            path = map_file(explained, int(row["label"]), channel)
            values = as_dense(path, scan.affine).astype(np.float64)
            expected = (
                values.max(),
                values.min(),
                values[labels == int(row["label"])].mean(),
                values[values > 0].sum() / np.abs(values).sum(),
            )
            found = [float(row[f"{channel}_{name}"]) for name in STATISTICS]
            np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_the_page_shows_every_picture_and_what_it_is_about(
    explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    page = (explained / "index.html").read_text().partition('id="view-data"')[0]
    for label in (1, 2, 3):
        assert f"pictures/lesion-{label:04d}.png" in page
        picture = (explained / "pictures" / f"lesion-{label:04d}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
    assert f"Lesions of {scan.flair.parent.name}/flair.nii.gz" in page
    assert f"<dt>flair</dt><dd>{scan.flair}</dd>" in page
    assert f"<dt>threshold</dt><dd>{tiny_model.threshold}</dd>" in page
    assert "http://" not in page
    assert "https://" not in page


def test_a_reader_sees_true_lesions_first_and_the_largest_on_top() -> None:
    lesions = [(1, "FP", 9), (2, "TP", 7), (3, "FN", 8), (4, "TP", 50), (5, "FP", 12)]
    rows = [{"label": label, "kind": kind, "voxels": voxels} for label, kind, voxels in lesions]
    assert [row["label"] for row in for_reading(rows)] == [4, 2, 3, 5, 1]


def test_the_record_has_all_settings(explained: Path) -> None:
    record = json.loads((explained / "run.json").read_text())
    assert record["command"] == "explain"
    saliency = record["settings"]["saliency"]
    assert saliency["samples"] == 2
    assert saliency["seed"] == 5
    assert saliency["noise"] == 0.05
    assert saliency["noise_scale"] == "range"
    assert saliency["aggregate"] == "max"
    assert record["settings"]["prediction"]["roi"] == list(ROI)
    assert set(record["files"]) == set(contents(explained)) - {"run.json"}


def test_without_pictures_there_is_no_page(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    out = run(tiny_model, scan.images, tmp_path / "out", labels=(1,))
    assert not (out / "pictures").exists()
    assert not (out / "index.html").exists()


@pytest.mark.parametrize(
    ("approximation", "said", "meaning"),
    [
        ({"voxels_per_lesion": 1}, "1 of {voxels} voxels", "its peak is too low"),
        pytest.param(
            {"group_size": 2}, "sums of 2 voxels", "peak is too high", marks=pytest.mark.thorough
        ),
    ],
)
def test_approximated_maps_are_marked(
    approximation: dict[str, int],
    said: str,
    meaning: str,
    tmp_path: Path,
    scan: TinyScan,
    tiny_model: Model,
) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[8, 10, 9] = 1  # a single voxel, whose map is exact
    labels[15, 18:21, 11] = 2
    path = save(tmp_path / "labels.nii.gz", labels)
    more = {"pictures": True, **approximation}
    out = run(tiny_model, scan.images, tmp_path / "out", instances=path, **more)
    single, other = read_table(out / "instances.tsv")
    said = said.format(voxels=3)
    assert (single["approximated"], other["approximated"]) == ("exact", said)
    page = (out / "index.html").read_text()
    assert page.count("1 of 2 maps are approximated") == 1
    assert meaning in page
    assert re.findall(r'<strong>(Lesion \d)</strong> <span class="note">approximated', page) == [
        "Lesion 2"
    ]


def test_an_exact_page_does_not_speak_of_approximations(explained: Path) -> None:
    page = (explained / "index.html").read_text().partition('id="view-data"')[0]
    assert "approximated" not in page


def test_only_the_chosen_lesions_are_explained_but_all_are_found(
    tmp_path: Path, explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    out = run(tiny_model, scan.images, tmp_path / "out", labels=(3, 1))
    assert [row["label"] for row in read_table(out / "instances.tsv")] == ["1", "3"]
    assert {path.name.split("_")[0] for path in (out / "maps").iterdir()} == {
        "lesion-0001",
        "lesion-0003",
    }
    labels = load(explained / "instances.nii.gz")
    np.testing.assert_array_equal(load(out / "instances.nii.gz"), labels)
    for label in (1, 3):
        same = load(map_file(explained, label, "flair"))
        assert_same_map(load(map_file(out, label, "flair")), same)


def test_unknown_labels_are_refused_before_anything_is_computed(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    with pytest.raises(InputError, match=r"label 9\. Available: 1, 2, 3"):
        run(tiny_model, scan.images, tmp_path / "out", labels=(1, 9))
    assert list(tmp_path.iterdir()) == []


def test_given_instances_keep_their_labels_whatever_these_are(
    tmp_path: Path, explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    names = np.array([0, 40, 3, 12])
    given = names[load(explained / "instances.nii.gz")].astype(np.int16)
    path = save(tmp_path / "given.nii.gz", given)
    out = run(tiny_model, scan.images, tmp_path / "out", instances=path)
    np.testing.assert_array_equal(load(out / "instances.nii.gz"), given)
    rows = read_table(out / "instances.tsv")
    assert [(row["label"], row["kind"]) for row in rows] == [
        ("3", "given"),
        ("12", "given"),
        ("40", "given"),
    ]
    for before, after in enumerate(names[1:], start=1):
        for channel in CHANNELS:
            first, second = map_file(explained, before, channel), map_file(out, after, channel)
            assert_same_map(load(second), load(first))
            np.testing.assert_array_equal(nib.load(second).affine, nib.load(first).affine)


def test_missed_lesions_are_explained_too(
    tmp_path: Path, explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    reference = (load(explained / "instances.nii.gz") == 2).astype(np.uint8)
    reference[MISSED] = 1
    path = save(tmp_path / "reference.nii.gz", reference)
    out = run(tiny_model, scan.images, tmp_path / "out", reference=path)
    rows = read_table(out / "instances.tsv")
    assert [row["kind"] for row in rows] == ["FP", "TP", "FP", "FN"]
    expected = api_maps(tiny_model, scan.image, 4 * (load(out / "instances.nii.gz") == 4))
    found = as_dense(map_file(out, 4, "t1"), scan.affine)
    assert_same_map(found, expected.dense(4)[..., 1])


@pytest.mark.parametrize(
    ("choice", "labels"),
    [
        ({"kinds": ("FN", "TP")}, [1, 3]),
        ({"max_voxels": 8}, [2, 3]),
        ({"kinds": ("FP",), "labels": (1, 2)}, [2]),
        ({"kinds": ("TP",), "max_voxels": 8}, []),
    ],
)
def test_lesions_are_chosen_by_kind_and_size(choice: dict[str, Any], labels: list[int]) -> None:
    grid = Grid(SHAPE, np.eye(4))
    probability, reference = np.zeros(SHAPE), np.zeros(SHAPE, bool)
    probability[2:5, 2:5, 2:5] = 1  # 27 voxels, found
    reference[4, 4, 4] = True
    probability[10:12, 10:12, 10:12] = 1  # 8 voxels, a false alarm
    reference[15:17, 15:17, 15:17] = True  # 8 voxels, missed
    found = label_lesions(probability >= 0.5, grid, reference)
    box = Box.whole(SHAPE)
    scan = LoadedScan(np.ones((*SHAPE, 2), np.float32), grid, box, reference)
    prediction = Prediction(scan, probability, 0.5, probability >= 0.5, *found)
    wanted = to_explain(prediction, changed(**choice))
    assert list(wanted.maps) == labels
    said = ("3 lesions found, none of them chosen: see labels, kinds and max_voxels",)
    assert wanted.notes == (() if labels else said)


def test_kinds_need_a_reference(tmp_path: Path, scan: TinyScan, tiny_model: Model) -> None:
    with pytest.raises(InputError, match="only with a mask of the true lesions"):
        run(tiny_model, scan.images, tmp_path / "out", kinds=("TP",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_the_mean_is_another_map_under_another_name(
    tmp_path: Path, explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    out = run(tiny_model, scan.images, tmp_path / "out", aggregate="mean", labels=(1,))
    labels = load(explained / "instances.nii.gz")
    expected = api_maps(tiny_model, scan.image, labels, aggregate="mean").dense(1)[..., 0]
    found = as_dense(map_file(out, 1, "flair", "smoothgrad-mean"), scan.affine)
    assert_same_map(found, expected)


@pytest.mark.parametrize(
    "settings", [{"seed": 6}, {"noise": 0.1}, {"noise_scale": "absolute", "noise": 0.5}], ids=str
)
def test_the_noise_is_the_one_asked_for(
    tmp_path: Path,
    explained: Path,
    scan: TinyScan,
    tiny_model: Model,
    settings: dict[str, object],
) -> None:
    out = run(tiny_model, scan.images, tmp_path / "out", labels=(3,), **settings)
    labels = load(explained / "instances.nii.gz") == 3
    expected = api_maps(tiny_model, scan.image, 3 * labels, **settings).dense(3)[..., 0]
    assert_same_map(as_dense(map_file(out, 3, "flair"), scan.affine), expected)
    other = as_dense(map_file(explained, 3, "flair"), scan.affine)
    assert np.abs(expected - other).max() > 1e-3 * np.abs(other).max()


@pytest.mark.thorough
def test_the_whole_volume_can_be_differentiated_where_windows_found_the_lesions(
    tmp_path: Path, explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    settings = {"aggregate": "mean", "labels": (3,), "field": "whole"}
    out = run(tiny_model, scan.images, tmp_path / "out", **settings)
    labels = load(explained / "instances.nii.gz")
    np.testing.assert_array_equal(load(out / "instances.nii.gz"), labels)
    field, domain = jaxsal.whole_volume(tiny_model), 3 * (labels == 3)
    expected = jaxsal.smoothgrad(
        field, scan.image, domain, aggregate="mean", samples=2, seed=SMOOTHGRAD.seed
    )
    found = as_dense(map_file(out, 3, "t1", "smoothgrad-mean"), scan.affine)
    assert_same_map(found, expected.dense(3)[..., 1])


def test_the_class_level_is_one_map_of_all_segmented_voxels(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    out = run(tiny_model, scan.images, tmp_path / "out", level="class", pictures=True)
    assert {path.name for path in (out / "maps").iterdir()} == {
        f"class_{channel}_smoothgrad.nii.gz" for channel in CHANNELS
    }
    segmented = load(out / "prediction.nii.gz") >= tiny_model.threshold
    (row,) = read_table(out / "instances.tsv")
    assert (row["label"], row["kind"]) == ("0", "class")
    assert int(row["voxels"]) == segmented.sum() > np.count_nonzero(load(out / "instances.nii.gz"))
    maps = api_maps(tiny_model, scan.image, segmented.astype(int), aggregate="sum")
    for c, channel in enumerate(CHANNELS):
        found = as_dense(out / "maps" / f"class_{channel}_smoothgrad.nii.gz", scan.affine)
        assert_same_map(found, maps.dense(1)[..., c])
    assert (out / "pictures" / "class.png").exists()
    page = (out / "index.html").read_text()
    assert "pictures/class.png" in page
    assert ">all</a>" in page
    saliency = json.loads((out / "run.json").read_text())["settings"]["saliency"]
    assert saliency["aggregate"] == "sum"


def test_the_class_level_of_given_instances_is_their_union(
    tmp_path: Path, explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    given = np.array([0, 40, 0, 12])[load(explained / "instances.nii.gz")].astype(np.int16)
    path = save(tmp_path / "given.nii.gz", given)
    out = run(tiny_model, scan.images, tmp_path / "out", instances=path, level="class")
    (row,) = read_table(out / "instances.tsv")
    assert int(row["voxels"]) == np.count_nonzero(given)
    maps = api_maps(tiny_model, scan.image, (given > 0).astype(int), aggregate="sum")
    found = as_dense(out / "maps" / "class_t1_smoothgrad.nii.gz", scan.affine)
    assert_same_map(found, maps.dense(1)[..., 1])


@pytest.mark.parametrize("asked", [True, False])
def test_standard_errors_lie_beside_the_maps_if_asked_for(
    asked: bool,
    tmp_path: Path,
    scan: TinyScan,
    tiny_model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    origin = (2, 1, 3)
    size = np.subtract(SHAPE, origin)
    errors = np.random.default_rng(0).random((*size, 2)).astype(np.float32)

    def maps(*_: object, **__: object) -> Iterator[tuple[int, Crop]]:
        yield 3, Crop(-errors, origin, 2, standard_error=errors)

    monkeypatch.setattr(sys.modules["jaxsal.saliency.smoothgrad"], "smoothgrad_stream", maps)
    out = run(tiny_model, scan.images, tmp_path / "out", labels=(3,), standard_error=asked)
    assert len(list((out / "maps").iterdir())) == (4 if asked else 2)
    for c, channel in enumerate(CHANNELS):
        map_path = map_file(out, 3, channel)
        np.testing.assert_array_equal(load(map_path), -errors[..., c])
        if asked:
            path = map_file(out, 3, channel, "smoothgrad-max_se")
            np.testing.assert_array_equal(load(path), errors[..., c])
            np.testing.assert_array_equal(nib.load(path).affine, nib.load(map_path).affine)


@pytest.mark.parametrize("level", ["instance", "class"])
def test_an_image_without_lesions_is_a_success(
    tmp_path: Path, scan: TinyScan, tiny_model: Model, level: str
) -> None:
    finding = replace(FINDING, threshold=0.999)
    options = {"finding": finding, "level": level, "pictures": True}
    with pytest.warns(match="no voxel is segmented"):
        out = run(tiny_model, scan.images, tmp_path / "out", **options)
    assert read_table(out / "instances.tsv") == []
    (header,) = (out / "instances.tsv").read_text().splitlines()
    assert header.startswith("label\tkind\t")
    assert header.endswith("t1_positive_share")
    assert set(contents(out)) == {
        "prediction.nii.gz",
        "instances.nii.gz",
        "instances.tsv",
        "index.html",
        "run.json",
    }


def test_an_empty_label_map_is_a_success(tmp_path: Path, scan: TinyScan, tiny_model: Model) -> None:
    path = save(tmp_path / "given.nii.gz", np.zeros(SHAPE, np.uint8))
    out = run(tiny_model, scan.images, tmp_path / "out", instances=path)
    assert read_table(out / "instances.tsv") == []
    assert not (out / "maps").exists()


def test_progress_ends_with_everything_done(
    tmp_path: Path, explained: Path, scan: TinyScan, tiny_model: Model
) -> None:
    seen: list[Progress] = []
    stages: list[str] = []
    explain(
        tiny_model,
        Scan(scan.images),
        tmp_path / "out",
        FINDING,
        SETTINGS,
        on_stage=stages.append,
        on_progress=seen.append,
    )
    voxels = np.count_nonzero(load(explained / "instances.nii.gz"))
    total = seen[-1].gradients
    assert total >= 2 * voxels  # one per voxel, sample and window that reaches it
    assert seen[-1] == Progress(3, 3, total, total)
    done = [progress.gradients_done for progress in seen]
    assert done == sorted(done)
    assert stages == ["finding lesions", "explaining"]


def test_an_interruption_leaves_nothing(tmp_path: Path, scan: TinyScan, tiny_model: Model) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(
            tiny_model,
            Scan(scan.images),
            tmp_path / "out",
            FINDING,
            SETTINGS,
            on_progress=interrupt,
        )
    assert list(tmp_path.iterdir()) == []


def test_reference_and_instances_exclude_each_other(tmp_path: Path, scan: TinyScan) -> None:
    with pytest.raises(InputError, match="not both"):
        Scan(scan.images, scan.flair, scan.t1)
