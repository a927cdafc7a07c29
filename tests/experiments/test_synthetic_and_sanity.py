"""Lesions copied elsewhere and domains that are no lesions, on a tiny scan with a given lesion."""

from __future__ import annotations

import weakref
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import ROI, load, save
from scipy import ndimage, special

import jaxsal.cohort.results as cohort_results
import jaxsal.experiments.each_scan as module
from jaxsal.cli.tables import print_rows
from jaxsal.cohort.results import CohortResults
from jaxsal.experiments.derived import generator_of
from jaxsal.experiments.sanity import SanitySettings, middle_voxel, sanity
from jaxsal.experiments.study import Study
from jaxsal.experiments.synthetic import SITUATIONS, SyntheticSettings, synthetic
from jaxsal.field.sliding import sliding_window
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.inputs.images import LoadedScan, read_image
from jaxsal.model import Model
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.prediction import Prediction, find_lesions
from jaxsal.settings import PredictSettings

SHAPE = (52, 28, 20)
VOLUME = (5.0, 50.0)
STUDY = "study"


def in_head() -> np.ndarray:
    head = np.zeros(SHAPE, bool)
    head[1:32, 3:25, 2:18] = True
    return head


def omega() -> np.ndarray:
    lesion = np.zeros(SHAPE, bool)
    lesion[6:9, 12:14, 9:11] = True  # 12 mm³
    return lesion


def make_study(model: Model, folder: Path, name: str, head: np.ndarray) -> Study:
    """A noisy box as head, with a lesion at one end and white matter at the other."""
    rng = np.random.default_rng(3)
    values = np.where(head, 400 + 20 * rng.standard_normal((2, *SHAPE)), 0).astype(np.float32)
    values[0][omega()] += 200
    affine = np.eye(4)
    images = tuple(save(folder / f"{name}_{c}.nii.gz", v, affine) for c, v in enumerate(values))
    labels = save(folder / f"{name}_given.nii.gz", 7 * omega().astype(np.int32), affine)
    white = np.zeros(SHAPE, np.uint8)
    white[16:31, 4:24, 3:17] = 1
    (folder / "white").mkdir(exist_ok=True)
    save(folder / "white" / "sub-01.nii.gz", white, affine)
    brain = save(folder / f"{name}_brain.nii.gz", head.astype(np.uint8), affine)
    scan = Scan(images, instances=labels, mask=brain)  # outside of which lesions are copied, too
    entry = Entry("one", scan, {"subject": "01"})
    saliency = SmoothGradSettings(samples=1, memory=2**30)
    return Study(model, [entry], folder / name, PredictSettings(roi=ROI), saliency)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("placed")


@pytest.fixture(scope="module")
def synthetic_settings(folder: Path) -> SyntheticSettings:
    return SyntheticSettings(volume=VOLUME, surroundings=2.0, white_matter=str(folder / "white"))


@pytest.fixture(scope="module")
def sanity_settings(folder: Path) -> SanitySettings:
    white = str(folder / "white")
    return SanitySettings(volume=VOLUME, spheres=2, sphere_volume=19.0, white_matter=white)


@pytest.fixture(scope="module")
def study(tiny_model: Model, folder: Path) -> Study:
    return make_study(tiny_model, folder, STUDY, in_head())


def test_a_lesion_is_copied_to_every_place(
    study: Study, synthetic_settings: SyntheticSettings, tiny_model: Model
) -> None:
    findings = synthetic(study, synthetic_settings)
    rows = {row["situation"]: row for row in findings.rows}
    assert list(rows) == list(SITUATIONS)
    assert findings.figure is not None
    assert {row["lesions"] for row in findings.summary} == {1}
    assert set().union(*findings.summary) == set(findings.summary_columns)
    own = [load(path) for path in study.entries[0].scan.images]
    for situation, row in rows.items():
        stem = f"sub-01_acq-{situation}7"
        made = study.out / "scans" / "synthetic"
        there = load(made / f"{stem}_dseg.nii.gz") > 0
        assert there.sum() == 12
        paths = (
            study.entries[0].scan.images
            if situation == "own"
            else [made / f"{stem}_{channel}.nii.gz" for channel in ("flair", "t1")]
        )
        for path, image in zip(paths, own, strict=True):
            np.testing.assert_array_equal(load(path)[there], image[omega()])
        image, _ = read_image(paths, ("flair", "t1"))
        logits = np.asarray(sliding_window(tiny_model, roi=ROI)(image), np.float64)
        expected = special.softmax(logits, axis=-1)[..., 1][there]
        assert row["score"] == pytest.approx(expected.mean(), abs=1e-5)
        assert row["detected"] == (expected.max() >= tiny_model.threshold)
        centre = np.argwhere(there).mean(0)
        np.testing.assert_allclose([row[f"{a}_mm"] for a in "xyz"], centre, atol=1e-5)


