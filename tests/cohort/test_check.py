"""Everything wrong with a cohort's files, at once and in order."""

from __future__ import annotations

import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.tiny import CHANNELS, SHAPE, TinyScan, save

from jaxsal.cohort.check import check
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry, Scan, bids_labels
from jaxsal.inputs.problems import Problem
from jaxsal.inputs.sources import warn_if_mixed
from jaxsal.preprocessing import Normalisation, Preprocessing
from jaxsal.processes import in_processes

HEADERS = pytest.mark.parametrize("headers_only", [False, True], ids=["voxels", "headers"])


@pytest.fixture
def bad(tmp_path: Path, scan: TinyScan) -> Path:
    """A folder of files that cannot be used."""
    whole = scan.flair.read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.nii").touch()
    (tmp_path / "text.nii").write_text("no image")
    (tmp_path / "folder.nii").mkdir()
    data = nib.load(scan.flair).get_fdata(dtype=np.float32)
    save(tmp_path / "short.nii.gz", data[1:])
    save(tmp_path / "moved.nii.gz", data, scan.affine + np.eye(4)[3] * [[1], [0], [0], [0]])
    save(tmp_path / "4d.nii.gz", np.stack([data] * 2, -1))
    save(tmp_path / "flat.nii.gz", np.full(SHAPE, 3, np.int16))
    save(tmp_path / "zero.nii.gz", np.zeros(SHAPE, np.uint8))
    data[3, 4, 5] = np.nan
    save(tmp_path / "nan.nii.gz", data)
    return tmp_path


def entry(name: str, *images: Path, reference: Path | None = None, **others: Path) -> Entry:
    return Entry(name, Scan(images, reference, **others), bids_labels(name, {}))


def said(problems: list[Problem]) -> list[tuple[str, str, str]]:
    return [(problem.id, problem.role, problem.severity) for problem in problems]


OF_HEADERS = {
    "missing.nii": "does not exist",
    "empty.nii": "is empty",
    "text.nii": "is not a NIfTI file",
    "folder.nii": "is a folder",
    "short.nii.gz": "shape differs",
    "moved.nii.gz": "differs by",
    "4d.nii.gz": "one 3D volume",
}
OF_VOXELS = {
    "cut.nii.gz": "is truncated",
    "nan.nii.gz": "finite",
    "flat.nii.gz": "has the value 3",
    "zero.nii.gz": "is zero in all",
}


@pytest.mark.parametrize("name", [*OF_HEADERS, *OF_VOXELS])
@HEADERS
def test_every_bad_image_is_found(bad, scan, name, headers_only):
    problems = check(
        [entry("1", scan.flair, bad / name)], CHANNELS, processes=1, headers_only=headers_only
    )
    if headers_only and name in OF_VOXELS:
        assert problems == []
        return
    (problem,) = problems
    assert (problem.id, problem.role, problem.severity) == ("1", "t1", "error")
    assert str(bad / name) in problem.message
    assert (OF_HEADERS | OF_VOXELS)[name] in problem.message
    assert "\n" not in str(problem)


@HEADERS
def test_every_file_of_a_scan_is_told_of_not_the_first_alone(bad, scan, headers_only):
    scans = [
        entry("a", bad / "missing.nii", bad / "4d.nii.gz", reference=bad / "text.nii"),
        entry("b", scan.flair, scan.t1, reference=bad / "short.nii.gz"),
        entry("c", bad / "missing.nii", scan.t1, instances=bad / "moved.nii.gz"),
    ]
    problems = check(scans, CHANNELS, processes=1, headers_only=headers_only)
    errors = [problem for problem in problems if problem.severity == "error"]
    assert [(problem.id, problem.role) for problem in errors] == [
        *[("a", "flair"), ("a", "t1"), ("a", "reference")],
        *[("b", "reference"), ("c", "flair"), ("c", "instances")],
    ]


def test_values_of_masks_and_label_maps_are_checked(tmp_path, scan):
    negative = save(tmp_path / "negative.nii.gz", np.full(SHAPE, -1, np.int16))
    half = save(tmp_path / "half.nii.gz", np.full(SHAPE, 0.5, np.float32))
    none = save(tmp_path / "none.nii.gz", np.zeros(SHAPE, np.uint8))
    masks = [{"reference": negative}, {"reference": half}, {"instances": half}, {"reference": none}]
    entries = [entry(str(i), *scan.images, **mask) for i, mask in enumerate(masks)]
    found = [p for p in check(entries, CHANNELS, processes=1) if "also" not in p.message]
    assert said(found) == [
        ("0", "reference", "error"),
        ("1", "reference", "error"),
        ("2", "instances", "error"),
        ("3", "reference", "warning"),
    ]
    assert str(found[3]).startswith("3: reference: warning: ")
    assert "no lesion" in found[3].message


