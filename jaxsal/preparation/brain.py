"""The brain's mask: where it comes from, whether it can be one, and images without the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.problems import refuse

OWN = "mask"
"""In place of a file: the masks that the cohort names, by its table's column or a selection."""


def with_masks(entries: Sequence[Entry], given: str) -> list[Entry]:
    """The scans of a cohort with masks of their brains.

    Args:
        entries: the cohort.
        given: `OWN`; a file, the mask of every scan; or a folder of files such as ``ID.nii.gz``,
            by the ids or the BIDS stems of the scans.

    Raises:
        InputError: there are no such files, scans without a mask, or scans that have another.
    """
    if given == OWN:
        without = [entry.id for entry in entries if entry.scan.mask is None]
        refuse("--skull-strip mask", [f"{name} has no mask of the brain" for name in without])
        return list(entries)
    require_no_masks(entries)
    path = Path(given).expanduser()
    if not path.exists():
        raise InputError(
            f"brains are extracted by a command line with {{image}} and {{mask}}, by a mask, a "
            f"folder of masks, or by the cohort's own, {OWN!r}; there is no file {given!r}"
        )
    masks = [_mask_of(entry, path) if path.is_dir() else path for entry in entries]
    pairs = list(zip(entries, masks, strict=True))
    refuse(
        given, [f"no mask {each.id}.nii.gz, nor {each.stem}.nii.gz" for each, m in pairs if not m]
    )
    return [replace(each, scan=replace(each.scan, mask=mask)) for each, mask in pairs]


def require_no_masks(entries: Sequence[Entry]) -> None:
    """Raises InputError if scans have masks of their own, where others are to be taken."""
    own = [entry.id for entry in entries if entry.scan.mask is not None]
    if own:
        raise InputError(
            f"{len(own)} scans of the cohort have masks of the brain, such as {own[0]}: take these "
            f"by --skull-strip {OWN}, or leave them out of the cohort"
        )


def _mask_of(entry: Entry, folder: Path) -> Path | None:
    names = (f"{name}{end}" for name in (entry.id, entry.stem) for end in (".nii.gz", ".nii"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def require_brain(mask: np.ndarray, name: str) -> np.ndarray:
    """The mask (X, Y, Z) bool itself.

    Raises:
        InputError: it marks nothing, or all.
    """
    if not mask.any() or mask.all():
        what = "marks every voxel" if mask.any() else "is empty"
        raise InputError(f"{name} {what}: it cannot be that of a brain")
    return mask


def without_skull(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image (X, Y, Z), float32, and 0 outside of the mask (X, Y, Z), bool."""
    return np.where(mask, image, np.float32(0))
