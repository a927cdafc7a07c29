"""A cohort from wherever it is described."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from jaxsal.errors import InputError
from jaxsal.inputs.bids import Select, read_bids
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.manifest import columns, read_manifest
from jaxsal.store.files import require_content


def read_cohort(
    source: str | os.PathLike[str],
    channels: Sequence[str],
    select: Select | None = None,
    named_by: str = "the model",
) -> list[Entry]:
    """Reads a cohort from a table, see `read_manifest`, or a BIDS folder, see `read_bids`.

    Args:
        source: the file or the folder.
        channels: of the model.
        select: which images of a BIDS folder are meant.
        named_by: what names the channels, for messages about a table.

    Raises:
        InputError: there is nothing, or all that is wrong with it.
    """
    source = Path(source).expanduser()
    require_content(source)
    if source.is_dir():
        return read_bids(source, channels, select)
    if not source.exists():
        raise InputError(f"{source} does not exist; a table of scans or a BIDS folder is expected")
    if select:
        raise InputError(f"images are selected in BIDS folders, but {source} is a table")
    return read_manifest(source, channels, named_by)


def tells_subjects(source: str | os.PathLike[str]) -> bool:
    """Whether a cohort that can be read tells whose each scan is; else each is its own subject's.

    Args:
        source: the file or the folder.
    """
    source = Path(source).expanduser()
    return source.is_dir() or "subject" in columns(source)
