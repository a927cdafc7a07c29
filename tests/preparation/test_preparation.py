"""Scans prepared as a user does it: registered, corrected, carried along, gone on with."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.moved_heads import (
    LANDMARKS,
    T1_AFFINE,
    T1_SHAPE,
    TRUE_MOVE,
    lesion,
    make_head,
    points,
    save,
    true_flair,
)
from helpers.official_validator import bids_issues
from helpers.tiny import contents, load, read_table
from nibabel.affines import apply_affine
from SimpleITK import ReadTransform

from jaxsal.cli.main import main
from jaxsal.errors import InputError
from jaxsal.inputs.entries import OTHER_ROLES
from jaxsal.inputs.sources import read_cohort
from jaxsal.preparation.carry import carry_mask
from jaxsal.preparation.names import PreparedNames, is_prepared_of, suffixes_of
from jaxsal.preparation.run import prepare_cohort
from jaxsal.preparation.scan import record_path
from jaxsal.preparation.settings import PreparationSettings
from jaxsal.store.records import ScanRecord

CHANNELS = ("flair", "t1")
VOXEL = 2.5  # mm
BIAS_ONLY = ["--skip-registration", "--channels", "t1"]


def manifest(folder: Path, *rows: tuple[object, ...], columns: str = "flair t1 reference") -> Path:
    lines = ["\t".join(["scan", *columns.split()]), *("\t".join(map(str, row)) for row in rows)]
    path = folder / "scans.tsv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("heads")
    return [make_head(folder / f"Kopf {seed}", seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def prepared(heads: list[dict[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans prepared by two processes, and one that is broken."""
    folder = tmp_path_factory.mktemp("prepared")
    rows = [
        (f"päd {i}", *(head[r] for r in (*CHANNELS, "reference"))) for i, head in enumerate(heads)
    ]
    broken = folder / "broken.nii.gz"
    broken.write_bytes(heads[0]["flair"].read_bytes()[:5000])
    table = manifest(folder, rows[0], ("bad", broken, heads[0]["t1"], "n/a"), rows[1])
    arguments = ["--out", str(folder / "out"), "--mask-on", "flair", "--processes", "2"]
    assert main(["preprocess", str(table), *arguments]) == 3
    return folder


def image(prepared: Path, name: str) -> Path:
    return prepared / "out" / "sub-pad0" / "anat" / f"sub-pad0_{name}"


def test_a_known_move_is_found(prepared: Path) -> None:
    transform = ReadTransform(str(image(prepared, "from-flair_to-t1_mode-image_xfm.txt")))
    flip = np.array([-1, -1, 1])  # ITK's x and y point the other way
    found = np.array([transform.TransformPoint(point) for point in LANDMARKS * flip]) * flip
    errors = np.linalg.norm(found - apply_affine(TRUE_MOVE, LANDMARKS), axis=1)
    assert errors.max() < 0.5 * VOXEL
    assert np.linalg.norm(apply_affine(TRUE_MOVE, LANDMARKS) - LANDMARKS, axis=1).min() > 2 * VOXEL


def test_the_registered_image_is_the_head_that_did_not_move(prepared: Path) -> None:
    found, expected = load(image(prepared, "desc-preproc_FLAIR.nii.gz")), true_flair(1)
    places = points(T1_SHAPE, T1_AFFINE)
    deep, far = ((places / 30.0) ** 2).sum(-1) < 1, ((places / 52.0) ** 2).sum(-1) > 1
    alike = np.corrcoef(found[deep], expected[deep])[0, 1]
    assert alike > 0.9
    assert np.all(found[far] == 0)  # exactly, as normalisation leaves zeros out
    row = read_table(prepared / "out" / "cohort.tsv")[0]
    assert float(row["flair_information_after"]) > 1.5 * float(row["flair_information_before"])


def test_every_column_is_described(prepared: Path) -> None:
    told = json.loads((prepared / "out" / "cohort.json").read_bytes())
    assert list(told) == list(read_table(prepared / "out" / "cohort.tsv")[0])
    assert "nats" in told["flair_information_before"]["Description"]


def test_a_mask_moves_with_the_image_that_it_was_drawn_on(prepared: Path) -> None:
    found = load(image(prepared, "label-lesion_mask.nii.gz"))
    expected = lesion(points(T1_SHAPE, T1_AFFINE))
    assert set(np.unique(found)) == {0, 1}
    overlap = 2 * np.count_nonzero(found & expected) / (found.sum() + expected.sum())
    assert overlap > 0.85