def test_masks_of_the_brain_are_checked_and_used(bad, scan, tmp_path):
    air = np.random.default_rng(0).normal(0, 30, SHAPE).astype(np.float32)
    head = nib.load(scan.t1).get_fdata() != 0
    noisy = save(tmp_path / "noisy.nii.gz", np.where(head, 400 + air, air), scan.affine)
    brain = save(tmp_path / "brain.nii.gz", head.astype(np.uint8), scan.affine)
    entries = [
        entry("none", noisy, scan.t1),
        entry("brain", noisy, scan.t1, mask=brain),
        entry("empty", noisy, scan.t1, mask=bad / "zero.nii.gz"),
        entry("short", noisy, scan.t1, mask=bad / "short.nii.gz"),
    ]
    found = [p for p in check(entries, CHANNELS, processes=1) if "also" not in p.message]
    assert said(found) == [
        ("none", "flair", "warning"),
        ("empty", "flair", "warning"),
        ("empty", "mask", "error"),
        ("short", "flair", "warning"),
        ("short", "mask", "error"),
    ]
    assert "13,440 of 13,440 voxels count as head" in found[0].message
    assert "is empty" in found[2].message


@pytest.mark.parametrize("preprocessing", [None, "nnU-Net's"])
def test_a_background_that_is_not_zero_is_told_of(scan, tmp_path, preprocessing):
    moved = save(tmp_path / "moved.nii.gz", nib.load(scan.t1).get_fdata() + 7, scan.affine)
    if preprocessing:
        spacing = nib.affines.voxel_sizes(scan.affine)
        scheme = Normalisation("zscore", masked=True)
        preprocessing = Preprocessing((scheme, scheme), tuple(spacing), (8, 8, 8))
    (problem,) = check([entry("1", scan.flair, moved)], CHANNELS, preprocessing, processes=1)
    assert said([problem]) == [("1", "t1", "warning")]
    assert "8,992 of 13,440 voxels hold 7 or nearly so" in problem.message


def test_a_mask_without_an_image_to_lie_on_is_still_read(bad):
    problems = check(
        [entry("1", *[bad / "missing.nii"] * 2, reference=bad / "nan.nii.gz")],
        CHANNELS,
        processes=1,
    )
    assert "finite" in problems[2].message


def test_what_may_be_a_mistake_is_warned_of(tmp_path, scan):
    shutil.copy(scan.flair, tmp_path / "x.nii.gz")
    (tmp_path / "again.nii.gz").symlink_to(tmp_path / "x.nii.gz")
    entries = [
        entry("a", *scan.images),
        entry("b", tmp_path / "x.nii.gz", tmp_path / "again.nii.gz"),
        entry("c", scan.t1, scan.flair),
    ]
    problems = check(entries, CHANNELS, processes=1)
    assert [problem.severity for problem in problems] == ["warning"] * 5
    assert [str(problem).partition(": warning: ")[0] for problem in problems] == [
        *["b: t1", "c: flair", "c: t1", "c: flair", "c: t1"]
    ]
    messages = [problem.message for problem in problems]
    assert messages[0] == f"{tmp_path / 'again.nii.gz'} is also the flair of b"
    assert "t1.nii.gz is taken for the channel flair" in messages[1]
    assert messages[3] == f"{scan.t1} is also the t1 of a"


@HEADERS
@pytest.mark.parametrize("orientation", [None, "SPL"])
def test_images_unlike_the_trainings_are_found(scan, orientation, headers_only):
    flat, spacing = Normalisation("none"), nib.affines.voxel_sizes(scan.affine)[::-1]
    preprocessing = Preprocessing(
        (flat, flat), tuple(spacing), orientation=orientation, permit="none"
    )
    if orientation:  # in which its voxels have that size
        assert check([entry("1", *scan.images)], CHANNELS, preprocessing, processes=1) == []
        return
    problems = check(
        [entry("1", *scan.images)], CHANNELS, preprocessing, 1, headers_only=headers_only
    )
    assert said(problems) == [("1", "flair", "error"), ("1", "t1", "error")]
    assert "voxels of 1.2 × 0.9 × 1 mm and the image has 1 × 0.9 × 1.2 mm" in problems[0].message


