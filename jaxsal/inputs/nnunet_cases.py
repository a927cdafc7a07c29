"""Images in folders as nnU-Net has them: ``CASE_0000.nii.gz``, a number per channel."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry, Scan, bids_labels, distinct
from jaxsal.inputs.problems import refuse

_IMAGE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})\.nii(\.gz)?")
_ENDINGS = (".nii.gz", ".nii")
_SHOWN = 5  # cases that a message names

Channels = Mapping[int, Path]  # images by their number


def cases(folder: Path) -> dict[str, Channels]:
    """The images of each case in a folder, in the order of names; empty if it has none."""
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _IMAGE.fullmatch(path.name)
        if match and not path.name.startswith("."):
            found[match["case"]].setdefault(int(match["channel"]), path)
    return dict(found)


def images_of(given: Sequence[Path]) -> tuple[Path, ...]:
    """The images of one scan: as given or, where a folder or a case is given, those in it.

    Args:
        given: files; or a folder with the images of one case; or a case, ``imagesTs/CASE``.

    Raises:
        InputError: the folder has no images or several cases, or numbers are missing.
    """
    if len(given) != 1 or given[0].is_file():
        return tuple(given)
    (path,) = given
    if path.is_dir():
        found = cases(path)
        if not found:
            raise InputError(
                f"{path} holds no CASE_0000.nii.gz, CASE_0001.nii.gz, …, as nnU-Net names the "
                "images of a scan: give these files, or one image per channel"
            )
        if len(found) > 1:
            some = ", ".join(list(found)[:_SHOWN]) + ", …" * (len(found) > _SHOWN)
            raise InputError(
                f"{path} holds {len(found)} cases ({some}): give one, as {path / next(iter(found))}"
                ", or all of them to `jaxsal cohort run`"
            )
    else:
        found = {c: images for c, images in cases(path.parent).items() if c == path.name}
    return tuple(path for images in found.values() for path in _in_order(images)) or tuple(given)


def _in_order(images: Channels) -> list[Path]:
    """Images from number 0 on.

    Raises:
        InputError: a number is missing.
    """
    missing = [n for n in range(max(images)) if n not in images]
    if missing:
        there = ", ".join(path.name for path in images.values())
        raise InputError(f"the image _{missing[0]:04d} is missing; there are {there}")
    return [images[n] for n in sorted(images)]


def read_cases(
    folder: Path, channels: Sequence[str], references: Path | None = None
) -> list[Entry]:
    """The scans of a folder of cases, such as nnU-Net's ``imagesTs``.

    Args:
        folder: with the images.
        channels: of the model, by the images' numbers.
        references: folder with a mask of the true lesions per case, ``CASE.nii.gz``, such as
            ``labelsTs``; all values but 0 are lesion.

    Raises:
        InputError: cases lack images or masks, or have more images than channels; all are listed.
    """
    found, problems = cases(folder), []
    entries: list[Entry] = []
    for case, images in found.items():
        try:
            files = tuple(_in_order(images))
            if len(files) != len(channels):
                raise InputError(
                    f"there are {len(files)} images for {len(channels)} channels, "
                    f"{', '.join(channels)}"
                )
            mask = None if references is None else _mask(references, case)
            entries.append(Entry(case, Scan(files, reference=mask), bids_labels(case, {})))
        except InputError as error:
            problems.append(f"{case}: {error}")
    refuse(str(folder), problems)
    return distinct(entries)


def _mask(folder: Path, case: str) -> Path:
    paths = [folder / f"{case}{ending}" for ending in _ENDINGS]
    there = [path for path in paths if path.exists()]
    if not there:
        raise InputError(f"there is no mask {paths[0]}")
    return there[0]
