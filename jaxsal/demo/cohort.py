"""A cohort of synthetic patients as files, to train on or to try commands with."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jaxsal.demo.phantom import make_phantom, write_phantom
from jaxsal.errors import InputError
from jaxsal.processes import available_cores
from jaxsal.progress import OnCount
from jaxsal.store.files import whole_file
from jaxsal.types import Triple

TABLE = "scans.tsv"


def write_cohort(
    folder: Path,
    scans: int,
    *,
    lesions: int = 12,
    seed: int = 0,
    shape: Triple = (112, 136, 112),
    spacing: float = 1.5,
    on_scan: OnCount = lambda done: None,
) -> Path:
    """Writes synthetic patients, a folder each, and the table that lists them; see `make_phantom`.

    Args:
        folder: new, or empty.
        scans: how many patients.
        lesions: of each.
        seed: of the first patient; the next ones have the next numbers, which name them.
        shape: voxels along X, Y, Z.
        spacing: voxel size in mm.
        on_scan: called with the number of patients that are written.

    Returns:
        The table, which appears when all files are there.

    Raises:
        InputError: the folder holds files already or cannot be made, or a number is not valid.
        OutputError: a file cannot be written.
    """
    if scans < 1:
        raise InputError(f"scans must be at least 1, got {scans}")
    if seed < 0:
        raise InputError(f"seed must be zero or more, got {seed}")
    _make(folder)
    names = [f"phantom{seed + i:05d}" for i in range(scans)]

    def write(index: int) -> None:
        phantom = make_phantom(seed + index, shape, spacing, lesions)
        write_phantom(phantom, folder / names[index])

    with ThreadPoolExecutor(available_cores()) as pool:
        for done, _ in enumerate(pool.map(write, range(scans)), start=1):
            on_scan(done)
    lines = ["scan\tsubject\tflair\tt1\treference"]
    lines += [f"{n}\t{n}\t{n}/FLAIR.nii.gz\t{n}/T1.nii.gz\t{n}/lesions.nii.gz" for n in names]
    with whole_file(folder / TABLE) as file:
        file.write(("\n".join(lines) + "\n").encode())
    return folder / TABLE


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        first = next(iter(sorted(os.listdir(folder))), None)
    except OSError as error:
        raise InputError(
            f"cannot make the folder {folder}: {error.strerror}; give another one"
        ) from error
    if first is not None:
        raise InputError(f"{folder} holds files, such as {first}; give a new or empty folder")
