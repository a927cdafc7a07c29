"""Skulls removed: by a tool that the user names, a script of the test's, and by masks."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.moved_heads import T1_AFFINE, T1_SHAPE, make_head, points, save
from helpers.official_validator import bids_issues
from helpers.tiny import load, read_table

from jaxsal.cli.main import main
from jaxsal.errors import InputError
from jaxsal.preparation.bias import bias_field
from jaxsal.preparation.settings import PreparationSettings
from jaxsal.preparation.tool import words_of
from jaxsal.volumes import read_grid

# What the tool writes, by its first argument: image, and mask or folder are the next two.
TOOL = """
import sys
from pathlib import Path
import nibabel as nib
import numpy as np
what, image, out = sys.argv[1:]
if what == "fail":
    sys.exit("no licence was found")
head = nib.load(image)
places = nib.affines.apply_affine(head.affine, np.stack(np.indices(head.shape), axis=-1))
mask = (((places / 30.0) ** 2).sum(-1) < 1).astype(np.float32)
mask = {"empty": 0 * mask, "all": 0 * mask + 1, "soft": 0.5 * mask}.get(what, mask)
affine = np.eye(4) if what == "moved" else head.affine
names = {"folder": ["a_bet.nii.gz"], "two": ["a.nii.gz", "b.nii.gz"], "none": []}.get(what, [""])
for name in names:
    nib.save(nib.Nifti1Image(mask, affine), Path(out) / name if name else out)
print("done", file=sys.stderr)
"""
FIRST = ["--skip-registration", "--processes", "1"]
BRAIN = ((points(T1_SHAPE, T1_AFFINE) / 30.0) ** 2).sum(-1) < 1


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of T1, and of a script."""
    folder = tmp_path_factory.mktemp("my head") / "a"
    make_head(folder, 1)
    (folder / "tool.py").write_text(TOOL)
    save(folder / "brain.nii.gz", BRAIN.astype(np.uint8), T1_AFFINE)
    return folder


def command(head: Path, what: str = "mask", out: str = "{mask}") -> str:
    return f"'{sys.executable}' '{head / 'tool.py'}' {what} {{image}} {out}"


def table(folder: Path, head: Path, mask: Path | None = None) -> list[str]:
    """The command line for a cohort of one scan, whose two images are the same."""
    path = folder / "scans.tsv"
    files = {"flair": head / "t1.nii.gz", "t1": head / "t1.nii.gz"} | (
        {"mask": mask} if mask else {}
    )
    path.write_text(
        "\n".join(map("\t".join, [["scan", *files], ["a b", *map(str, files.values())]]))
    )
    return ["preprocess", str(path), "--out", str(folder / "out"), *FIRST]


def image(folder: Path, name: str) -> Path:
    return folder / "out" / "sub-ab" / "anat" / f"sub-ab_{name}"


