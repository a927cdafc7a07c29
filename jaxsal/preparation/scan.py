"""One scan prepared, from its files to results in the folder of all; imports no JAX.

Its results are written beside that folder's others only when all are there, and recorded last: what
has no record is not done.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxsal.errors import InputError, OutputError
from jaxsal.figures.canvas import save_figure
from jaxsal.preparation import sidecars
from jaxsal.preparation.bias import bias_field
from jaxsal.preparation.brain import OWN, require_brain, without_skull
from jaxsal.preparation.carry import carry_mask, require_grid
from jaxsal.preparation.libraries import versions
from jaxsal.preparation.names import PreparedNames
from jaxsal.preparation.picture import check_picture
from jaxsal.preparation.register import Registration, register
from jaxsal.preparation.settings import PreparationSettings
from jaxsal.preparation.skull import is_skull_stripped
from jaxsal.preparation.spatial import corner_displacement, resample_image, transform_file
from jaxsal.preparation.tool import find_brain
from jaxsal.preparation.voxel_size import prepared_grid
from jaxsal.same_grid import require_same_grid
from jaxsal.store.file_list import Files, list_files
from jaxsal.store.files import sync_folders, whole_file, write_json
from jaxsal.store.inside import require_inside
from jaxsal.store.records import Inputs, ScanRecord, Stamp
from jaxsal.volumes import Volume, read_volume, write_volume

_BAD_SCAN = (InputError, OSError, MemoryError, RuntimeError)  # the last is how ITK fails

# What masks show, and BIDS's word for their type, which label maps have none of.
_SHOWN = MappingProxyType(
    {
        "reference": ("mask of the lesions", "Lesion"),
        "instances": ("label map of the lesions", ""),
        "mask": ("mask of the brain", "Brain"),
    }
)


@dataclass(frozen=True)
class Task:
    """A scan to be prepared; can be pickled.

    Attributes:
        id: what its owner calls it.
        names: of its results.
        images: its files by channel.
        masks: its other files, such as its "reference", by what each is taken for.
        out: the folder of all.
        settings: how it is prepared.
    """

    id: str
    names: PreparedNames
    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    out: Path
    settings: PreparationSettings


def record_path(out: Path, stem: str) -> Path:
    """Where it is recorded that a scan is done."""
    return out / ".jaxsal" / "scans" / f"{stem}.json"


def staging_path(out: Path, stem: str) -> Path:
    """Where a scan's results are until all are written."""
    return out / ".jaxsal" / "unfinished" / stem


def prepare_scan(task: Task) -> ScanRecord:
    """Prepares a scan.

    Returns:
        Its record, which is on the disk as well; or why it failed.

    Raises:
        OutputError: nothing can be written.
    """
    started = perf_counter()
    staging = staging_path(task.out, task.names.stem)
    shutil.rmtree(staging, ignore_errors=True)
    try:
        inputs = _inputs(task)
        work = _Work(task, staging, inputs)
        row, note = work.run()
        files = _deliver(staging, task.out)
    except _BAD_SCAN as error:
        reason = str(error) if isinstance(error, InputError | OSError) else repr(error)
        return ScanRecord(task.id, task.names.stem, "failed", {}, reason)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    seconds = round(perf_counter() - started, 1)
    record = ScanRecord(
        *(task.id, task.names.stem),
        status="finished",
        inputs=inputs,
        reason=note,
        rows=[row],
        files=files,
        seconds=seconds,
        ran=versions(),
    )
    record.write(record_path(task.out, task.names.stem))
    return record


