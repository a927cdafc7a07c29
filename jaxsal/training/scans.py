"""The scans that a network is trained on: read once, then mapped from uncompressed copies."""

from __future__ import annotations

import json
import math
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxsal.errors import OutputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.images import load_scan, warn_of
from jaxsal.lesions import components
from jaxsal.preprocessing import Preprocessing
from jaxsal.progress import OnCount
from jaxsal.store.files import content_of, remove_partial, whole_file, write_json
from jaxsal.store.identity import digest
from jaxsal.store.parsing import parsed_json
from jaxsal.store.records import from_json, stamps, to_json
from jaxsal.training.reading import Contents, contents, read_all
from jaxsal.types import Triple

_FORM = 2  # of the copies: another one is not used
_ARRAYS = ("image", "voxels", "starts")
_NO_ARRAY = (OSError, ValueError, KeyError, SyntaxError, tokenize.TokenError)  # as NumPy raises
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, eq=False)
class TrainingScan:
    """A scan to cut patches from: what the network is given of it, and its true lesions.

    Attributes:
        id: what its owner calls it.
        image: (X, Y, Z, C) float32, normalised as for inference; mapped from a file.
        voxels: (V, 3) int32, the voxels of lesion 1, then of lesion 2, ...: the 18-connected
            components of the reference, however small.
        starts: (lesions + 1,) int64, where each lesion's voxels begin, and their number.
        files: what its files held.
    """

    id: str
    image: np.ndarray
    voxels: np.ndarray
    starts: np.ndarray
    files: Contents = field(default_factory=dict)

    @property
    def shape(self) -> Triple:
        """Number of voxels along X, Y, Z."""
        x, y, z, _ = self.image.shape
        return x, y, z

    @property
    def lesions(self) -> int:
        """Number of lesions."""
        return len(self.starts) - 1

    def lesion_voxel(self, rng: np.random.Generator) -> np.ndarray:
        """A random voxel (3,) of a random lesion: small ones are as likely as large ones."""
        lesion = int(rng.integers(self.lesions))
        voxel: np.ndarray = self.voxels[rng.integers(self.starts[lesion], self.starts[lesion + 1])]
        return voxel


def open_scans(
    entries: Sequence[Entry],
    channels: Sequence[str],
    preprocessing: Preprocessing | None,
    cache: Path,
    on_scan: OnCount = lambda done: None,
) -> list[TrainingScan]:
    """Opens scans for training, from their copies where these are still right.

    Args:
        entries: the scans, each with a reference.
        channels: of the network, one per image.
        preprocessing: what the images must undergo; None: each is z-scored over what is no
            background.
        cache: the folder of the copies, about 4 C bytes per voxel. A copy is used again as long as
            the scan's files have the same content, and made anew otherwise.
        on_scan: called after each scan, with how many are done.

    Returns:
        The scans in the order of the entries, cropped to the box that the network is given.

    Raises:
        InputError: scans have no reference or files that cannot be used; one error names them all.
        OutputError: the cache cannot be written.
    """
    opened = partial(_opened, channels=tuple(channels), preprocessing=preprocessing, cache=cache)
    return read_all("training", entries, opened, on_scan)


def _opened(
    entry: Entry, channels: tuple[str, ...], preprocessing: Preprocessing | None, cache: Path
) -> TrainingScan:
    made = {
        "form": _FORM,
        "channels": list(channels),
        "preprocessing": preprocessing and preprocessing.to_json(),
        "files": {role: str(p.absolute()) for role, p in entry.scan.roles(channels).items()},
    }
    made = json.loads(json.dumps(made))  # tuples and lists are alike then
    folder = cache / f"{entry.stem}-{digest(made)[:12]}"
    current = _is_current(folder, made, entry, channels)
    arrays = _copied(folder, len(channels)) if current else None
    if arrays is None:
        _copy(folder, made, entry, channels, preprocessing)
        arrays = _copied(folder, len(channels))
        assert arrays is not None  # as they were just written
    record = parsed_json(content_of(folder / "scan.json"))
    return TrainingScan(entry.id, *arrays, contents(from_json(record["inputs"])))