@pytest.fixture(scope="module")
def stripped(head: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stripped")
    assert main([*table(folder, head), "--skull-strip", command(head)]) == 0
    return folder


@pytest.mark.parametrize("name", ["FLAIR", "T1w"])
def test_all_but_the_brain_is_0_before_the_bias_field_is_fitted(
    stripped: Path, head: Path, name: str
) -> None:
    brain = np.where(BRAIN, load(head / "t1.nii.gz"), 0).astype(np.float32)
    expected = brain / bias_field(brain, read_grid(head / "t1.nii.gz"))
    found = load(image(stripped, f"desc-preproc_{name}.nii.gz"))
    assert np.all(found[~BRAIN] == 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_mask_and_its_origin_are_kept(stripped: Path, head: Path) -> None:
    np.testing.assert_array_equal(load(image(stripped, "label-brain_mask.nii.gz")), BRAIN)
    (row,) = read_table(stripped / "out" / "cohort.tsv")
    assert row["mask"] == "sub-ab/anat/sub-ab_label-brain_mask.nii.gz"
    millilitres = BRAIN.sum() * 2.5 * 2.5 * 2.6 / 1000
    assert float(row["brain_ml"]) == pytest.approx(millilitres, rel=1e-3)
    about = json.loads(image(stripped, "desc-preproc_T1w.json").read_bytes())
    assert about["SkullStripped"] is True
    assert about["SkullStripping"]["Method"] == command(head)
    assert json.loads((stripped / "out" / "run.json").read_bytes())["settings"][
        "skull_strip"
    ] == command(head)
    assert [path.name for path in (stripped / "out" / ".jaxsal" / "unfinished").iterdir()] == []
    assert bids_issues(stripped / "out") == []


def test_it_is_gone_on_with_by_the_same_command_only(
    stripped: Path, head: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = [*table(stripped, head), "--skull-strip"]
    assert main([*again, command(head)]) == 0
    assert "1 scan, 0 of them now: 1 finished" in capsys.readouterr().out
    assert main([*again, command(head, "folder", "{folder}")]) == 2
    assert "scans prepared with other settings: skull_strip was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "out", "reason"),
    [
        ("fail", "{mask}", "ended with status 1: no licence was found"),
        ("none", "{mask}", "wrote no mask; it printed: done"),
        ("empty", "{mask}", "is empty: it cannot be that of a brain"),
        ("all", "{mask}", "marks every voxel"),
        ("soft", "{mask}", "must be whole in every voxel"),
        ("moved", "{mask}", "does not lie on the image's grid: "),
        ("two", "{folder}", "wrote several images, a.nii.gz, b.nii.gz"),
    ],
)
def test_what_a_tool_does_wrong_is_said_and_nothing_is_written(
    what: str, out: str, reason: str, head: Path, tmp_path: Path
) -> None:
    options = ["--skip-bias", "--skull-strip", command(head, what, out)]
    assert main([*table(tmp_path, head), *options]) == 3
    (row,) = read_table(tmp_path / "out" / "failed.tsv")
    assert reason in row["reason"]
    assert not list((tmp_path / "out").glob("sub-*"))
    assert not list((tmp_path / "out" / ".jaxsal" / "unfinished").iterdir())


@pytest.mark.parametrize("kind", ["file", "folder", "column", "tool's folder"])
def test_masks_come_from_where_they_are(kind: str, head: Path, tmp_path: Path) -> None:
    brain = head / "brain.nii.gz"
    shutil.copy(brain, tmp_path / "a b.nii.gz")
    given = {"file": str(brain), "folder": str(tmp_path), "column": "mask"}
    strip = given.get(kind, command(head, "folder", "{folder}"))
    line = table(tmp_path, head, brain if kind == "column" else None)
    assert main([*line, "--skip-bias", "--skull-strip", strip]) == 0
    np.testing.assert_array_equal(load(image(tmp_path, "label-brain_mask.nii.gz")), BRAIN)
    expected = np.where(BRAIN, load(head / "t1.nii.gz"), 0)
    np.testing.assert_array_equal(load(image(tmp_path, "desc-preproc_FLAIR.nii.gz")), expected)


def test_a_tool_sees_the_image_at_the_voxel_size_asked_for(head: Path, tmp_path: Path) -> None:
    options = ["--skip-bias", "--voxel-size", "4", "--skull-strip", command(head)]
    assert main([*table(tmp_path, head), *options]) == 0
    mask = load(image(tmp_path, "label-brain_mask.nii.gz"))
    assert mask.shape == load(image(tmp_path, "desc-preproc_T1w.nii.gz")).shape == (25, 26, 25)
    assert mask.sum() * 4.0**3 == pytest.approx(4 / 3 * np.pi * 30.0**3, rel=0.02)


@pytest.mark.parametrize(
    ("strip", "message"),
    [
        ("no-such-tool -i {image} -o {mask}", "there is no program 'no-such-tool'"),
        ("tool {image}", "needs {image} in place of the image that it reads and {mask}"),
        ("tool '{image} {mask}", "is not complete: No closing quotation"),
        ("nowhere/masks", "there is no file 'nowhere/masks'"),
        ("mask", "a b has no mask of the brain"),
        (".", "no mask a b.nii.gz, nor sub-ab.nii.gz"),
    ],
)
def test_what_finds_no_brain_is_refused_before_anything_is_written(
    strip: str, message: str, head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*table(tmp_path, head), "--skull-strip", strip]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_tool_and_masks_of_the_cohort_are_one_too_many(
    head: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = table(tmp_path, head, head / "brain.nii.gz")
    assert main([*line, "--skull-strip", command(head)]) == 2
    assert "take these by --skull-strip mask" in capsys.readouterr().err


def test_a_command_line_is_split_but_no_shell_reads_it() -> None:
    words = words_of("tool --out='{mask}' {image} $HOME '; rm x'")
    assert words == ["tool", "--out={mask}", "{image}", "$HOME", "; rm x"]


def test_stripping_alone_is_something_to_do() -> None:
    settings = PreparationSettings(register=False, correct_bias=False, skull_strip="mask")
    assert settings.identity["skull_strip"] == "mask"
    with pytest.raises(InputError, match="nothing to do"):
        PreparationSettings(register=False, correct_bias=False)