@HEADERS
def test_scans_of_other_axes_or_voxels_than_most_are_listed(scan, tmp_path, headers_only):
    image = nib.load(scan.flair)
    nib.save(nib.as_closest_canonical(image), tmp_path / "flair_ras.nii.gz")
    coarse = scan.affine @ np.diag([1, 1, 2, 1])
    save(tmp_path / "flair_6mm.nii.gz", image.get_fdata(), coarse)
    names = [scan.flair, scan.flair, tmp_path / "flair_ras.nii.gz", tmp_path / "flair_6mm.nii.gz"]
    entries = [entry(str(i), name) for i, name in enumerate(names)]

    def found(told: Preprocessing | None = None) -> list[Problem]:
        problems = check(entries, CHANNELS[:1], told, 1, headers_only=headers_only)
        return [p for p in problems if "is also" not in p.message]

    axes, size = found()
    assert (axes.id, size.id, axes.severity) == ("2", "3", "warning")
    assert axes.message.startswith("its axes are RAS, those of 3 other scans LAS")
    assert "1 × 0.9 × 2.4 mm, those of 3 other scans 1 × 0.9 × 1.2 mm" in size.message
    with pytest.warns(UserWarning, match="different") as warned:
        warn_if_mixed(entries, None)
    assert "(LAS: 0, 1, 3; RAS: 2)" in str(warned[0].message)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        for _ in range(2):  # as in several runs of one command
            warn_if_mixed(entries[:3], None)
    assert [str(each.message).split(" (")[0] for each in shown] == ["scans have different axes"]
    assert [p.id for p in found(Preprocessing(orientation="RAS"))] == ["3"]
    told = Preprocessing(orientation="RAS", spacing=(1.0, 0.9, 1.2))
    assert found(told) == []  # a run resamples them
    fine = replace(told, spacing=(0.5, 0.9, 0.5))
    assert [(p.id, p.severity) for p in found(fine)] == [("3", "error")]


def test_images_like_the_trainings_are_fine_even_without_contrast(bad, scan):
    flat = Normalisation("none")
    spacing = nib.affines.voxel_sizes(scan.affine)
    preprocessing = Preprocessing((flat, flat), tuple(spacing), (8, 8, 8))
    assert check([entry("1", scan.flair, bad / "zero.nii.gz")], CHANNELS, preprocessing, 1) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_found(tmp_path, scan):
    locked = tmp_path / "locked"
    locked.mkdir()
    shutil.copy(scan.t1, locked / "t1.nii.gz")
    locked.chmod(0)
    try:
        (problem,) = check([entry("1", scan.flair, locked / "t1.nii.gz")], CHANNELS, processes=1)
    finally:
        locked.chmod(0o700)
    assert "ermission" in problem.message


def test_several_processes_find_the_same_in_the_same_order(bad, scan):
    names = [*OF_VOXELS, *OF_HEADERS]
    entries = [entry(f"é {name}", scan.flair, bad / name) for name in names]
    done: list[int] = []
    found = check(entries, CHANNELS, processes=2, on_scan=done.append)
    assert found == check(entries, CHANNELS, processes=1)
    assert [p.id for p in found if p.severity == "error"] == [f"é {name}" for name in names]
    assert done == list(range(1, len(names) + 1))


def test_an_interruption_ends_the_check(bad, scan):
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    entries = [entry(str(i), scan.flair, scan.t1) for i in range(4)]
    with pytest.raises(KeyboardInterrupt):
        check(entries, CHANNELS, processes=2, on_scan=interrupt)


def test_no_processes_are_refused(scan):
    with pytest.raises(InputError, match="at least 1, got 0"):
        check([entry("1", *scan.images)], CHANNELS, processes=0)


def test_processes_that_read_do_not_import_jax():
    code = "__import__('jaxsal.cohort.check') and 'jax' in __import__('sys').modules"
    with in_processes(eval, [code] * 2, 2) as results:
        assert list(results) == [False, False]


def test_a_worker_that_is_killed_is_told_of():
    code = "__import__('os').kill(__import__('os').getpid(), 9)"
    with (
        pytest.raises(InputError, match=r"ended from outside.*fewer than 2"),
        in_processes(eval, [code] * 2, 2) as results,
    ):
        list(results)


def test_real_scans_are_ready(shared):
    folders = [shared / "data" / name for name in ("patient07", "patient19")]
    entries = [
        entry(f.name, f / "FLAIR.nii.gz", f / "T1.nii.gz", reference=f / "GOLD.nii.gz")
        for f in folders
    ]
    assert check(entries, CHANNELS, processes=1) == []