@pytest.mark.parametrize(
    "name", ["desc-preproc_FLAIR.nii.gz", "desc-preproc_T1w.nii.gz", "label-lesion_mask.nii.gz"]
)
def test_results_lie_on_the_fixed_images_oblique_grid(
    prepared: Path, heads: list[dict[str, Path]], name: str
) -> None:
    found, fixed = nib.load(image(prepared, name)), nib.load(heads[0]["t1"])
    assert found.shape == fixed.shape
    for form in ("sform", "qform"):
        mine, code = getattr(found.header, f"get_{form}")(coded=True)
        theirs, other_code = getattr(fixed.header, f"get_{form}")(coded=True)
        np.testing.assert_array_equal(mine, theirs)
        assert code == other_code == 1


def test_the_results_are_a_cohort(prepared: Path) -> None:
    listed = read_cohort(prepared / "out" / "cohort.tsv", CHANNELS)
    assert [entry.id for entry in listed] == ["päd 0", "päd 1"]
    assert [entry.stem for entry in listed] == ["sub-pad0", "sub-pad1"]
    select = {"reference": {"suffix": "mask", "label": "lesion"}}
    for own, found in zip(listed, read_cohort(prepared / "out", CHANNELS, select), strict=True):
        files = (*own.scan.images, own.scan.reference)
        assert all(path.exists() for path in files)
        assert files == (*found.scan.images, found.scan.reference)


def test_the_official_validator_finds_no_error_in_prepared_scans(prepared: Path) -> None:
    assert bids_issues(prepared / "out") == []
    others = [issue.split()[0] for issue in bids_issues(prepared / "out", "warning")]
    assert others == ["TOO_FEW_AUTHORS"]  # of fewer than two


@pytest.mark.thorough
def test_label_maps_and_channels_that_bids_does_not_know_are_no_errors(
    heads: list[dict[str, Path]], tmp_path: Path
) -> None:
    head = heads[0]
    table = manifest(
        tmp_path,
        ("a", head["t1"], head["t1"], head["t1"], "s"),
        columns="dir t1 instances session",
    )
    settings = PreparationSettings(("dir", "t1"), register=False)
    labels = np.zeros(load(head["t1"]).shape, np.uint8)
    labels[20, 20, 20] = 1
    lesions = save(tmp_path / "labels.nii.gz", labels, nib.load(head["t1"]).affine)
    entries = read_cohort(table, settings.channels)
    (entry,) = entries
    entry = replace(entry, scan=replace(entry.scan, instances=lesions))
    (record,) = prepare_cohort([entry], tmp_path / "out", settings, 1)
    assert record.status == "finished"
    assert bids_issues(tmp_path / "out") == []


