"""Files that appear whole or not at all, and links to content that is elsewhere."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import jaxsal
from jaxsal import load_model
from jaxsal.errors import InputError, OutputError
from jaxsal.grid import Grid
from jaxsal.inputs.sources import read_cohort
from jaxsal.store.files import require_content, whole_file
from jaxsal.toml import read_tables
from jaxsal.volumes import read_grid, read_labels, read_mask, read_volume
from jaxsal_converters.checkpoint_file import read_checkpoint
from jaxsal_converters.config_file import read_mapping
from jaxsal_converters.nnunet_folder import choose_checkpoints, read_fold, training_folder

GRID = Grid((2, 2, 2), np.eye(4))
# What opens a file, by a name that it might have.
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "scan": ("scan.nii.gz", read_volume),
    "header of a scan": ("scan.nii.gz", read_grid),
    "label map": ("labels.nii.gz", lambda path: read_labels(path, GRID)),
    "mask": ("mask.nii.gz", lambda path: read_mask(path, GRID)),
    "table": ("scans.tsv", lambda path: read_cohort(path, ["flair"])),
    "BIDS folder": ("bids", lambda path: read_cohort(path, ["flair"])),
    "training": ("training.toml", lambda path: read_tables(path, ["data"])),
    "model": ("model", load_model),
    "checkpoint": ("network.pth", read_checkpoint),
    "configuration": ("config.json", read_mapping),
    "nnU-Net's plans": ("plans.json", lambda path: training_folder(path.parent, None)),
    "nnU-Net's checkpoint": (
        "fold_0/checkpoint_final.pth",
        lambda path: read_fold(choose_checkpoints(path.parents[1]).paths[0]),
    ),
}
ANNEXED = "../.git/annex/objects/Xx/Yy/MD5E-s9--0a.nii.gz/MD5E-s9--0a.nii.gz"


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupted() -> None:
        with whole_file(tmp_path / "table.tsv") as file:
            file.write(b"half a ta")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "table.tsv"
    path.write_bytes(b"precious")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OutputError, match=r"table\.tsv: No space left"), whole_file(path) as file:
        file.write(b"new")
    assert [(p, p.read_bytes()) for p in tmp_path.iterdir()] == [(path, b"precious")]
    assert issubclass(OutputError, jaxsal.JaxsalError)


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_bytes(b"a longer old content")
    with whole_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"a longer old content"
    assert [(p, p.read_bytes()) for p in tmp_path.iterdir()] == [(path, b"new")]


@pytest.mark.parametrize("kind", READERS)
def test_a_link_without_content_is_said_with_what_to_do(tmp_path, kind):
    name, read = READERS[kind]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(ANNEXED)
    with pytest.raises(InputError) as refused:
        read(path)
    said = str(refused.value)
    assert f"{path} is a link without content" in said
    assert f"`datalad get {path}` or `git annex get {path}`" in said


@pytest.mark.parametrize("part", ["model.json", "parameters", "a file of parameters"])
def test_a_model_with_links_without_content_is_no_damaged_one(tmp_path, part):
    model = tmp_path / "model"
    shutil.copytree(Path(jaxsal.__file__).parent / "demo" / "model", model)
    path = model / part
    if part not in {"model.json", "parameters"}:
        path = next(path for path in (model / "parameters").rglob("*") if path.is_file())
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(ANNEXED)
    with pytest.raises(InputError, match="is a link without content"):
        load_model(model)


def test_what_a_link_of_a_folder_leads_to_is_missed_by_the_name_of_the_link(tmp_path):
    (tmp_path / "data").symlink_to("/mnt/unplugged")
    with pytest.raises(InputError) as refused:
        require_content(tmp_path / "data" / "sub-1" / "scan.nii")
    assert f"{tmp_path / 'data'} is a link without content" in str(refused.value)
    assert "/mnt/unplugged" in str(refused.value)


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"/annex/objects/MD5E-s9--0a.nii.gz\n", "git annex get"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\n", "git lfs pull"),
    ],
)
def test_a_pointer_in_place_of_content_is_said(tmp_path, content, advice):
    (tmp_path / "scan.nii").write_bytes(content)
    with pytest.raises(InputError, match=rf"scan\.nii is a pointer.*{advice}"):
        read_volume(tmp_path / "scan.nii")


def test_links_to_content_and_files_that_are_missing_are_nothing_of_this(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link", "missing", "missing/too", "file/below", "."):
        require_content(tmp_path / name)


@pytest.mark.parametrize("kind", READERS)
def test_what_may_never_end_is_refused(tmp_path, kind):
    name, read = READERS[kind]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    with pytest.raises(InputError, match=f"{re.escape(str(path))} is a device or a pipe"):
        read(path)


def test_a_device_behind_a_link_is_refused(tmp_path):
    (tmp_path / "scan.nii").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"scan\.nii is a device or a pipe"):
        read_volume(tmp_path / "scan.nii")


def test_a_name_with_nul_is_refused():
    with pytest.raises(InputError, match="holds NUL"):
        read_volume("scan\0.nii")
