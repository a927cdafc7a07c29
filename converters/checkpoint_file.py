"""Reading PyTorch checkpoints as tensors only: nothing in a file is ever executed.

A checkpoint is a pickle, which can call any function while it is read. ``weights_only=True`` makes
PyTorch refuse everything but tensors and plain containers. Numbers of NumPy's, which training
programs log (nnU-Net's checkpoints always hold some), are let through as well: making one of its
type and bytes runs nothing else. What PyTorch refuses then is read by `read_inertly`, which passes
over all else that is in it.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxsal.errors import InputError, at_work_on
from jaxsal.store.files import require_content
from jaxsal_converters.inert_pickle import Containers
from jaxsal_converters.saved_tensors import read_inertly, unreadable

SAVE_PLAIN = 'save it again with torch.save(network.state_dict(), "plain.pth")'
_SHOWN = 4  # names that messages list
_LONGEST = 80  # characters of one


def read_checkpoint(path: str | Path, notes: list[str] | None = None) -> Any:
    """All tensors, plain containers, numbers and text of a PyTorch checkpoint.

    Args:
        path: of the file.
        notes: takes a sentence if anything else was passed over.

    Returns:
        What was saved; a tensor is a ``torch.Tensor`` or a `LazyTensor`, and what was passed over a
        `Skipped`.

    Raises:
        InputError: the file is missing, no PyTorch checkpoint, or truncated; or torch is not
            installed.
    """
    path = Path(path)
    with at_work_on(path):
        _check_file(path)
        content, skipped = _load(path)
    if skipped and notes is not None:
        notes.append(f"passed over, neither tensors nor plain values: {some_of(skipped)}")
    return content


def some_of(names: Collection[Any]) -> str:
    """The first of these names, for messages."""
    listed = ", ".join(shown(name) for name in list(names)[:_SHOWN])
    return listed + ", …" * (len(names) > _SHOWN) if names else "nothing"


def shown(name: object) -> str:
    """A name from a file as a terminal can bear it: not endless, and without control characters."""
    text = str(name)
    cut = text[:_LONGEST] + "…" * (len(text) > _LONGEST)
    return "".join(c if c.isprintable() else "?" for c in cut)


def _check_file(path: Path) -> None:
    require_content(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; a PyTorch checkpoint is expected")
    if not path.is_file():
        raise InputError(f"{path} is not a file; a PyTorch checkpoint (.pth, .pt) is expected")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; a PyTorch checkpoint is expected")
    if not _is_zip(path):
        return
    with _archive(path) as archive:
        names = {Path(name).name for name in archive.namelist()}
        packed = any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist())
    if "constants.pkl" in names:
        raise InputError(
            f"{path} is a TorchScript archive, which is a program; load it with torch.jit.load "
            f"and {SAVE_PLAIN}"
        )
    if "archive_format" in names:
        raise InputError(
            f"{path} is an exported program and no checkpoint; convert it with "
            f"`jaxsal convert torch {path} --out MODEL_DIR`"
        )
    if "data.pkl" not in names:
        raise InputError(f"{path} is a zip archive but no PyTorch checkpoint")
    if packed:  # a few kilobytes could become gigabytes
        raise InputError(f"{path} has compressed entries, which torch.save does not write")


def _is_zip(path: Path) -> bool:
    with _damage_refused(path):  # a damaged end of an archive raises already when it is looked for
        return zipfile.is_zipfile(path)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with _damage_refused(path), zipfile.ZipFile(path) as archive:
        yield archive


@contextmanager
def _damage_refused(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is a damaged zip archive: {error}") from error


def _load(path: Path) -> tuple[Any, list[str]]:
    """What was saved, and the names of what was passed over."""
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "reading PyTorch checkpoints needs torch: pip install 'jaxsal[convert]' (PyTorch's CPU "
            "build suffices, as its installation page shows)"
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        raise InputError(
            f"torch {torch.__version__} can be made to run code while it reads tensors only "
            "(CVE-2025-32434): upgrade to torch 2.6 or newer"
        )
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_numbers()):
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return read_inertly(path)
    except Exception as error:  # torch raises many kinds for damaged files
        raise unreadable(path) from error
    containers = Containers(path)
    return containers.anew(content), containers.skipped


def _numpy_numbers() -> list[Any]:
    """What the pickle of a NumPy number names: its maker, under both of its names, and types."""
    scalar = np.float64(0).__reduce__()[0]
    makers = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = (np.bool_, np.int32, np.int64, np.uint8, np.float16, np.float32, np.float64)
    return [*makers, np.dtype, *(type(np.dtype(kind)) for kind in kinds)]
