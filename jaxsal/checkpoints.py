"""Model directories: ``model.json``, which people can read, beside Orbax parameters."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal import __version__
from jaxsal.devices import ran_out_of_memory
from jaxsal.errors import InputError, OutputError
from jaxsal.model import Model, NamedShapes, check_threshold, describe_mismatch
from jaxsal.nets.registry import config_from_arguments, parameter_shapes
from jaxsal.preprocessing import Outputs, Preprocessing
from jaxsal.store.files import (
    read_json,
    read_object,
    require_content,
    whole_file,
    whole_folder,
)

_FORMAT = "jaxsal-model"
_FORMAT_VERSION = 1
_RECORD = "model.json"
_PARAMETERS = "parameters"
_DAMAGE = (  # what a record that was changed leads to
    *(LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError),
)
_PYTORCH_SUFFIXES = {".pth", ".pt", ".ckpt", ".bin", ".safetensors"}


def save_model(model: Model, folder: str | Path, *, overwrite: bool = False) -> None:
    """Writes a model directory, whole or not at all.

    Args:
        model: what to write; its precision is a choice of the user's and is not kept.
        folder: a path that does not exist, or an empty folder.
        overwrite: also replaces a model directory that holds nothing else.

    Raises:
        InputError: the folder holds other files, or a model that is not to be overwritten; or it
            lies in a file.
        OutputError: it cannot be written.
    """
    folder = Path(folder).resolve()
    check_target(folder, overwrite)
    try:
        with whole_folder(folder) as partial:
            _write_parameters(partial / _PARAMETERS, model.parameters)
            files = _files_checksum(partial / _PARAMETERS)
            text = _as_text(_record(model, files))
            (partial / _RECORD).write_text(text, encoding="utf-8")
    except NotADirectoryError as error:  # a user's mistake, unlike a full disk
        raise InputError(f"cannot write the model directory {folder}: {error}") from error
    except OSError as error:
        raise OutputError(f"cannot write the model directory {folder}: {error}") from error


def load_model(folder: str | os.PathLike[str], precision: str = "float32") -> Model:
    """Reads a model directory; its parameters go to the default device.

    Args:
        folder: as written by `save_model` or ``jaxsal convert``.
        precision: arithmetic, one of `jaxsal.settings.PRECISIONS`.

    Raises:
        InputError: the path is no model directory, or the directory is damaged.
    """
    folder = Path(folder)
    with _reading(folder) as record:
        network = record["network"]
        config = config_from_arguments(network["kind"], network["arguments"])
        inputs = _inputs(folder, record)
        members = record.get("members", 1)
        parameters = _read_parameters(folder / _PARAMETERS, parameter_shapes(config, members))
        outputs, roi = record.get("outputs"), record.get("roi")
        return Model(
            config=config,
            parameters=parameters,
            channels=inputs.channels,
            threshold=record["threshold"],
            aliases=dict(record["layers"]),
            precision=precision,
            source=dict(record["source"]),
            members=members,
            preprocessing=inputs.preprocessing,
            outputs=outputs and Outputs.from_json(outputs),
            roi=roi and tuple(roi),
            overlap=record.get("overlap"),
        )


def store_threshold(folder: str | os.PathLike[str], threshold: float) -> None:
    """Changes the threshold that a model directory holds, whole or not at all.

    Args:
        folder: as written by `save_model`.
        threshold: as for `Model`.

    Raises:
        InputError: the path is no model directory, or its files are not those that were written;
            the threshold is none.
        OutputError: the directory cannot be written.
    """
    folder = Path(folder)
    check_threshold(threshold)
    with _reading(folder) as record:
        _inputs(folder, record)  # which refuses a damaged directory
        record["threshold"] = float(threshold)
    with whole_file(folder / _RECORD) as file:
        file.write(_as_text(record).encode())


class Inputs(NamedTuple):
    """What a model expects of a scan: its channels, and their preprocessing by its source."""

    channels: tuple[str, ...]
    preprocessing: Preprocessing | None


def load_inputs(folder: str | Path) -> Inputs:
    """Reads what a model expects of a scan; loads no parameters and needs no device.

    Raises:
        InputError: the path is no model directory, or its files are not those that were written.
    """
    folder = Path(folder)
    with _reading(folder) as record:
        return _inputs(folder, record)


def _inputs(folder: Path, record: Mapping[str, Any]) -> Inputs:
    _check_files(folder / _PARAMETERS, record["parameters"]["sha256"])
    stored = record.get("preprocessing")
    return Inputs(tuple(record["channels"]), stored and Preprocessing.from_json(stored))


@contextmanager
def _reading(folder: Path) -> Iterator[dict[str, Any]]:
    """The record of a model directory; errors name the place."""
    record = _read_record(folder)
    try:
        yield record
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    except _DAMAGE as error:
        raise InputError(
            f"{folder / _RECORD} is incomplete or was changed ({error!r}): convert the "
            "checkpoint again"
        ) from error


def _record(model: Model, files_checksum: str) -> dict[str, Any]:
    if_any = {
        "members": model.members if model.members > 1 else None,
        "preprocessing": model.preprocessing and model.preprocessing.to_json(),
        "outputs": model.outputs and model.outputs.to_json(),
        "roi": model.roi and list(model.roi),
        "overlap": model.overlap,
    }
    return {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "jaxsal_version": __version__,
        "network": {"kind": model.config.kind, "arguments": model.config.to_arguments()},
        "channels": list(model.channels),
        "threshold": float(model.threshold),
        "parameters": {"count": model.parameter_count, "sha256": files_checksum},
        "source": dict(model.source),
        "layers": dict(model.aliases),
        **{name: value for name, value in if_any.items() if value is not None},
    }


def _as_text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def check_target(folder: Path, overwrite: bool) -> None:
    """Raises InputError unless `save_model` may write this folder."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; give a new folder for the model")
    entries = {entry.name for entry in folder.iterdir()}
    if not entries:
        return
    foreign = sorted(entries - {_RECORD, _PARAMETERS})
    if foreign or not _is_record(folder / _RECORD):
        raise InputError(
            f"{folder} is not overwritten because it is more than a model directory or none"
            + (f": it holds {', '.join(foreign[:3])}" if foreign else "")
            + "; choose another folder"
        )
    if not overwrite:
        raise InputError(
            f"{folder} already holds a model; choose another folder, or replace it with "
            "--overwrite (in Python: overwrite=True)"
        )


