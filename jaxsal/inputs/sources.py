"""A cohort from its source, a table or a folder, and whether its scans are of one kind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from jaxsal.errors import InputError, warn
from jaxsal.grid import Grid
from jaxsal.inputs.bids import Select, read_bids
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.manifest import columns, read_manifest
from jaxsal.inputs.nnunet_cases import cases, read_cases
from jaxsal.inputs.problems import Problem
from jaxsal.preprocessing import Preprocessing
from jaxsal.resampling import SAME_SPACING
from jaxsal.store.files import require_content
from jaxsal.volumes import read_grid

_SHOWN = 5  # scans of each kind

Kinds = dict[str, list[str]]  # ids of scans by their axes, or voxel size; the commonest first


def read_cohort(
    source: str | os.PathLike[str],
    channels: Sequence[str],
    select: Select | None = None,
    named_by: str = "the model",
    references: str | os.PathLike[str] | None = None,
) -> list[Entry]:
    """Reads a cohort from a table, a BIDS folder, or one of images as nnU-Net names them.

    See `read_manifest`, `read_bids` and `read_cases`.

    Args:
        source: the file or the folder.
        channels: of the model.
        select: which images of a BIDS folder are meant.
        named_by: what names the channels, for messages about a table.
        references: folder of masks for nnU-Net's images, such as ``labelsTs``.

    Raises:
        InputError: the source does not exist or has errors; the message lists them all.
    """
    source = Path(source).expanduser()
    require_content(source)
    cases_of_nnunet = bool(cases(source))
    if references is not None and not cases_of_nnunet:
        raise InputError(
            f"a folder of references goes with a folder of CASE_0000.nii.gz, …, and {source} is "
            "none: a table has a column 'reference', images of a BIDS folder are selected"
        )
    if cases_of_nnunet and not select:
        masks = None if references is None else Path(references).expanduser()
        return read_cases(source, channels, masks)
    if source.is_dir():
        return read_bids(source, channels, select)
    if not source.exists():
        raise InputError(
            f"{source} does not exist; a table of scans or a folder of images is expected"
        )
    if select:
        raise InputError(f"images are selected in BIDS folders, but {source} is a table")
    return read_manifest(source, channels, named_by)


def has_subjects(source: str | os.PathLike[str]) -> bool:
    """Whether a cohort names the subject of each scan; else every scan has its own.

    Args:
        source: the file or the folder, which can be read.
    """
    source = Path(source).expanduser()
    return not cases(source) and (source.is_dir() or "subject" in columns(source))


def warn_if_mixed(entries: Sequence[Entry], preprocessing: Preprocessing | None) -> None:
    """Warns of scans of different axes or voxel sizes, unless the model says which it takes.

    Args:
        entries: the scans; the headers of their first images are read.
        preprocessing: of the model.
    """
    for what, option, kinds in _mixtures(entries, preprocessing):
        listed = "; ".join(f"{kind}: {_listed(ids)}" for kind, ids in kinds.items())
        warn(
            f"scans have different {what} ({listed}), and the model does not say which it takes: "
            f"convert it with `jaxsal convert ... {option}`",
        )


def mixed_scans(
    entries: Sequence[Entry], channel: str, preprocessing: Preprocessing | None
) -> list[Problem]:
    """A warning for each scan that differs from most, where `warn_if_mixed` warns.

    Args:
        entries: the scans.
        channel: of their first images.
        preprocessing: of the model.
    """
    problems = []
    for what, option, kinds in _mixtures(entries, preprocessing):
        most, *others = kinds
        for kind in others:
            message = (
                f"its {what} are {kind}, those of {len(kinds[most])} other scans {most}, and the "
                f"model does not say which it takes: convert it with `jaxsal convert ... {option}`"
            )
            problems += [Problem(i, channel, message, "warning") for i in kinds[kind]]
    return problems


def _mixtures(
    entries: Sequence[Entry], preprocessing: Preprocessing | None
) -> Iterator[tuple[str, str, Kinds]]:
    """Yields what differs between scans, the option of `convert` that states it, and the kinds."""
    stated = preprocessing or Preprocessing()
    grids: dict[str, Grid] = {}
    for entry in entries:
        with suppress(InputError, OSError, IndexError):  # reported where the scan is read
            grids[entry.id] = read_grid(entry.scan.images[0])
    if stated.orientation is None:
        yield from _if_several("axes", "--orientation RAS", {i: g.axes for i, g in grids.items()})
    if stated.spacing is None:
        sizes = _sizes({i: g.in_axes("RAS").spacing for i, g in grids.items()})
        yield from _if_several("voxel sizes", "--voxel-size 1 1 1", sizes)


def _if_several(
    what: str, option: str, kind_of: dict[str, str]
) -> Iterator[tuple[str, str, Kinds]]:
    kinds: Kinds = {}
    for scan, kind in kind_of.items():
        kinds.setdefault(kind, []).append(scan)
    if len(kinds) > 1:
        ordered = sorted(kinds, key=lambda kind: -len(kinds[kind]))
        yield what, option, {kind: kinds[kind] for kind in ordered}


def _sizes(spacings: dict[str, tuple[float, float, float]]) -> dict[str, str]:
    """The voxel size of each scan, as text; sizes that differ by rounding are the same."""
    known: list[tuple[float, float, float]] = []
    found = {}
    for scan, spacing in spacings.items():
        close = (k for k in known if np.allclose(spacing, k, rtol=SAME_SPACING, atol=0))
        same = next(close, spacing)
        known += [same] if same not in known else []
        found[scan] = f"{' × '.join(f'{size:.3g}' for size in same)} mm"
    return found


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"{', '.join(ids[:_SHOWN])}{more}"
