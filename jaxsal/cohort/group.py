"""The tables over all scans of a cohort's folder, written again from their records.

Each run writes them as it ends. Where several ran at once, or one was killed, they may lack what
others have done since.
"""

from __future__ import annotations

from pathlib import Path

from jaxsal.cohort.columns import Outline
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.table import write_tables


def gather_tables(out: Path) -> None:
    """Writes the tables over all scans that are done.

    Args:
        out: the folder; runs may be at work in it.

    Raises:
        InputError: it is no such folder.
        OutputError: they cannot be written.
    """
    folder = CohortFolder(out)
    columns = Outline.read(folder.run()).columns
    with folder.tables_locked():
        records = (folder.record(stem) for stem in folder.scans())
        write_tables(out, columns, (record for record in records if record is not None))
