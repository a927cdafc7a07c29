"""Finds all that is wrong with the files of a cohort, before anything is computed."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

from jaxsal.cohort.examine import Files, examine
from jaxsal.cores import available_cores
from jaxsal.errors import InputError
from jaxsal.inputs.channel_names import named_after_others
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.mixture import mixed_scans
from jaxsal.inputs.problems import Problem
from jaxsal.preprocessing import Preprocessing
from jaxsal.processes import in_processes
from jaxsal.progress import OnCount


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
    if processes is not None and processes < 1:
        raise InputError(f"processes must be at least 1, got {processes}")
    files = [_files(entry, channels) for entry in entries]
    work = partial(examine, preprocessing=preprocessing, headers_only=headers_only)
    found: dict[str, list[Problem]] = defaultdict(list)
    with in_processes(work, files, min(processes or available_cores(), len(files))) as results:
        for done, (entry, problems) in enumerate(zip(entries, results, strict=True), 1):
            found[entry.id] += [*problems, *_swaps(entry, channels)]
            on_scan(done)
    for problem in [*_used_twice(files), *mixed_scans(entries, channels[0], preprocessing)]:
        found[problem.id].append(problem)
    return [problem for entry in entries for problem in found[entry.id]]


def _files(entry: Entry, channels: Sequence[str]) -> Files:
    roles = entry.scan.roles(channels)
    images = {channel: roles.pop(channel) for channel in channels}
    return Files(entry.id, images, roles)


def _swaps(entry: Entry, channels: Sequence[str]) -> list[Problem]:
    return [
        Problem(entry.id, channel, message, "warning")
        for channel, message in named_after_others(entry.scan.images, channels)
    ]


def _used_twice(files: Sequence[Files]) -> Iterator[Problem]:
    """A warning of each file that has another role, or belongs to another scan, too."""
    first: dict[str, str] = {}
    for scan in files:
        for role, path in {**scan.images, **scan.masks}.items():
            own = f"{role} of {scan.id}"
            known = first.setdefault(os.path.realpath(path), own)
            if known != own:
                yield Problem(scan.id, role, f"{path} is also the {known}", "warning")
