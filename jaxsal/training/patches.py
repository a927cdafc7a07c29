"""Endless batches of random patches, cut in threads so that the device does not wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.box import Box
from jaxsal.errors import InputError, require, warn
from jaxsal.extras import import_extra
from jaxsal.types import Triple

if TYPE_CHECKING:
    import grain

    from jaxsal.training.scans import TrainingScan

Batch = dict[str, np.ndarray]
"""`image` (B, X, Y, Z, C) float32 and `labels` (B, X, Y, Z) int32."""

_PATCHES = 2**62  # of a run, at most; grain's own arithmetic overflows from 2**63 on
_READY = 2  # batches that each thread may be ahead


@dataclass(frozen=True)
class PatchSettings:
    """Which patches of the scans a network is trained on.

    Attributes:
        size: in voxels along X, Y, Z.
        batch: patches per batch.
        lesion_share: share of the patches that are cut around a lesion, from 0 to 1; the others
            lie anywhere.
        workers: threads that cut patches ahead of the device; 0 to cut each when it is asked for.

    Raises:
        InputError: a value is out of its range.
    """

    size: Triple = (96, 96, 96)
    batch: int = 2
    lesion_share: float = 0.5
    workers: int = 2

    def __post_init__(self) -> None:
        size = tuple(self.size)
        whole = len(size) == 3 and all(_is_whole(n) and n > 0 for n in size)
        require(whole, "size of patches", "three numbers of voxels", self.size)
        is_number = _is_whole(self.batch) and self.batch >= 1
        require(is_number, "batch", "a number of patches, 1 or more", self.batch)
        require(0 <= self.lesion_share <= 1, "lesion_share", "from 0 to 1", self.lesion_share)
        is_number = _is_whole(self.workers) and self.workers >= 0
        require(is_number, "workers", "a number of threads, 0 or more", self.workers)
        object.__setattr__(self, "size", size)


def patch_batches(
    scans: Sequence[TrainingScan], settings: PatchSettings, seed: int, start: int = 0
) -> grain.DatasetIterator[Batch]:
    """Batches without end; batch i depends on the scans, the settings, the seed and i only.

    Each patch is of a scan at random, every scan as likely. Of those around a lesion, every lesion
    of the scan is as likely, whatever its size, and so is every voxel of it and every patch within
    the scan that holds this voxel; only scans with lesions are drawn for them. Around lesions and
    anywhere alternate, so that their share is kept in any run of patches.

    Args:
        scans: at least one, all with the same channels.
        settings: of the patches.
        seed: of the draws, 0 or more.
        start: the first batch to give, 0 or more: that of a run to be resumed.

    Returns:
        An iterator of dicts: `image` (B, X, Y, Z, C) float32 and `labels` (B, X, Y, Z) int32, 0 in
        the background and lesions 1, 2, ... of each patch by itself; a lesion that the patch cuts
        apart keeps one number. Beyond a scan that is smaller than a patch, all are zero.
        Its `close()` ends the threads.

    Raises:
        InputError: there is no scan, their channels differ, or grain is not installed.
    """
    grain = require_grain()
    if not scans:
        raise InputError("training needs scans to cut patches from, and there is none")
    if len({scan.image.shape[-1] for scan in scans}) > 1:
        raise InputError("the scans to train on must all have the same number of channels")
    _warn_of_small(scans, settings.size)
    if settings.lesion_share and not any(scan.lesions for scan in scans):
        warn("no scan has a lesion: all patches lie anywhere")
    first = start * settings.batch
    last = first + (_PATCHES - first) // settings.batch * settings.batch
    dataset = grain.MapDataset.range(first, last).map(partial(_patch, scans, settings, seed))
    reading = grain.ReadOptions(settings.workers, _READY * settings.workers)
    return iter(dataset.batch(settings.batch).to_iter_dataset(reading))


def require_grain() -> Any:
    """The library that cuts patches ahead.

    Raises:
        InputError: it is not installed.
    """
    return import_extra("grain", "train", "training")


def _warn_of_small(scans: Sequence[TrainingScan], size: Triple) -> None:
    small = [scan for scan in scans if np.any(np.less(scan.shape, size))]
    if small:
        warn(
            f"{len(small)} of {len(scans)} scans are smaller than a patch of {_product(size)} and "
            f"are filled up with zeros, such as {small[0].id} of {_product(small[0].shape)} voxels",
        )


def _product(size: Triple) -> str:
    return " × ".join(map(str, size))


def _patch(
    scans: Sequence[TrainingScan], settings: PatchSettings, seed: int, index: int
) -> dict[str, Any]:
    """Patch number `index`."""
    rng = np.random.default_rng([seed, index])
    share = settings.lesion_share
    # So that of the first n patches the share of n is around lesions, rounded down.
    around = int((index + 1) * share) > int(index * share)
    candidates = [scan for scan in scans if scan.lesions] if around else []
    scan = _one_of(candidates or scans, rng)
    held = scan.lesion_voxel(rng) if candidates else None
    return cut(scan, _first(scan, settings.size, held, rng), settings.size)


def _one_of(scans: Sequence[TrainingScan], rng: np.random.Generator) -> TrainingScan:
    return scans[int(rng.integers(len(scans)))]


def _first(
    scan: TrainingScan, size: Triple, held: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """The first voxel of a patch within the scan, one that holds a voxel if it is given.

    It is negative along axes on which the scan is smaller than the patch: it then lies anywhere in
    the patch.
    """
    room = np.asarray(scan.shape) - size
    low, high = np.minimum(room, 0), np.maximum(room, 0)
    if held is not None:
        low, high = np.maximum(low, held - np.asarray(size) + 1), np.minimum(high, held)
    return rng.integers(low, high, endpoint=True)


def cut(scan: TrainingScan, first: np.ndarray, size: Triple) -> dict[str, np.ndarray]:
    """A patch of a scan: `image` (X, Y, Z, C) float32, `labels` (X, Y, Z) int32 from 1 on.

    Args:
        scan: what it is cut from.
        first: its first voxel (3,); what lies beyond the scan is zero.
        size: in voxels.
    """
    image = Box.at(first, size).cut(scan.image, beyond=0)
    return {"image": np.asarray(image), "labels": _labels(scan, first, size)}


def _labels(scan: TrainingScan, first: np.ndarray, size: Triple) -> np.ndarray:
    """The lesions in a patch, numbered 1, 2, ... in their order; of their voxels alone."""
    places = scan.voxels - first
    inside = ((places >= 0) & (places < size)).all(axis=1)
    lesions = np.repeat(np.arange(scan.lesions), np.diff(scan.starts))[inside]
    labels = np.zeros(size, np.int32)
    labels[tuple(places[inside].T)] = np.unique(lesions, return_inverse=True)[1] + 1
    return labels


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
