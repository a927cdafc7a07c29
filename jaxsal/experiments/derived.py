"""Scans made of the cohort's own, written for a run over them, and what places things in them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.inputs.entries import Entry, Scan, distinct
from jaxsal.volumes import write_volume

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.grid import Grid


@dataclass(frozen=True)
class Derived:
    """A scan made of one of the cohort's.

    Attributes:
        tag: distinguishes it from others of the same scan, letters and digits; "" if there are
            none.
        labels: (X, Y, Z) int32, the domains to explain.
        images: one (X, Y, Z) per channel, in the units of the files; None: the scan's own.
        brain: (X, Y, Z) bool, outside of which everything is background; None: as of the scan.
    """

    tag: str
    labels: np.ndarray
    images: Sequence[np.ndarray] | None = None
    brain: np.ndarray | None = None


def derive(
    study: Study, name: str, entry: Entry, grid: Grid, derived: Sequence[Derived]
) -> list[Entry]:
    """Writes scans made of one of the cohort's into the study's folder, for `Study.run`.

    Args:
        study: whose folder and channels.
        name: of the run.
        entry: the scan that they were made of.
        grid: of its images.
        derived: what was made.

    Returns:
        The scans; those without any domain are left out.
    """
    folder = study.out / "scans" / name
    made = [_write(folder, study.model.channels, entry, grid, d) for d in derived if d.labels.any()]
    return list(distinct(made)) if made else []


def _write(
    folder: Path, channels: Sequence[str], entry: Entry, grid: Grid, derived: Derived
) -> Entry:
    entities = dict(entry.entities)
    if derived.tag:
        entities["acquisition"] = entities.get("acquisition", "") + derived.tag
    stem = Entry("", entry.scan, entities).stem
    folder.mkdir(parents=True, exist_ok=True)
    instances = folder / f"{stem}_dseg.nii.gz"
    write_volume(instances, derived.labels.astype(np.int32), grid)
    images, mask = entry.scan.images, entry.scan.mask
    if derived.brain is not None:
        mask = folder / f"{stem}_mask.nii.gz"
        write_volume(mask, derived.brain, grid)
    if derived.images is not None:
        images = tuple(folder / f"{stem}_{channel}.nii.gz" for channel in channels)
        for path, image in zip(images, derived.images, strict=True):
            write_volume(path, np.asarray(image, np.float32), grid)
    scan = Scan(images, instances=instances, mask=mask)
    return Entry(f"{entry.id} {derived.tag}".rstrip(), scan, entities)


def generator_of(entry: Entry, seed: int, *more: int) -> np.random.Generator:
    """A generator that depends on the seed and the scan, whichever others are in the cohort.

    Args:
        entry: the scan.
        seed: the user's.
        more: what else it is to depend on, such as a lesion's label.
    """
    return np.random.default_rng([seed, zlib.crc32(entry.stem.encode()), *more])