@pytest.mark.thorough
def test_scans_prepared_by_another_version_are_refused_or_replaced(
    heads: list[dict[str, Path]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    entries = read_cohort(manifest(tmp_path, ("a", heads[0]["t1"]), columns="t1"), ("t1",))
    settings = PreparationSettings(("t1",), register=False)
    prepare_cohort(entries, out, settings, 1)
    told = json.loads((out / "run.json").read_bytes())
    del told["layout"]
    (out / "run.json").write_text(json.dumps(told))
    (out / "scans.tsv").write_text("of that version")
    with pytest.raises(InputError, match="written by another version of jaxsal"):
        prepare_cohort(entries, out, settings, 1)
    prepare_cohort(entries, out, settings, 1, overwrite=True)
    assert not (out / "scans.tsv").exists()
    (out / "scans.tsv").write_text("mine")
    prepare_cohort([], out, settings, 1, overwrite=True)
    assert (out / "scans.tsv").read_text() == "mine"


def test_a_record_of_a_prepared_scan_has_no_file_of_others_removed(tmp_path: Path) -> None:
    out, settings = tmp_path / "out", PreparationSettings(("t1",), register=False)
    prepare_cohort([], out, settings, 1)
    (out / "README").write_text("mine")
    files = {"README": {"bytes": 1, "sha256": ""}}
    ScanRecord("a", "sub-a", "finished", {}, files=files).write(record_path(out, "sub-a"))
    with pytest.warns(UserWarning, match="'README' is no name of this scan's results"):
        prepare_cohort([], out, settings, 1, overwrite=True)
    assert (out / "README").read_text() == "mine"


@pytest.mark.parametrize("channels", [CHANNELS, ("séquence 1", "T1 a", "T1 b")])
def test_prepared_files_are_known_by_their_names(channels: tuple[str, ...]) -> None:
    stem = "sub-a_ses-1_run-2"
    names, other = (PreparedNames(s, suffixes_of(channels)) for s in (stem, f"{stem}_space-x"))
    makers = [
        names.image,
        lambda channel: names.image(channel, "json"),
        lambda channel: names.transform(channel, channels[0]),
    ]
    own = [names.picture, *(make(channel) for make in makers for channel in channels)]
    for role in OTHER_ROLES:
        own += [names.mask(role), names.mask(role, "json")]
    assert [name for name in own if not is_prepared_of(stem, name)] == []
    others = ["README", ".jaxsal/scans/sub-a.json", other.picture, other.mask("mask")]
    assert [name for name in others if is_prepared_of(stem, name)] == []


def test_a_broken_scan_is_told_and_leaves_nothing(prepared: Path) -> None:
    (row,) = read_table(prepared / "out" / "failed.tsv")
    assert row["scan"] == "bad"
    assert "broken.nii.gz is truncated" in row["reason"]
    names = contents(prepared / "out")
    assert not [name for name in names if "sub-bad" in name or "unfinished" in name]


def test_sidecars_tell_how_images_came_about(prepared: Path) -> None:
    told = json.loads(image(prepared, "desc-preproc_FLAIR.json").read_bytes())
    assert told["Registration"]["Transform"] == "rigid"
    assert told["SourceFile"]["sha256"]
    assert told["Sources"] == [Path(told["SourceFile"]["file"]).as_uri()]
    assert {"itk-elastix", "SimpleITK", "jaxsal"} <= set(told["Software"])
    picture = prepared / "out" / "sub-pad0" / "figures" / "sub-pad0_desc-preproc_check.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_is_done_is_not_done_again_and_what_changed_is(
    prepared: Path, heads: list[dict[str, Path]]
) -> None:
    out = prepared / "out"
    settings = PreparationSettings(mask_on="flair")
    entries = read_cohort(prepared / "scans.tsv", CHANNELS)
    entries = [entries[0], entries[2]]
    before = {name: data for name, data in contents(out).items() if "sub-" in name}
    image(prepared, "desc-preproc_T1w.json").unlink()  # so that this scan is done again
    new: dict[str, bool] = {}

    def see(record: ScanRecord, is_new: bool) -> None:
        new[record.stem] = is_new

    prepare_cohort(entries, out, settings, 1, see)
    assert new == {"sub-pad0": True, "sub-pad1": False}
    after = {name: data for name, data in contents(out).items() if "sub-" in name}
    timed = ".jaxsal/scans/sub-pad0.json"  # which holds the seconds that it took
    assert before.pop(timed)
    assert after.pop(timed)
    assert after == before  # one process or two: the same bytes


@pytest.mark.thorough
def test_other_settings_are_refused_unless_all_is_done_again(
    heads: list[dict[str, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(manifest(tmp_path, ("a", heads[0]["t1"]), columns="t1"))
    arguments = ["preprocess", table, "--out", str(tmp_path / "out"), "--processes", "1"]
    assert main([*arguments, *BIAS_ONLY]) == 0
    assert main([*arguments, "--channels", "t1"]) == 2
    assert (
        "scans prepared with other settings: register was False, is True."
        in capsys.readouterr().err
    )
    assert main([*arguments, "--channels", "t1", "--overwrite"]) == 0
    assert main(["preprocess", table, "--out", str(tmp_path), *BIAS_ONLY]) == 2


@pytest.mark.thorough
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_record_that_names_a_file_elsewhere_is_damaged_and_the_file_stays(
    overwrite: bool, heads: list[dict[str, Path]], tmp_path: Path
) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_text("precious")
    entries = read_cohort(manifest(tmp_path, ("a", heads[0]["t1"]), columns="t1"), ("t1",))
    settings = PreparationSettings(("t1",), register=False)
    prepare_cohort(entries, out, settings, 1)
    path = out / ".jaxsal" / "scans" / "sub-a.json"
    told = json.loads(path.read_bytes())
    crafted = {"bytes": 8, "sha256": "0" * 64}
    path.write_text(json.dumps(told | {"files": told["files"] | {"../victim": crafted}}))
    new: list[bool] = []
    with pytest.warns(UserWarning, match=r"sub-a\.json is damaged"):
        prepare_cohort(
            entries, out, settings, 1, lambda _, is_new: new.append(is_new), overwrite=overwrite
        )
    assert new == [True]
    assert victim.read_text() == "precious"
    assert json.loads(path.read_bytes())["files"] == told["files"]


def test_masks_on_another_grid_name_both(heads: list[dict[str, Path]], tmp_path: Path) -> None:
    stray = save(tmp_path / "stray.nii.gz", np.ones((9, 9, 9), np.uint8), np.eye(4))
    rows = [("drawn", *(heads[0][r] for r in (*CHANNELS, "reference")))]
    rows += [("stray", heads[0]["flair"], heads[0]["t1"], stray)]
    entries = read_cohort(manifest(tmp_path, *rows), CHANNELS)
    drawn, lost = prepare_cohort(entries, tmp_path / "out", PreparationSettings(), 1)
    assert f"{heads[0]['reference']} (38, 40, 26) does not lie on the grid of t1" in drawn.reason
    assert "give --mask-on flair" in drawn.reason
    assert f"{stray} (9, 9, 9) does not lie" in lost.reason
    assert str(heads[0]["flair"]) in lost.reason
    assert not read_table(tmp_path / "out" / "cohort.tsv")


@pytest.mark.thorough
def test_a_mask_is_resampled_once(
    heads: list[dict[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried: list[Path] = []

    def carry(role: str, path: Path, *others: Any) -> tuple[np.ndarray, str]:
        carried.append(path)
        return carry_mask(role, path, *others)

    monkeypatch.setattr("jaxsal.preparation.scan.carry_mask", carry)
    head = heads[0]
    table = manifest(tmp_path, ("a", head["flair"], head["reference"]), columns="flair reference")
    settings = PreparationSettings(("flair",), fixed="flair", register=False)
    (record,) = prepare_cohort(read_cohort(table, ("flair",)), tmp_path / "out", settings, 1)
    assert record.status == "finished"
    assert carried == [head["reference"]]


@pytest.mark.parametrize("kind", ["series", "colour"])
def test_images_must_be_volumes_of_numbers(kind: str, tmp_path: Path) -> None:
    colour = np.zeros((8, 8, 8), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    data = np.ones((8, 8, 8, 3), np.float32) if kind == "series" else colour
    path = save(tmp_path / "t1.nii.gz", data, np.eye(4))
    entries = read_cohort(manifest(tmp_path, ("a", path), columns="t1"), ("t1",))
    (record,) = prepare_cohort(entries, tmp_path / "out", PreparationSettings(("t1",)), 1)
    rule = "must hold one 3D volume" if kind == "series" else "must hold real numbers"
    assert f"{path} {rule}" in record.reason


@pytest.mark.parametrize(
    ("module", "package"),
    [("itk.itkElastixRegistrationMethodPython", "itk-elastix"), ("SimpleITK", "SimpleITK")],
)
def test_a_missing_library_is_told(
    module: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    table = manifest(tmp_path, ("a", "f.nii", "t.nii"), columns="flair t1")
    assert main(["preprocess", str(table), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert f"needs {package}" in told
    assert "pip install 'jaxsal[preprocess]'" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channels": ("t1", "T1")}, "different names"),
        ({"fixed": "t2"}, "fixed must be one of the channels flair, t1; got 't2'"),
        ({"mask_on": "t2"}, "mask-on must be one of"),
        ({"transform": "elastic"}, "rigid or affine, got 'elastic'"),
        ({"register": False, "correct_bias": False}, "nothing to do"),
        ({"voxel_size": (1.0, 0.0, 1.0)}, r"three numbers of mm, .* got \(1.0, 0.0, 1.0\)"),
        ({"voxel_size": (1.0, 1.0)}, "three numbers of mm"),
        ({"allow_upsampling": True}, "goes with a voxel-size"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PreparationSettings(**wrong)


def test_the_default_of_fixed_is_told_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(tmp_path / "scans.tsv"), "--out", str(tmp_path / "out")]
    assert main(["preprocess", *given, "--channels", "flair", "t2"]) == 2
    assert "the default of --fixed, t1, is not among --channels flair t2" in capsys.readouterr().err
