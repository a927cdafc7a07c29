"""A cohort from its source: a table or a BIDS folder."""

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
    """Reads a cohort from a table (`read_manifest`) or a BIDS folder (`read_bids`).

    Args:
        source: the file or the folder.
        channels: of the model.
        select: which images of a BIDS folder are meant.
        named_by: what names the channels, for messages about a table.

    Raises:
        InputError: the source does not exist or has errors; the message lists them all.
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


def has_subjects(source: str | os.PathLike[str]) -> bool:
    """Whether a cohort names the subject of each scan; else every scan has its own.

    Args:
        source: the file or the folder, which can be read.
    """
    source = Path(source).expanduser()
    return source.is_dir() or "subject" in columns(source)
