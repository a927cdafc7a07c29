"""Finds all that is wrong with the files of a cohort, before anything is computed.

Imports no JAX: worker processes start fast.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.inputs.alignment import unregistered
from jaxsal.inputs.channel_names import named_after_others
from jaxsal.inputs.entries import REGION_ROLES, Entry, Scan
from jaxsal.inputs.images import Images, as_trained, read_brain, read_images
from jaxsal.inputs.parcellation import read_parcellation
from jaxsal.inputs.problems import Problem
from jaxsal.inputs.sources import mixed_scans
from jaxsal.preprocessing import Preprocessing
from jaxsal.processes import in_processes
from jaxsal.progress import OnCount
from jaxsal.same_grid import require_same_grid
from jaxsal.volumes import read_grid, read_labels, read_mask

_READERS = {"reference": read_mask, "instances": read_labels, "mask": read_brain}


def check(
    entries: Sequence[Entry],
    channels: Sequence[str],
    preprocessing: Preprocessing | None = None,
    processes: int | None = None,
    on_scan: OnCount = lambda done: None,
    *,
    headers_only: bool = False,
) -> list[Problem]:
    """Reads every file of a cohort.

    Args:
        entries: the cohort.
        channels: of the model.
        preprocessing: of the model.
        processes: how many read at once; None: one per CPU core.
        on_scan: called after every scan.
        headers_only: whether voxels are left unread, which is quick; see `examine`.

    Returns:
        All errors and warnings, in the order of the cohort.

    Raises:
        InputError: the number of processes is not positive, or one of them was ended.
    """
    plain = [replace(entry, entities=dict(entry.entities)) for entry in entries]  # to be sent
    work = partial(examine, channels, preprocessing, headers_only)
    found: dict[str, list[Problem]] = defaultdict(list)
    with in_processes(work, plain, processes) as results:
        for done, (entry, problems) in enumerate(zip(entries, results, strict=True), 1):
            swaps = named_after_others(entry.scan.images, channels)
            found[entry.id] += problems
            found[entry.id] += [Problem(entry.id, role, text, "warning") for role, text in swaps]
            on_scan(done)
    mixed = mixed_scans(entries, channels[0], preprocessing)
    for problem in [*_used_twice(entries, channels), *mixed]:
        found[problem.id].append(problem)
    return [problem for entry in entries for problem in found[entry.id]]


def _used_twice(entries: Sequence[Entry], channels: Sequence[str]) -> Iterator[Problem]:
    """A warning of each file that has another role, or belongs to another scan, too."""
    first: dict[str, str] = {}
    for entry in entries:
        for role, path in entry.scan.roles(channels).items():
            if role in REGION_ROLES:  # which scans may share
                continue
            own = f"{role} of {entry.id}"
            known = first.setdefault(os.path.realpath(path), own)
            if known != own:
                yield Problem(entry.id, role, f"{path} is also the {known}", "warning")


def examine(
    channels: Sequence[str], preprocessing: Preprocessing | None, headers_only: bool, entry: Entry
) -> list[Problem]:
    """Reads every file of a scan, as a run does.

    Args:
        channels: of the model.
        preprocessing: of the model.
        headers_only: leave voxels unread; damage behind headers, infinite voxels, images without
            contrast and empty masks are then not found.
        entry: the scan.

    Returns:
        What is wrong with each file, not only with the first.
    """
    problems: list[Problem] = []
    first: tuple[str, Grid] | None = None  # the image whose grid the others must have
    read: dict[str, Images] = {}
    for place, (channel, path) in enumerate(zip(channels, entry.scan.images, strict=True)):
        with _collected(problems, entry.id, channel):
            if headers_only:
                grid, note = read_grid(path), ""
            else:
                own_rules = preprocessing and preprocessing.of(place)
                brain = _usable_mask(entry.scan.mask, path)
                read[channel] = read_images([path], [channel], own_rules, brain)
                grid, note = read[channel].grid.file, read[channel].notes[0]
            as_trained(str(path), grid, preprocessing or Preprocessing())
            first = first or (str(path), grid)
            require_same_grid(str(path), grid, *first)
            problems += [Problem(entry.id, channel, note, "warning")] if note else []
    problems += [] if headers_only else _unregistered(entry, read)
    for role, path in entry.scan.others.items():
        if role in REGION_ROLES:
            continue
        with _collected(problems, entry.id, role):
            own = read_grid(path)
            require_same_grid(str(path), own, *(first or (str(path), own)))
            if not headers_only and not _READERS[role](path, own).any():
                text = f"{path} has no lesion: give another file if there are any"
                problems.append(Problem(entry.id, role, text, "warning"))
    with _collected(problems, entry.id, "parcellation"):
        _read_regions(entry.scan, list(read.values()))
    return problems


def _read_regions(scan: Scan, images: Sequence[Images]) -> None:
    """Reads a scan's parcellation; its header alone where no image was read."""
    if scan.parcellation is None:
        return
    if not images:
        read_grid(scan.parcellation)
        return
    grid = images[0].grid
    inside = [each.inside for each in images if each.inside.shape == grid.shape]
    read_parcellation(scan.parcellation, scan.region_names, grid, np.logical_or.reduce(inside))


def _unregistered(entry: Entry, read: Mapping[str, Images]) -> list[Problem]:
    """Warnings of images that do not lie on the first one, where all could be read."""
    images = list(read.values())
    if len(images) < len(entry.scan.images) or len({each.image.shape for each in images}) > 1:
        return []
    names = [path.name for path in entry.scan.images]
    whole = np.concatenate([each.image for each in images], axis=-1)
    found = unregistered(names, whole, images[0].grid)
    return [Problem(entry.id, list(read)[place], note, "warning") for place, note in found]


def _usable_mask(mask: Path | None, image: Path) -> Path | None:
    """The mask of the brain, if it fits the image; a mask that does not is a problem of its own."""
    with suppress(InputError, OSError):
        if mask is not None and read_brain(mask, read_grid(image)).any():
            return mask
    return None


@contextmanager
def _collected(problems: list[Problem], scan: str, role: str) -> Iterator[None]:
    """Adds the error of the block to the problems."""
    try:
        yield
    except (InputError, OSError, MemoryError) as error:
        problems.append(Problem(scan, role, str(error) or "there is not enough memory to read it"))
