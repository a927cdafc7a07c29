"""What a cohort's run writes and hands over."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import nibabel as nib
import numpy as np
import pytest
from helpers.cohorts import PREDICTION, SETTINGS, begin, results, run
from helpers.official_validator import bids_issues
from helpers.tiny import as_dense, assert_same_map, load, read_table
from pyarrow import parquet

from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.machines import pipeline
from jaxsal.cohort.status import cohort_status
from jaxsal.current_device import current_device
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.model import Model
from jaxsal.progress import Progress
from jaxsal.saliency.methods.gradcam import GradCamSettings
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.explain import explain
from jaxsal.settings import CohortSettings, ExplainSettings
from jaxsal.store.lock import Shard

MAP = "sub-00/anat/sub-00_label-lesion0002_desc-t1SmoothgradMax_saliency"


def test_maps_are_those_of_a_single_scan(
    finished: Path, entries: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    settings = ExplainSettings(SETTINGS.saliency[0], pictures=False)
    rows = explain(tiny_model, entries[0].scan, tmp_path / "one", PREDICTION, settings)
    affine = nib.load(entries[0].scan.images[0]).affine
    for row in rows:
        for channel in ("flair", "t1"):
            name = f"label-lesion{row['label']:04d}_desc-{channel}SmoothgradMax_saliency.nii.gz"
            found = as_dense(finished / "sub-00/anat" / f"sub-00_{name}", affine)
            one = f"maps/lesion-{row['label']:04d}_{channel}_smoothgrad-max.nii.gz"
            assert_same_map(found, as_dense(tmp_path / "one" / one, affine))
    for name, one in (("seg-lesions_dseg", "instances"), ("label-L_probseg", "prediction")):
        found = load(finished / f"sub-00/anat/sub-00_{name}.nii.gz")
        np.testing.assert_array_equal(found, load(tmp_path / "one" / f"{one}.nii.gz"))


def test_the_tables_tell_the_same_in_all_forms(finished: Path, tiny_model: Model) -> None:
    rows = read_table(finished / "lesions.tsv")
    columns = [c.key for c in CohortJob(tiny_model, PREDICTION, SETTINGS).columns()]
    assert list(rows[0]) == columns
    assert set(json.loads((finished / "lesions.json").read_bytes())) == set(columns)
    table = parquet.read_table(finished / "lesions.parquet").to_pylist()
    assert len(table) == len(rows) > 4
    for row, exact in zip(rows, table, strict=True):
        for key, value in exact.items():
            assert row[key] == (f"{value:.6g}" if isinstance(value, float) else str(value))


def test_every_scan_is_in_the_table_of_scans_in_the_cohorts_order(
    finished: Path, entries: list[Entry]
) -> None:
    rows = read_table(finished / "status.tsv")
    assert [row["scan"] for row in rows] == [entry.id for entry in entries]
    assert {row["status"] for row in rows} == {"finished"}


def test_the_official_validator_finds_no_error_in_results(finished: Path) -> None:
    assert bids_issues(finished) == []
    others = [issue.split()[0] for issue in bids_issues(finished, "warning")]
    assert others == ["TOO_FEW_AUTHORS"]  # of fewer than two


def test_files_are_described_by_those_beside_them(finished: Path) -> None:
    description = json.loads((finished / "dataset_description.json").read_bytes())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "jaxsal"
    sidecar = json.loads(
        (finished / "sub-00/anat/sub-00_desc-t1SmoothgradMax_saliency.json").read_bytes()
    )
    assert (sidecar["Channel"], sidecar["Approximated"]) == ("t1", {})
    assert (finished / f"{MAP}.nii.gz").exists()
    with (finished / "sub-00/anat/sub-00_seg-lesions_dseg.tsv").open(newline="") as file:
        columns = next(csv.reader(file, delimiter="\t"))
    assert columns[:2] == ["index", "name"]
    for table, described in (
        (columns[2:], "seg-lesions_dseg.json"),
        (list(read_table(finished / "lesions.tsv")[0]), "lesions.json"),
        (list(read_table(finished / "status.tsv")[0]), "status.json"),
    ):
        assert list(json.loads((finished / described).read_bytes())) == table


def test_sidecars_and_tables_mark_approximated_maps(
    entries: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    few = replace(SETTINGS.saliency[0], voxels_per_lesion=8)
    run(tiny_model, entries[:1], tmp_path, settings=replace(SETTINGS, saliency=(few,)))
    said = {
        f"lesion{int(row['label']):04d}": row["approximated"]
        for row in read_table(tmp_path / "lesions.tsv")
        if int(row["voxels"]) > 8
    }
    assert said
    assert all(how.startswith("8 of ") for how in said.values())
    (sidecar,) = tmp_path.glob("sub-00/anat/*t1SmoothgradMax_saliency.json")
    assert json.loads(sidecar.read_bytes())["Approximated"] == said


@pytest.mark.parametrize("output", ["table", "full"])
def test_the_output_decides_what_is_kept_of_maps(
    output: str, entries: list[Entry], tiny_model: Model, tmp_path: Path, finished: Path
) -> None:
    run(tiny_model, entries[:1], tmp_path, settings=replace(SETTINGS, output=output))
    maps = list(tmp_path.rglob("*_saliency.nii.gz"))
    rows = [row for row in results(finished)["lesions.tsv"] if row["scan"] == entries[0].id]
    assert len(rows) == 3
    assert results(tmp_path)["lesions.tsv"] == rows
    assert bids_issues(tmp_path) == []
    if output == "table":
        assert not maps
    else:
        affine = nib.load(entries[0].scan.images[0]).affine
        dense = as_dense(finished / f"{MAP}.nii.gz", affine)
        np.testing.assert_array_equal(load(tmp_path / f"{MAP}.nii.gz"), dense)


def test_several_methods_share_a_table(
    entries: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    layer = tiny_model.layers[1]
    both = (*SETTINGS.saliency, GradCamSettings(layer))
    visit = replace(entries[0], entities={"subject": "00", "session": "1"})
    run(tiny_model, [visit], tmp_path, settings=replace(SETTINGS, saliency=both))
    assert bids_issues(tmp_path) == []
    row = read_table(tmp_path / "lesions.tsv")[0]
    assert float(row["flair_max"]) > 0
    assert "gradcam++_inside_share" in row
    assert (
        tmp_path
        / "sub-00/ses-1/anat/sub-00_ses-1_label-lesion0001_desc-gradcamplusplus_saliency.nii.gz"
    ).exists()


def test_what_was_noticed_about_a_scan_stays_with_it(
    entries: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    swapped = replace(entries[0], scan=Scan(entries[0].scan.images[::-1]))
    (result,) = run(tiny_model, [swapped], tmp_path, settings=replace(SETTINGS, output="table"))
    assert result.status == "finished"
    (row,) = read_table(tmp_path / "status.tsv")
    assert row["reason"] == result.reason
    assert "t1.nii.gz is taken for the channel flair" in result.reason


def test_scans_of_mixed_axes_are_warned_of_also_where_they_are_given_one_by_one(
    entries: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    images = []
    for path in entries[1].scan.images:
        images.append(tmp_path / path.name)
        nib.save(nib.as_closest_canonical(nib.load(path)), images[-1])
    turned = replace(entries[1], scan=Scan(tuple(images)))
    with pytest.warns(UserWarning, match="scans have different axes"):
        begin(tiny_model, [entries[0], turned], None).close()


def test_methods_are_one_of_each() -> None:
    with pytest.raises(InputError, match="each of them once"):
        CohortSettings((SmoothGradSettings(), SmoothGradSettings(aggregate="mean")))


def test_without_a_folder_maps_are_handed_over(
    entries: list[Entry], tiny_model: Model, finished: Path
) -> None:
    affine = nib.load(entries[0].scan.images[0]).affine
    (result,) = list(begin(tiny_model, entries[:1], None))
    assert result.maps is not None
    crop = result.maps.crops["smoothgrad-max"][2]
    found = np.zeros(result.maps.grid.shape, np.float32)
    found[crop.box.slices] = crop.values[..., 1]
    np.testing.assert_array_equal(found, as_dense(finished / f"{MAP}.nii.gz", affine))
    assert [row["label"] for row in result.rows] == [1, 2, 3]


def test_what_is_done_is_not_done_again(
    finished: Path, entries: list[Entry], tiny_model: Model, expected: dict[str, Any]
) -> None:
    again = run(tiny_model, entries, finished)
    assert [result.is_new for result in again] == [False] * len(entries)
    assert results(finished) == expected


@pytest.mark.thorough
def test_shards_come_to_the_same_results(
    entries: list[Entry], tiny_model: Model, tmp_path: Path, expected: dict[str, Any]
) -> None:
    first = run(tiny_model, entries, tmp_path, shard=Shard(1, 2))
    second = run(tiny_model, entries, tmp_path, shard=Shard(2, 2))
    assert sorted(r.id for r in [*first, *second]) == [entry.id for entry in entries]
    assert results(tmp_path) == expected


@pytest.mark.thorough
def test_each_accelerator_computes_scans_of_its_own(
    entries: list[Entry],
    tiny_model: Model,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two = jax.local_devices()[:2]
    used: dict[str, jax.Device] = {}
    both_at_work = threading.Barrier(2, timeout=300)

    def note(entry: Entry, progress: Progress) -> None:
        if entry.id not in used:
            used[entry.id] = current_device()
            both_at_work.wait()

    monkeypatch.setattr("jaxsal.cohort.run.lanes_of", lambda devices: [(d,) for d in devices])
    run(tiny_model, entries[:2], tmp_path, devices=two, on_scan=note)
    assert set(used.values()) == set(two)
    assert set(used) == {entry.id for entry in entries[:2]}
    rows = [row for row in read_table(finished / "lesions.tsv") if row["scan"] in used]
    for row, other in zip(read_table(tmp_path / "lesions.tsv"), rows, strict=True):
        assert (row["scan"], row["label"]) == (other["scan"], other["label"])
        assert float(row["flair_max"]) == pytest.approx(float(other["flair_max"]), rel=1e-4)


def test_cpu_cores_compute_a_scan_together_and_accelerators_do_not() -> None:
    cores = jax.local_devices()

    class Accelerator:
        platform = "gpu"

    assert pipeline.lanes_of(cores) == [tuple(cores)]
    both = [Accelerator(), Accelerator()]
    assert pipeline.lanes_of(both) == [(both[0],), (both[1],)]  # type: ignore[arg-type,comparison-overlap]


def test_the_status_counts_and_verifies(finished: Path, entries: list[Entry]) -> None:
    status = cohort_status(finished, verify=True)
    assert (status.scans, status.finished, status.failed) == (len(entries), len(entries), {})
    assert (status.begun, status.runs, status.damaged) == ({}, {}, [])
    assert status.lesions == len(read_table(finished / "lesions.tsv"))


def test_the_status_of_another_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no results"):
        cohort_status(tmp_path)


@pytest.fixture
def given(tmp_path: Path, entries: list[Entry]) -> Callable[[np.ndarray], Entry]:
    """The first scan with these lesions, given by a label map."""

    def make(labels: np.ndarray) -> Entry:
        image = nib.load(entries[0].scan.images[0])
        path = tmp_path / "labels.nii.gz"
        nib.save(nib.Nifti1Image(labels, image.affine, image.header, dtype=np.int32), path)
        return replace(entries[0], scan=Scan(entries[0].scan.images, instances=path))

    return make


@pytest.mark.thorough
@pytest.mark.parametrize("count", [0, 200])
def test_scans_with_no_lesion_and_with_hundreds(
    count: int, given: Any, tiny_model: Model, tmp_path: Path
) -> None:
    labels = np.zeros((24, 28, 20), np.int32)
    labels[4:20, 4:20, 4:18].flat[: 7 * count : 7] = np.arange(1, count + 1)
    one = replace(SETTINGS.saliency[0], samples=1)
    settings = CohortSettings((one,), output="table", portion=200)
    (result,) = run(tiny_model, [given(labels)], tmp_path / "out", settings=settings)
    assert result.status == "finished"
    assert [row["label"] for row in result.rows] == list(range(1, count + 1))
    assert len(read_table(tmp_path / "out" / "lesions.tsv")) == count


def test_maps_do_not_depend_on_portions(
    given: Any, tiny_model: Model, finished: Path, entries: list[Entry], tmp_path: Path
) -> None:
    run(tiny_model, entries[:1], tmp_path, settings=replace(SETTINGS, portion=10_000))
    affine = nib.load(entries[0].scan.images[0]).affine
    assert_same_map(
        as_dense(tmp_path / f"{MAP}.nii.gz", affine), as_dense(finished / f"{MAP}.nii.gz", affine)
    )
