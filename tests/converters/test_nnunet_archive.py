"""The zip that nnU-Net exports: converted as its folder is, unless it holds what none should."""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.nnunet_folders import RESIDUAL, dataset, plans, write_results

from jaxsal.cli.main import main
from jaxsal.errors import InputError
from jaxsal_converters.nnunet import convert_nnunet
from jaxsal_converters.nnunet_archive import opened_training

NAME = "Dataset001_Lesions/nnUNetTrainer__nnUNetPlans__3d_fullres"
OTHER = "Dataset001_Lesions/nnUNetTrainer__nnUNetPlans__2d"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nnU-Net's folder of all results."""
    folder = tmp_path_factory.mktemp("nnUNet_results")
    write_results(folder / NAME, plans(RESIDUAL), dataset())
    (folder / NAME / "fold_0" / "progress.png").write_bytes(b"picture")
    return folder


def packed(results: Path, path: Path) -> Path:
    """As nnU-Net packs it, with names from its folder of all results on."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(results.rglob("*")):
            if each.is_file():
                archive.write(each, each.relative_to(results))
    return path


@pytest.mark.parametrize("root", [".", NAME, Path(NAME).parent], ids=["all", "own", "dataset"])
def test_the_zip_converts_as_the_folder_does(results: Path, tmp_path: Path, root: str) -> None:
    packed(results / root, tmp_path / "FLAMeS.zip")
    expected, notes = convert_nnunet(results / NAME)
    found, same = convert_nnunet(tmp_path / "FLAMeS.zip")
    assert same == notes
    assert (found.config, found.preprocessing, found.channels) == (
        *(expected.config, expected.preprocessing, expected.channels),
    )
    assert {**found.source, "folder": ""} == {**expected.source, "folder": ""}
    for name, value in expected.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], value)


def test_nothing_but_what_is_needed_is_unpacked_and_nothing_stays(
    results: Path, tmp_path: Path
) -> None:
    with opened_training(packed(results, tmp_path / "model.zip")) as folder:
        files = {path.name for path in folder.rglob("*") if path.is_file()}
        assert files == {"plans.json", "dataset.json", "checkpoint_final.pth"}
    assert not folder.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "folder"])
def test_one_of_several_trainings_is_asked_for(results: Path, tmp_path: Path, zipped: bool) -> None:
    several = tmp_path / "results"
    for name in (NAME, OTHER, NAME.replace("nnUNetTrainer_", "nnUNetTrainerX_")):
        write_results(several / name, plans(), dataset(), ())
    source = packed(several, tmp_path / "model.zip") if zipped else several
    for asked, count in ((None, None), 3), (("3d_fullres", None), 2), ((None, "nnUNetTrainer"), 2):
        listed = rf"(?s)^{re.escape(str(source))} holds the results of {count} trainings; give "
        with pytest.raises(InputError, match=listed), opened_training(source, *asked):
            pass
    with opened_training(source, "3d_fullres", "nnUNetTrainerX") as folder:
        assert folder.name == "nnUNetTrainerX__nnUNetPlans__3d_fullres"
    with (
        pytest.raises(InputError, match=r"no training by --trainer Y"),
        opened_training(source, None, "Y"),
    ):
        pass


def climbing(archive: zipfile.ZipFile) -> None:
    archive.writestr("../plans.json", "{}")


def absolute(archive: zipfile.ZipFile) -> None:
    archive.writestr("/tmp/plans.json", "{}")


def other_system(archive: zipfile.ZipFile) -> None:
    archive.writestr("C:\\plans.json", "{}")


def linked(archive: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo(f"{NAME}/fold_1/checkpoint_final.pth")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(entry, "/etc/passwd")


def twice(archive: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(f"{NAME}/plans.json", "{}")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (climbing, "outside of the folder"),
        (absolute, "outside of the folder"),
        (other_system, "outside of the folder"),
        (linked, "is a link"),
        (twice, "twice"),
    ],
)
def test_archives_with_what_none_should_hold_are_refused(
    results: Path, tmp_path: Path, spoil: Callable[[zipfile.ZipFile], None], reason: str
) -> None:
    path = packed(results, tmp_path / "model.zip")
    with zipfile.ZipFile(path, "a") as archive:
        spoil(archive)
    with pytest.raises(InputError, match=rf"model\.zip.*{reason}"):
        convert_nnunet(path)
    assert [each.name for each in tmp_path.iterdir()] == ["model.zip"]


def test_encrypted_archives_are_refused(results: Path, tmp_path: Path) -> None:
    path = packed(results, tmp_path / "model.zip")
    content = bytearray(path.read_bytes())
    for at in (m.start() + 8 for m in re.finditer(b"PK\x01\x02", content)):
        content[at] |= 1  # the flag in the directory's entries
    path.write_bytes(content)
    with pytest.raises(InputError, match="is encrypted: unpack it"):
        convert_nnunet(path)


def test_damaged_archives_are_refused(results: Path, tmp_path: Path) -> None:
    path = packed(results, tmp_path / "model.zip")
    content = bytearray(path.read_bytes())
    at = content.index(b"checkpoint_final.pth") + 200
    content[at : at + 50] = bytes(50)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.zip is damaged"):
        convert_nnunet(path)


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_other_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (tmp_path / "model.zip").write_bytes(content)
    command = ["convert", "nnunet", str(tmp_path / "model.zip"), "--out", str(tmp_path / "model")]
    assert main(command) == 2
    assert "is no zip archive" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
