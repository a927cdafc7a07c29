"""The zip archive that ``nnUNetv2_export_model_to_zip`` writes, as the folder that it was made of.

Only plans, dataset descriptions and checkpoints are unpacked. Nothing is, where an entry is
encrypted, a link, or would lie outside of the folder.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from jaxsal.errors import InputError
from jaxsal.store.files import require_content
from jaxsal_converters.nnunet_folder import (
    CHECKPOINTS,
    DATASET,
    PLANS,
    check_not_inside,
    training_folder,
)

_ENCRYPTED = 0x1  # of an entry's flags
_MAC = "__MACOSX"  # a folder that macOS adds, with copies that are none
_MOST = 64 * 2**20  # bytes of a description

_DAMAGE = (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError)


@contextmanager
def opened_training(
    results: Path, configuration: str | None = None, trainer: str | None = None
) -> Iterator[Path]:
    """The folder of one training; that of an archive exists until the block ends.

    Args:
        results: a folder as for `training_folder`, or an archive of one.
        configuration: see there.
        trainer: see there.

    Raises:
        InputError: there is no such training, or the archive cannot be used.
    """
    if not results.is_file():
        yield training_folder(results, configuration, trainer)
        return
    with tempfile.TemporaryDirectory(prefix="jaxsal-") as root:
        try:
            yield _unpacked(results, Path(root), configuration, trainer)
        except InputError as error:  # which names the place where it was unpacked
            raise InputError(str(error).replace(root, str(results))) from error


def _unpacked(path: Path, root: Path, configuration: str | None, trainer: str | None) -> Path:
    """Unpacks what is needed of one training below a folder; returns the training's."""
    check_not_inside(path)
    require_content(path)
    try:
        if not zipfile.is_zipfile(path):
            raise InputError(
                f"{path} is no zip archive: give the one that nnUNetv2_export_model_to_zip "
                f"writes, or the folder that nnU-Net trained into, with {PLANS}, {DATASET} and "
                "fold_0, …"
            )
        with zipfile.ZipFile(path) as archive:
            entries = _entries(path, archive)
            described = [each for each in entries if _name(each).name in (PLANS, DATASET)]
            if any(each.file_size > _MOST for each in described):
                raise InputError(f"{path} holds a {PLANS} or {DATASET} of more than 64 MiB")
            _unpack(path, archive, described, root)
            folder = training_folder(root, configuration, trainer)
            inside = PurePosixPath(folder.relative_to(root).as_posix())
            wanted = {f"checkpoint_{kind}.pth" for kind in CHECKPOINTS}
            own = [
                each
                for each in entries
                if _name(each).name in wanted and _name(each).parent.parent == inside
            ]
            _unpack(path, archive, own, root)
    except _DAMAGE as error:
        raise InputError(f"{path} is damaged, or cannot be unpacked: {error}") from error
    return folder


def _entries(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The files in an archive.

    Raises:
        InputError: one is encrypted, a link, outside of the folder, or there twice.
    """
    files = [
        each for each in archive.infolist() if not each.is_dir() and _MAC not in _name(each).parts
    ]
    for each in files:
        if _climbs(each):
            raise InputError(
                f"{path} is not unpacked: {each.filename!r} would lie outside of the folder"
            )
        if stat.S_ISLNK(each.external_attr >> 16):
            raise InputError(f"{path} is not unpacked: {each.filename!r} is a link")
        if each.flag_bits & _ENCRYPTED:
            raise InputError(f"{path} is encrypted: unpack it and give the folder")
    names = [_name(each) for each in files]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path} holds {str(twice)!r} twice: export the model again")
    return files


def _climbs(entry: zipfile.ZipInfo) -> bool:
    """Whether it would lie outside of the folder that it is unpacked into, on any system."""
    name = _name(entry)
    return name.is_absolute() or ".." in name.parts or any(c in entry.filename for c in "\\:")


def _unpack(
    path: Path, archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], root: Path
) -> None:
    needed, free = sum(each.file_size for each in entries), shutil.disk_usage(root).free
    if needed > free:
        raise InputError(
            f"unpacking {path} takes {needed / 2**30:.1f} GiB, and {root.parent} has "
            f"{free / 2**30:.1f} GiB left: free some, or let TMPDIR name another folder"
        )
    for each in entries:
        target = root / _name(each)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(each) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 2**20)


def _name(entry: zipfile.ZipInfo) -> PurePosixPath:
    return PurePosixPath(entry.filename)