def _copied(folder: Path, channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Image, voxels and starts of a copy; None if they are no such arrays, or do not fit."""
    try:
        for name in _ARRAYS:
            _require_array(folder / f"{name}.npy")
        image = np.load(folder / "image.npy", mmap_mode="r")
        voxels, starts = (np.load(folder / f"{name}.npy") for name in _ARRAYS[1:])
    except _NO_ARRAY:
        return None
    x, y, z, c = image.shape if image.ndim == 4 else (0, 0, 0, 0)
    if (c, image.dtype) != (channels, np.float32) or starts.ndim != 1 or starts.size == 0:
        return None
    if voxels.shape != (starts[-1], 3) or (voxels.dtype, starts.dtype) != (np.int32, np.int64):
        return None
    ordered = starts[0] == 0 and (np.diff(starts) > 0).all()
    inside = ((voxels >= 0) & (voxels < (x, y, z))).all()
    return (image, voxels, starts) if ordered and inside else None


def _require_array(path: Path) -> None:
    """Raises ValueError unless a file holds just the numbers that its header declares."""
    with path.open("rb") as file:
        read = _HEADERS[np.lib.format.read_magic(file)]
        shape, _, dtype = read(file)
        if min(shape, default=0) < 0 or dtype.hasobject:
            raise ValueError("no array of numbers")
        if file.tell() + dtype.itemsize * math.prod(shape) != path.stat().st_size:
            raise ValueError("an array of another size")


def _is_current(
    folder: Path, made: dict[str, Any], entry: Entry, channels: tuple[str, ...]
) -> bool:
    """Whether there is a whole copy of the scan's files as they are."""
    try:
        record = parsed_json(content_of(folder / "scan.json"))
        if not all((folder / f"{name}.npy").is_file() for name in _ARRAYS):
            return False
        inputs, files = from_json(record["inputs"]), entry.scan.roles(channels)
        pairs = [(inputs[role], path) for role, path in files.items()]
        same = all(stamp is not None and stamp.is_same(path) for stamp, path in pairs)
        return record["made"] == made and same
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _copy(
    folder: Path,
    made: dict[str, Any],
    entry: Entry,
    channels: tuple[str, ...],
    preprocessing: Preprocessing | None,
) -> None:
    """Reads a scan and writes its copy, the record last: without one there is no copy."""
    before = stamps(entry.scan, channels)
    arrays = _arrays(entry, channels, preprocessing)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scan.json").unlink(missing_ok=True)
        remove_partial(folder)
    except OSError as error:
        raise OutputError(
            f"cannot write the copies of scans to {folder}: {error.strerror or error}. Check the "
            "folder, its rights and the space"
        ) from error
    for name, array in zip(_ARRAYS, arrays, strict=True):
        with whole_file(folder / f"{name}.npy") as file:
            np.save(file, array)
    write_json(folder / "scan.json", {"made": made, "inputs": to_json(before)})


def _arrays(
    entry: Entry, channels: tuple[str, ...], preprocessing: Preprocessing | None
) -> tuple[np.ndarray, ...]:
    """The image, and the lesions' voxels with their starts."""
    loaded = load_scan(entry.scan, channels, preprocessing)
    warn_of(f"{entry.id}: {note}" for note in loaded.notes)
    assert loaded.reference is not None  # as every entry has one
    labels = components(loaded.box.cut(loaded.reference), loaded.grid.voxel_volume, 0.0)
    voxels, starts = lesion_voxels(labels)
    return np.ascontiguousarray(loaded.box.cut(loaded.image)), voxels, starts


def lesion_voxels(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of lesion 1, then 2, ... (V, 3) int32 and where each begins (lesions + 1,).

    Args:
        labels: (X, Y, Z) integers, 0 in the background, no number left out.
    """
    places = np.flatnonzero(labels)
    numbers = labels.ravel()[places]
    ordered = places[np.argsort(numbers, kind="stable")]
    voxels = np.stack(np.unravel_index(ordered, labels.shape), axis=-1).astype(np.int32)
    return voxels, np.cumsum(np.bincount(numbers, minlength=1)).astype(np.int64)
