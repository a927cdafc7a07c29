"""BIDS folders: which files make a scan, and that nothing is guessed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from jaxsal.errors import InputError
from jaxsal.inputs.sources import read_cohort

pytest.importorskip("bids", reason="needs pybids")

CHANNELS = ("flair", "t1")


def tree(root: Path, *names: str) -> Path:
    """A dataset of empty files, each in the folder that its name asks for."""
    for name in names:
        folder, _, file = name.rpartition("/")
        parts = re.match(r"(sub-[^_]+)_(ses-[^_]+)?", file)
        below = [part for part in parts.groups() if part] + ["anat"] if parts else []
        path = root.joinpath(folder, *below, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def found(root: Path, select=None, channels=CHANNELS) -> dict[str, tuple[str, ...]]:
    """Names of the images of each scan."""
    entries = read_cohort(root, channels, select)
    assert all(entry.id == entry.stem for entry in entries)
    return {entry.id: tuple(path.name for path in entry.scan.images) for entry in entries}


def refusal(root: Path, select=None, channels=CHANNELS) -> str:
    with pytest.raises(InputError) as caught:
        read_cohort(root, channels, select)
    return str(caught.value)


def pair(stem: str, extension: str = "nii.gz") -> list[str]:
    return [f"{stem}_FLAIR.{extension}", f"{stem}_T1w.{extension}"]


@pytest.mark.parametrize("described", [None, "raw", "derivative", "broken"])
def test_sessions_and_runs_of_a_dataset_are_scans(tmp_path, described):
    stems = ["sub-02_ses-a_run-1", "sub-02_ses-a_run-02", "sub-02_ses-b", "sub-10_ses-a"]
    # Folders above the dataset that look like entities are none.
    root = tree(
        tmp_path / "sub-99 ü" / "ses-x_run-7",
        *[name for stem in stems for name in pair(stem)],
        *["sub-02_ses-a_run-1_FLAIR.json", "sub-02_ses-b_bold.nii.gz", "participants.tsv"],
        *["sourcedata/sub-02_FLAIR.nii.gz", ".jaxsal/sub-02_FLAIR.nii", "tpl-x_T1w.nii.gz"],
        *pair("derivatives/other/sub-02_ses-b"),
    )
    if described:
        text = json.dumps({"Name": "n", "BIDSVersion": "1.9.0", "DatasetType": described})
        text = "{" if described == "broken" else text
        (root / "dataset_description.json").write_text(text)
    first = read_cohort(root, CHANNELS)[0]
    folder = root / "sub-02" / "ses-a" / "anat"
    assert first.scan.images == tuple(folder / name for name in pair("sub-02_ses-a_run-02"))
    assert first.entities == {"subject": "02", "session": "a", "run": "02"}
    assert found(root) == {stem: tuple(pair(stem)) for stem in sorted(stems)}


def test_derivatives_are_selected_by_their_entities(tmp_path):
    space = "sub-1_run-1_space-MNI152NLin6Asym"
    root = tree(
        tmp_path,
        *["sub-1_run-1_desc-preproc_T1w.nii.gz", f"{space}_desc-preproc_T1w.nii.gz"],
        *[f"{space}_FLAIR.nii.gz", "sub-1_run-1_FLAIR.nii.gz"],
        *[f"{space}_label-lesion_mask.nii.gz", f"{space}_desc-brain_mask.nii.gz"],
    )
    select = {
        "T1": {"desc": "preproc", "space": "MNI152NLin6Asym"},
        "flair": {"space": "MNI152NLin6Asym"},
        "reference": {"suffix": "mask", "label": "lesion"},
    }
    (entry,) = read_cohort(root, CHANNELS, select)
    names = (f"{space}_FLAIR.nii.gz", f"{space}_desc-preproc_T1w.nii.gz")
    assert tuple(path.name for path in entry.scan.images) == names
    assert entry.scan.reference.name == f"{space}_label-lesion_mask.nii.gz"
    assert entry.id == space
    native = {"t1": {"space": "", "desc": "preproc"}, "flair": {"space": ""}}
    assert found(root, native) == {
        "sub-1_run-1": ("sub-1_run-1_FLAIR.nii.gz", "sub-1_run-1_desc-preproc_T1w.nii.gz")
    }


def test_entities_of_one_channel_alone_do_not_part_scans(tmp_path):
    root = tree(tmp_path, "sub-1_acq-3D_FLAIR.nii", "sub-1_acq-mprage_run-1_T1w.nii")
    assert list(found(root)) == ["sub-1"]


def test_masks_of_a_pipeline_go_with_raw_images(tmp_path):
    root = tree(
        tmp_path,
        *[*pair("sub-1_run-1"), *pair("sub-2_run-1"), *pair("sub-2_run-2"), *pair("sub-3")],
        *["derivatives/manual/sub-1_mask.nii.gz", "derivatives/auto/sub-1_mask.nii.gz"],
        *["derivatives/manual/sub-2_run-2_mask.nii.gz", "derivatives/manual/sub-9_mask.nii.gz"],
    )
    select = {"instances": {"suffix": "mask", "pipeline": "manual"}}
    with pytest.warns(UserWarning, match=r"2 of 4 scans have no instances .*: sub-2_run-1, sub-3"):
        entries = read_cohort(root, CHANNELS, select)
    masks = {e.id: e.scan.instances and e.scan.instances.relative_to(root) for e in entries}
    assert masks == {
        "sub-1_run-1": Path("derivatives/manual/sub-1/anat/sub-1_mask.nii.gz"),
        "sub-2_run-1": None,
        "sub-2_run-2": Path("derivatives/manual/sub-2/anat/sub-2_run-2_mask.nii.gz"),
        "sub-3": None,
    }
    assert "derivatives/none does not exist" in refusal(root, {"t1": {"pipeline": "none"}})


def test_a_missing_image_is_one_that_does_not_exist(tmp_path):
    root = tree(tmp_path, *pair("sub-1_run-1"), "sub-1_run-2_FLAIR.nii", "sub-2_T1w.nii")
    entries = read_cohort(root, CHANNELS)
    assert [entry.id for entry in entries] == ["sub-1_run-1", "sub-1_run-2", "sub-2"]
    absent = [p for e in entries for p in e.scan.images if not p.exists()]
    assert absent == [
        root / "sub-1/anat/sub-1_run-2_*T1w.nii*",
        root / "sub-2/anat/sub-2_*FLAIR.nii*",
    ]


def test_a_choice_between_images_is_left_to_the_user_for_all_scans_at_once(tmp_path):
    root = tree(
        tmp_path,
        *[*pair("sub-1"), "sub-1_acq-2D_FLAIR.nii.gz", *pair("sub-2"), *pair("sub-3")],
        *["sub-3_FLAIR.nii", "sub-3_rec-norm_T1w.nii.gz"],
    )
    heading, first, third = refusal(root).split("\n  ")
    assert heading == f"{root} has 2 problems:"
    assert first == (
        "sub-1: 2 images for flair: sub-1_FLAIR.nii.gz (acquisition:) or "
        "sub-1_acq-2D_FLAIR.nii.gz (acquisition:2D): select one, such as "
        "--select flair=suffix:FLAIR,acquisition:"
    )
    assert "sub-3_FLAIR.nii (extension:.nii)" in third
    assert "; 2 images for t1: " in third
    chosen = {"flair": {"acq": "", "extension": ".nii.gz"}, "t1": {"rec": ""}}
    assert found(root, chosen) == {s: tuple(pair(s)) for s in ("sub-1", "sub-2", "sub-3")}


def test_images_that_differ_in_their_folder_only_cannot_be_selected(tmp_path):
    root = tree(tmp_path, *pair("a/sub-1"), "b/sub-1_T1w.nii.gz")
    assert "a/sub-1/anat and " in refusal(root)


@pytest.mark.parametrize(
    ("channels", "select", "said"),
    [
        (CHANNELS, {"t2": {"suffix": "T2w"}}, "no 't2' to select images for, only flair, t1"),
        (CHANNELS, {"t1": {"colour": "red"}}, "no entity 'colour'"),
        (CHANNELS, {"t1": {"desc": "x"}}, r"no image for t1 \(suffix:T1w, desc:x\)"),
        (CHANNELS, {"reference": {"suffix": "mask"}}, r"no image for reference \(suffix:mask\)"),
        (("flair", "swi"), None, "select the images of swi"),
        (("flair", "T2"), None, r"no image for T2 \(suffix:T2w\)"),
        (("flair", "t2star"), None, r"no image for t2star \(suffix:T2starw\)"),
    ],
)
def test_channels_without_images_are_refused(tmp_path, channels, select, said):
    assert re.search(said, refusal(tree(tmp_path, *pair("sub-1")), select, channels))


def test_subjects_alike_but_for_capitals_are_refused(tmp_path):
    root = tree(tmp_path, *pair("sub-a"), *pair("sub-A"))
    assert "sub-A and sub-a differ in upper and lower case only" in refusal(root)


def test_how_to_install_pybids_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bids.layout", None)
    assert "pip install 'jaxsal[bids]'" in refusal(tmp_path)


def test_a_cohort_is_a_folder_or_a_table(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none")
    table = tmp_path / "s.tsv"
    table.write_text("scan\tflair\tt1\n1\tf\tt\n")
    assert found_in_table(table) == ["1"]
    assert "is a table" in refusal(table, {"t1": {"desc": "x"}})


def found_in_table(path: Path) -> list[str]:
    return [entry.id for entry in read_cohort(str(path), CHANNELS)]