def test_places_are_where_they_should_be(
    study: Study, synthetic_settings: SyntheticSettings
) -> None:
    synthetic(study, synthetic_settings)
    made = study.out / "scans" / "synthetic"
    white, outside, surrounded = (
        load(made / f"sub-01_acq-{name}7_dseg.nii.gz") > 0
        for name in ("white", "outside", "surrounded")
    )
    assert white[16:31, 4:24, 3:17].sum() == 12
    np.testing.assert_array_equal(outside, surrounded)
    away = ndimage.distance_transform_edt(~in_head())
    copied = (load(made / "sub-01_acq-surrounded7_flair.nii.gz") != 0) & ~in_head()
    np.testing.assert_array_equal(copied, ndimage.distance_transform_edt(~surrounded) <= 2)
    assert away[copied].min() > 5
    bare = (load(made / "sub-01_acq-outside7_flair.nii.gz") != 0) & ~in_head()
    np.testing.assert_array_equal(bare, outside)


@pytest.mark.thorough
@pytest.mark.parametrize("experiment", ["synthetic", "sanity"])
def test_an_interrupted_experiment_goes_on(
    experiment: str,
    study: Study,
    synthetic_settings: SyntheticSettings,
    sanity_settings: SanitySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ask() -> list[dict[str, object]]:
        again = replace(study, notes=[])
        if experiment == "synthetic":
            return list(synthetic(again, synthetic_settings).rows)
        return list(sanity(again, sanity_settings).rows)

    before = ask()
    monkeypatch.delattr(module, "find_lesions")
    assert ask() == before


def test_rows_are_made_again_after_an_interrupted_change_of_settings(
    study: Study, sanity_settings: SanitySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = list(sanity(replace(study, notes=[]), sanity_settings).rows)
    made = study.out / "scans" / "sanity" / "sub-01_acq-domains_dseg.nii.gz"
    labels = load(made)
    with monkeypatch.context() as patched:
        patched.setattr(module.KeptRows, "keep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sanity(replace(study, notes=[]), replace(sanity_settings, spheres=1))
    assert (load(made) != labels).any()
    assert list(sanity(replace(study, notes=[]), sanity_settings).rows) == before
    np.testing.assert_array_equal(load(made), labels)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("experiment", "reads", "measured"),
    [("synthetic", "read_labels", 4), ("sanity", "read_map", 6)],
)
def test_what_was_measured_is_not_kept_in_memory(
    experiment: str,
    reads: str,
    measured: int,
    study: Study,
    synthetic_settings: SyntheticSettings,
    sanity_settings: SanitySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refs: list[weakref.ref[np.ndarray]] = []
    held: list[int] = []
    read = getattr(cohort_results, reads)

    def counting(*arguments: Any) -> Any:
        held.append(sum(ref() is not None for ref in refs))
        found = read(*arguments)
        refs.append(weakref.ref(found if reads == "read_labels" else found[0]))
        return found

    monkeypatch.setattr(cohort_results, reads, counting)
    own = replace(study, notes=[])
    if experiment == "synthetic":
        synthetic(own, synthetic_settings)
    else:
        sanity(own, sanity_settings)
    assert len(held) > measured  # then the examples
    assert max(held[:measured]) <= 1


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["dseg", "flair"])
def test_what_was_placed_is_placed_again_if_it_is_gone(
    name: str, study: Study, synthetic_settings: SyntheticSettings
) -> None:
    before = list(synthetic(replace(study, notes=[]), synthetic_settings).rows)
    made = study.out / "scans" / "synthetic" / f"sub-01_acq-white7_{name}.nii.gz"
    made.unlink()
    assert list(synthetic(replace(study, notes=[]), synthetic_settings).rows) == before
    assert made.exists()


@pytest.mark.thorough
def test_a_mask_of_white_matter_that_has_changed_is_read_again(
    tiny_model: Model, tmp_path: Path, synthetic_settings: SyntheticSettings
) -> None:
    study = make_study(tiny_model, tmp_path, "own", in_head())
    mask = tmp_path / "white" / "sub-01.nii.gz"
    white = load(mask)
    settings = replace(synthetic_settings, white_matter=str(mask.parent))
    synthetic(study, settings)
    other = np.zeros_like(white)
    other[24:31, 4:24, 3:17] = 1
    save(mask, other, np.eye(4))
    synthetic(replace(study, notes=[]), settings)
    copied = load(study.out / "scans" / "synthetic" / "sub-01_acq-white7_dseg.nii.gz") > 0
    assert other[copied].all()
    mask.unlink()
    gone = replace(study, notes=[])
    assert "white" not in {row["situation"] for row in synthetic(gone, settings).rows}
    assert any("no mask of white matter" in note for note in gone.notes)


def test_each_scan_has_places_of_its_own() -> None:
    def draw(subject: str, seed: int = 0, label: int = 1) -> float:
        entry = Entry(subject, Scan((Path("x"),)), {"subject": subject})
        return float(generator_of(entry, seed, label).random())

    assert draw("01") == draw("01")
    assert len({draw("01"), draw("02"), draw("01", seed=1), draw("01", label=2)}) == 4


def test_spheres_of_no_lesion_avoid_what_is_probable_but_too_small(
    study: Study, sanity_settings: SanitySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probable(model: Model, loaded: LoadedScan, settings: PredictSettings) -> Prediction:
        return replace(find_lesions(model, loaded, settings), segmented=half)

    half = np.zeros(SHAPE, bool)
    half[14:] = True
    own = replace(study, out=study.out.with_name("probable"), notes=[])
    monkeypatch.setattr(module, "find_lesions", probable)
    monkeypatch.setattr("jaxsal.experiments.sanity.explained", lambda *_: None)
    with pytest.raises(AttributeError):  # nothing is explained
        sanity(own, sanity_settings)
    domains = load(own.out / "scans" / "sanity" / "sub-01_acq-domains_dseg.nii.gz")
    assert (domains[~half] > 0).sum() == 12 + 2 * 19
    assert not domains[half].any()


@pytest.mark.parametrize("experiment", ["synthetic", "sanity"])
def test_summaries_fit_a_terminal(
    experiment: str,
    study: Study,
    synthetic_settings: SyntheticSettings,
    sanity_settings: SanitySettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if experiment == "synthetic":
        findings = synthetic(replace(study, notes=[]), synthetic_settings)
    else:
        findings = sanity(replace(study, notes=[]), sanity_settings)
    for names, rows in groupby(findings.summary, tuple):
        assert len(names) <= 8
        print_rows(names, list(rows))
    assert max(map(len, capsys.readouterr().out.rstrip().splitlines())) <= 100


def test_an_approximated_maximum_is_told(
    study: Study, sanity_settings: SanitySettings, folder: Path
) -> None:
    saliency = replace(study.saliency, voxels_per_lesion=2)
    own = replace(study, out=folder / "approximated", saliency=saliency, notes=[])
    assert any("is that of 2 voxels of each" in note for note in sanity(own, sanity_settings).notes)


def test_without_room_outside_the_rest_is_delivered(
    tiny_model: Model, folder: Path, synthetic_settings: SyntheticSettings
) -> None:
    full = make_study(tiny_model, folder, "full", np.ones(SHAPE, bool))
    findings = synthetic(full, synthetic_settings)
    assert [row["situation"] for row in findings.rows] == ["own", "white"]
    told = [note for note in findings.notes if "no room" in note]
    assert len(told) == 2
    again = replace(full, notes=[])
    assert synthetic(again, synthetic_settings).notes == findings.notes


def test_surroundings_without_any_voxel_are_no_situation(
    study: Study, synthetic_settings: SyntheticSettings
) -> None:
    own = replace(study, notes=[])
    findings = synthetic(own, replace(synthetic_settings, surroundings=0.9))  # of 1 mm voxels
    assert [row["situation"] for row in findings.rows] == ["own", "white", "outside"]
    assert any("no voxel is within 0.9 mm" in note for note in findings.notes)


def test_without_such_a_lesion_there_is_nothing_to_copy(
    study: Study, synthetic_settings: SyntheticSettings
) -> None:
    own = replace(study, notes=[])
    findings = synthetic(own, replace(synthetic_settings, volume=(90.0, 120.0)))
    assert (findings.rows, findings.figure) == ([], None)
    assert any("--volume" in note for note in findings.notes)


def test_a_mask_that_is_missing_is_told_and_the_rest_is_delivered(
    study: Study, synthetic_settings: SyntheticSettings, tmp_path: Path
) -> None:
    own = replace(study, notes=[])
    findings = synthetic(own, replace(synthetic_settings, white_matter=str(tmp_path)))
    assert [row["situation"] for row in findings.rows] == ["own", "outside", "surrounded"]
    assert any("sub-01.nii.gz" in note for note in findings.notes)


def test_domains_that_are_no_lesions_lie_beside_those_that_are(
    study: Study, sanity_settings: SanitySettings
) -> None:
    findings = sanity(study, sanity_settings)
    groups = [row["group"] for row in findings.rows]
    assert groups == ["white", "white", "TN", "TN", "lesion", "voxel"]
    assert findings.figure is not None
    assert set().union(*findings.summary) == set(findings.summary_columns)
    assert [row["n"] for row in findings.summary] == [2, 2, 2, 2, 1, 1, 1, 1]  # by channel
    assert any("which shows little" in note for note in findings.notes)
    voxels = {row["group"]: row["voxels"] for row in findings.rows}
    assert voxels == {"white": 19, "TN": 19, "lesion": 12, "voxel": 1}
    domains = load(study.out / "scans" / "sanity" / "sub-01_acq-domains_dseg.nii.gz")
    white = np.isin(domains, [1, 2])
    assert white[16:31, 4:24, 3:17].sum() == white.sum() == 38
    assert in_head()[np.isin(domains, [3, 4])].all()
    np.testing.assert_array_equal(domains == 5, omega())


def test_shares_are_those_of_the_maps(study: Study, sanity_settings: SanitySettings) -> None:
    rows = sanity(study, sanity_settings).rows
    (method,) = CohortResults(study.out / "runs" / "sanity").methods.values()
    scans = {scan.id: scan for scan in CohortResults(study.out / "runs" / "sanity").scans()}
    for row in rows:
        scan = scans["one voxels" if row["group"] == "voxel" else "one domains"]
        crop = scan.map(row["domain"], method)
        values = np.zeros((*SHAPE, 2))
        values[crop.box.slices] = np.abs(crop.values)
        away = ndimage.distance_transform_edt(scan.labels != row["domain"])
        for c, channel in enumerate(("flair", "t1")):
            part, total = values[..., c], values[..., c].sum()
            assert row[f"{channel}_inside"] == pytest.approx(part[away == 0].sum() / total)
            for mm in (3, 6, 12):
                expected = part[away <= mm].sum() / total
                assert row[f"{channel}_within_{mm}mm"] == pytest.approx(expected)
            if row["group"] in ("lesion", "voxel"):
                expected = part[omega()].sum() / total
                assert row[f"{channel}_in_lesion"] == pytest.approx(expected)
            else:
                assert row[f"{channel}_in_lesion"] is None


def test_the_middle_voxel_lies_in_the_domain() -> None:
    ring = np.zeros((9, 9, 9), bool)
    ring[2:7, 2:7, 4] = True
    ring[3:6, 3:6, 4] = False
    assert not ring[4, 4, 4]
    middle = middle_voxel(ring, Grid(ring.shape, np.diag([3.0, 1.0, 1.0, 1.0])))
    assert ring[tuple(middle)]
    assert middle[0] == 4  # 2 mm away along Y rather than 6 along X


def test_the_middle_voxel_of_a_ball_is_its_centre() -> None:
    away = np.linalg.norm(np.argwhere(np.ones((9, 9, 9))) - [4, 5, 3], axis=1).reshape(9, 9, 9)
    middle = middle_voxel(away < 3, Grid((9, 9, 9), np.eye(4)))
    np.testing.assert_array_equal(middle, [4, 5, 3])
