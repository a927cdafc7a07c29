"""Folders of images as nnU-Net names them: one scan, or a cohort."""

from __future__ import annotations

from pathlib import Path

import pytest

import jaxsal
from jaxsal.errors import InputError
from jaxsal.inputs.nnunet_cases import images_of
from jaxsal.inputs.sources import has_subjects

CHANNELS = ("flair", "t1")


def make(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def pair(case: str) -> tuple[str, str]:
    return f"{case}_0000.nii.gz", f"{case}_0001.nii.gz"


def test_a_folder_of_one_case_stands_for_its_images(tmp_path: Path) -> None:
    folder = make(tmp_path, *reversed(pair("MS_012")), "notes.txt", "._MS_012_0000.nii.gz")
    assert images_of([folder]) == tuple(folder / name for name in pair("MS_012"))


def test_one_of_several_cases_is_given_by_its_name(tmp_path: Path) -> None:
    folder = make(tmp_path, *pair("a"), *pair("b"))
    assert images_of([folder / "b"]) == tuple(folder / name for name in pair("b"))
    with pytest.raises(InputError, match=r"holds 2 cases \(a, b\): give one.*cohort run"):
        images_of([folder])


def test_files_are_taken_as_they_are_given(tmp_path: Path) -> None:
    folder = make(tmp_path, *pair("a"))
    given = tuple(folder / name for name in pair("a"))
    assert images_of(given) == given
    assert images_of(given[:1]) == given[:1]
    assert images_of([folder / "missing.nii.gz"]) == (folder / "missing.nii.gz",)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("FLAIR.nii.gz",), "holds no CASE_0000"),
        (("a_0001.nii.gz", "a_0002.nii.gz"), "image _0000 is missing; there are a_0001"),
    ],
)
def test_folders_of_other_images_are_refused(
    tmp_path: Path, names: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        images_of([make(tmp_path, *names)])


def test_a_folder_of_cases_is_a_cohort(tmp_path: Path) -> None:
    images = make(tmp_path / "imagesTs", *pair("MS_1"), *pair("MS_2"))
    masks = make(tmp_path / "labelsTs", "MS_1.nii.gz", "MS_2.nii")
    entries = jaxsal.read_cohort(images, CHANNELS)
    assert [(e.id, e.stem) for e in entries] == [("MS_1", "sub-MS1"), ("MS_2", "sub-MS2")]
    assert entries[1].scan.images == tuple(images / name for name in pair("MS_2"))
    assert entries[0].scan.reference is None
    found = jaxsal.read_cohort(images, CHANNELS, references=masks)
    assert [e.scan.reference for e in found] == [masks / "MS_1.nii.gz", masks / "MS_2.nii"]
    assert not has_subjects(images)


def test_all_that_is_wrong_with_cases_is_listed(tmp_path: Path) -> None:
    images = make(tmp_path / "imagesTs", *pair("a"), "b_0000.nii.gz", "c_0001.nii.gz")
    masks = make(tmp_path / "labelsTs")
    with pytest.raises(InputError) as raised:
        jaxsal.read_cohort(images, CHANNELS, references=masks)
    said = str(raised.value)
    assert "3 problems" in said
    assert "a: there is no mask" in said
    assert "b: there are 1 images for 2 channels, flair, t1" in said
    assert "c: the image _0000 is missing" in said


def test_references_are_for_such_folders(tmp_path: Path) -> None:
    make(tmp_path / "sub-01" / "anat", "sub-01_FLAIR.nii.gz")
    with pytest.raises(InputError, match="a folder of references goes with"):
        jaxsal.read_cohort(tmp_path, CHANNELS, references=tmp_path)