def _is_record(path: Path) -> bool:
    return read_json(path).get("format") == _FORMAT


def _read_record(folder: Path) -> dict[str, Any]:
    require_content(folder)
    require_content(folder / _RECORD)
    if not folder.exists():
        raise InputError(f"{folder} does not exist; a model directory is expected")
    if folder.is_file():
        if folder.suffix == ".pt2":
            raise InputError(
                f"{folder} looks like an exported PyTorch program; convert it first: "
                f"`jaxsal convert torch {folder} --out MODEL_DIR`"
            )
        if folder.suffix in _PYTORCH_SUFFIXES:
            raise InputError(
                f"{folder} looks like a PyTorch checkpoint; convert it first: "
                f"`jaxsal convert unet {folder} --out MODEL_DIR`"
            )
        raise InputError(f"{folder} is a file; a model directory is expected")
    path = folder / _RECORD
    if not path.is_file():
        raise InputError(
            f"{folder} is not a model directory, it has no {_RECORD}: make one from a "
            "checkpoint with `jaxsal convert`"
        )
    record = read_object(path)
    if record.get("format") != _FORMAT:
        raise InputError(f'{path} does not describe a model (no "format": "{_FORMAT}")')
    if record.get("format_version") != _FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {record.get('format_version')!r}; this jaxsal reads "
            f"version {_FORMAT_VERSION}: upgrade jaxsal or convert the checkpoint again"
        )
    return record


def _write_parameters(folder: Path, parameters: Mapping[str, jax.Array]) -> None:
    import orbax.checkpoint as ocp

    host = {name: np.asarray(value) for name, value in parameters.items()}
    # Not the one that writes in threads: where they fail they would keep the program from ending.
    handler = ocp.StandardCheckpointHandler()
    with writing_by_orbax(), ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(folder, args=ocp.args.StandardSave(host))
    (folder / "commit_success.txt").unlink(missing_ok=True)  # it holds the path on this machine


def _files_checksum(folder: Path) -> str:
    """SHA-256 over names and contents of all files but hidden ones, which file managers add."""
    digest = hashlib.sha256()
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    for name in sorted(files):
        if files[name].is_file() and not files[name].name.startswith("."):
            content = hashlib.sha256(files[name].read_bytes())
            digest.update(f"{name} {content.hexdigest()}\n".encode())
    return digest.hexdigest()


def _check_files(folder: Path, expected: str) -> None:
    """Damage is found here because Orbax reports it in pages of its own."""
    for path in (folder, *folder.rglob("*")):
        require_content(path)
    if not folder.is_dir():
        raise InputError(f"the folder {folder.name}/ is missing: convert the checkpoint again")
    if _files_checksum(folder) != expected:
        raise InputError(
            f"the files in {folder.name}/ are damaged or incomplete, their checksum differs: copy "
            "the model directory anew or convert the checkpoint again"
        )


def _read_parameters(folder: Path, shapes: NamedShapes) -> dict[str, jax.Array]:
    import orbax.checkpoint as ocp

    folder = folder.resolve()
    sharding = jnp.zeros(()).sharding  # of the default device, wherever the model was saved
    target = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)
        for name, shape in shapes.items()
    }
    try:
        with quiet_orbax(), ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.metadata(folder).item_metadata.tree
            _require_stored(tree, shapes)
            return dict(checkpointer.restore(folder, target))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Orbax raises any kind for files that were changed
        if ran_out_of_memory(error):
            raise
        said = next(iter(str(error).splitlines()), repr(error))
        raise InputError(
            f"the files in {folder.name}/ are damaged ({said}): convert the checkpoint again"
        ) from error


def _require_stored(tree: Mapping[str, Any], shapes: NamedShapes) -> None:
    """Refuses arrays of other shapes, or in larger parts, for which memory would be taken."""
    stored = {name: tuple(entry.shape) for name, entry in tree.items()}
    mismatch = describe_mismatch(shapes, stored)
    if mismatch:
        raise InputError(f"the parameters are of another network: {mismatch}")
    for name, entry in tree.items():
        parts = entry.storage.chunk_shape if entry.storage else None
        if parts and math.prod(parts) > math.prod(shapes[name]):
            raise InputError(
                f"{name} is stored in parts {parts}, larger than it is: {shapes[name]}"
            )


@contextmanager
def writing_by_orbax() -> Iterator[None]:
    """Has Orbax write quietly, and say what fails as Python does.

    Raises:
        OSError: something cannot be written, for which TensorStore raises a ValueError.
    """
    try:
        with quiet_orbax():
            yield
    except ValueError as error:
        code = re.search(r"\[os_error_code='(\d+)'\]", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from error


@contextmanager
def quiet_orbax() -> Iterator[None]:
    """Keeps Orbax's progress notes, which are not for users, off the standard error stream."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