class _Work:
    """What is done to one scan, step by step."""

    def __init__(self, task: Task, staging: Path, inputs: Inputs) -> None:
        self._task, self._staging, self._inputs = task, staging, inputs
        self._settings = task.settings
        self._volumes = {channel: read_volume(path) for channel, path in task.images.items()}
        self._fixed = self._volumes[self._settings.fixed]
        self._registered: dict[str, Registration] = {}
        self._fields: dict[str, np.ndarray] = {}
        self._grid = prepared_grid(self._fixed, self._settings)
        self._aligned: dict[str, np.ndarray] = {}  # on that grid, with their skulls
        self._images: dict[str, np.ndarray] = {}
        self._brain: np.ndarray | None = None

    def run(self) -> tuple[dict[str, Any], str]:
        """Computes and writes all; returns the scan's row of the table, and what to know of it."""
        matrices = {channel: np.eye(4) for channel in self._task.images}
        notes = []
        for path in self._task.masks.values():  # found before anything takes long
            require_grid(path, self._volumes, self._settings)
        self._register()
        for channel, found in self._registered.items():
            matrices[channel] = found.matrix
            notes += [found.note] if found.note else []
        for role, path in self._task.masks.items():
            matrix = matrices[self._settings.masks_on]
            labels, note = carry_mask(role, path, self._volumes, self._settings, matrix, self._grid)
            notes += [note] if note else []
            self._write_mask(role, labels, self._mask_sidecar(role))
            if role == "mask" and self._settings.skull_strip == OWN:
                self._brain = require_brain(labels, f"{path}, on the grid of the results,")
        self._strip()
        self._correct()
        self._write()
        return self._row(), "; ".join(notes)

    def _register(self) -> None:
        for channel, volume in self._volumes.items():
            self._aligned[channel] = self._resampled(volume, np.eye(4))
            if channel == self._settings.fixed:
                continue
            if not self._settings.register:
                names = str(volume.path), str(self._fixed.path)
                require_same_grid(names[0], volume.grid, names[1], self._fixed.grid)
                continue
            found = register(self._fixed, volume, self._settings.transform)
            self._registered[channel] = found
            self._aligned[channel] = self._placed(channel, found.matrix, found.after)

    def _resampled(self, volume: Volume, matrix: np.ndarray) -> np.ndarray:
        """An image on the grid of the results, where that is not the fixed image's: resampled."""
        if self._grid is self._fixed.grid:
            return volume.data
        return resample_image(volume.data, volume.grid, self._grid, matrix)

    def _placed(self, channel: str, matrix: np.ndarray, on_fixed: np.ndarray) -> np.ndarray:
        """A moving image on that grid; resampled once, from its own, not from the fixed one's."""
        if self._grid is self._fixed.grid:
            return on_fixed
        return self._resampled(self._volumes[channel], matrix)

    def _strip(self) -> None:
        """Removes all but the brain from every image."""
        command = self._settings.skull_strip
        if command is None:
            self._images = dict(self._aligned)
            return
        if command != OWN:
            place = self._staging.with_name(f"{self._staging.name}.brain")
            self._brain = find_brain(
                command, self._aligned[self._settings.fixed], self._grid, place
            )
            self._write_mask("mask", self._brain, self._found_sidecar(command))
        if self._brain is None:
            raise InputError(f"{self._task.id} has no mask of the brain to strip its skull by")
        for channel, image in self._aligned.items():
            self._images[channel] = without_skull(image, self._brain)

    def _correct(self) -> None:
        if self._settings.correct_bias:
            for channel, image in self._images.items():
                name = str(self._volumes[channel].path)
                self._fields[channel] = bias_field(image, self._grid, name)

    def _write(self) -> None:
        names = self._task.names
        for channel, image in self._images.items():
            field = self._fields.get(channel)
            done = image if field is None else image / field
            write_volume(self._path(names.image(channel)), done, self._grid)
            write_json(self._path(names.image(channel, "json")), self._sidecar(channel))
        for channel, found in self._registered.items():
            path = self._path(names.transform(channel, self._settings.fixed))
            with whole_file(path) as file:
                file.write(transform_file(found.matrix))
        figure = check_picture(
            self._task.id,
            self._grid,
            self._aligned[self._settings.fixed],
            {
                channel: (self._placed(channel, np.eye(4), r.before), self._aligned[channel])
                for channel, r in self._registered.items()
            },
            {channel: (self._images[channel], field) for channel, field in self._fields.items()},
            self._brain,
        )
        save_figure(figure, self._path(names.picture))

    def _write_mask(self, role: str, labels: np.ndarray, about: Mapping[str, Any]) -> None:
        write_volume(self._path(self._task.names.mask(role)), labels, self._grid)
        write_json(self._path(self._task.names.mask(role, "json")), about)

    def _path(self, name: str) -> Path:
        path = self._staging / name
        with _written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _sidecar(self, channel: str) -> dict[str, Any]:
        content: dict[str, Any] = {
            "Description": "prepared for a network: registered and corrected as given here",
            "Sources": [self._uri(channel)],
            "SpatialReference": self._uri(self._settings.fixed),
            "SkullStripped": self._brain is not None or is_skull_stripped(self._volumes[channel]),
            "SourceFile": self._source(channel),
            "Software": versions(),
        }
        if channel in self._registered:
            found = self._registered[channel]
            content["Registration"] = sidecars.of_registration(found, self._settings.transform)
        if self._grid is not self._fixed.grid:
            content["Resampling"] = sidecars.of_resampling(self._fixed.grid, self._grid)
        if self._brain is not None:
            command = self._settings.skull_strip
            how = self._uri("mask") if command == OWN else str(command)
            content["SkullStripping"] = sidecars.of_brain(how, self._brain_ml)
        if channel in self._fields:
            image, field = self._images[channel], self._fields[channel]
            content["BiasCorrection"] = sidecars.of_bias(image, field)
        return content

    @property
    def _brain_ml(self) -> float:
        voxels = 0 if self._brain is None else np.count_nonzero(self._brain)
        return round(voxels * self._grid.voxel_volume / 1000, 3)

    def _found_sidecar(self, command: str) -> dict[str, Any]:
        return {
            "Description": f"mask of the brain, as `{command}` found it in the prepared image",
            "Sources": [self._uri(self._settings.fixed)],
            "SpatialReference": self._uri(self._settings.fixed),
            "Type": "Brain",
        }

    def _mask_sidecar(self, role: str) -> dict[str, Any]:
        shows, kind = _SHOWN[role]
        return {
            "Description": f"{shows}, carried along with the image that it was drawn on",
            "Sources": [self._uri(role)],
            "SpatialReference": self._uri(self._settings.fixed),
            **({"Type": kind} if kind else {}),
        }

    def _uri(self, role: str) -> str:
        stamp = self._inputs[role]
        return stamp.uri if stamp else ""

    def _source(self, channel: str) -> dict[str, Any]:
        stamp = self._inputs[channel]
        return {"Channel": channel} | (asdict(stamp) if stamp else {})

    def _row(self) -> dict[str, Any]:
        names = self._task.names
        row: dict[str, Any] = {channel: names.image(channel) for channel in self._images}
        row |= {role: names.mask(role) for role in self._task.masks}
        if self._brain is not None:
            row |= {"mask": names.mask("mask"), "brain_ml": self._brain_ml}
        for channel, found in self._registered.items():
            row[f"{channel}_information_before"] = found.information_before
            row[f"{channel}_information_after"] = found.information_after
            row[f"{channel}_moved_mm"] = corner_displacement(found.matrix, self._fixed.grid)
        for channel, field in self._fields.items():
            low, high = sidecars.spread(self._images[channel], field)
            row[f"{channel}_bias_low"], row[f"{channel}_bias_high"] = low, high
        return row | {"picture": names.picture}


def _inputs(task: Task) -> Inputs:
    """The scan's files as they are, each of which is there."""
    for path in {**task.images, **task.masks}.values():
        if not path.exists():
            raise InputError(f"{path} does not exist: check the name.")
    return {role: Stamp.of(path) for role, path in {**task.images, **task.masks}.items()}


def _deliver(staging: Path, out: Path) -> Files:
    """Moves what was written to where it belongs; returns each file's size and checksum.

    Raises:
        InputError: that is outside of the folder, through a link.
        OutputError: they cannot be moved.
    """
    paths = sorted(path for path in staging.rglob("*") if path.is_file())
    with _written(out):
        files = list_files(staging, [path.relative_to(staging).as_posix() for path in paths])
        require_inside(out, files)
        for name in files:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, out / name)
        sync_folders(out, files)  # before a record says that they are there
    return files


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Has what cannot be written end the run: it is not the scan that is bad."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}. Check folder, rights and space."
        ) from error
