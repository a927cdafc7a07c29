"""The tables over a cohort: of all lesions, as TSV and Parquet, and of all scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from jaxsal.cohort.storage.records import ScanRecord, write_json
from jaxsal.files import whole_file
from jaxsal.report.page import Column
from jaxsal.scan.results import Row, write_table

_SCANS = ("scan", "status", "lesions", "seconds", "reason")
_GROUP = 5000  # rows
_WHOLE = ("label", "voxels", "samples")
_TEXT = ("scan", "subject", "session", "kind")


def write_tables(
    folder: Path, columns: Sequence[Column], records: Callable[[], Iterator[ScanRecord]]
) -> None:
    """Writes ``lesions.tsv``, ``.parquet`` and ``.json`` (what columns mean), and ``scans.tsv``.

    Args:
        folder: the cohort's.
        columns: of the table of lesions.
        records: called for the scans' records, in the tables' order; one is in memory at a time.
    """
    keys = [column.key for column in columns]
    write_table(folder / "lesions.tsv", keys, (row for r in records() for row in r.rows))
    _write_parquet(folder / "lesions.parquet", columns, records())
    meanings = {c.key: {"Description": c.description} for c in columns}
    write_json(folder / "lesions.json", meanings)
    write_table(folder / "scans.tsv", _SCANS, map(scan_row, records()))


def scan_row(record: ScanRecord) -> dict[str, Any]:
    """A scan's row of the table of scans."""
    return {
        "scan": record.id,
        "status": record.status,
        "lesions": len(record.rows),
        "seconds": record.seconds,
        "reason": " ".join(record.reason.split()),  # a single line
    }


def _write_parquet(path: Path, columns: Sequence[Column], records: Iterator[ScanRecord]) -> None:
    schema = pa.schema([(column.key, _type(column.key)) for column in columns])
    with whole_file(path) as file, parquet.ParquetWriter(file, schema) as table:
        for rows in _grouped(records):
            values = {name: [row.get(name) for row in rows] for name in schema.names}
            table.write_table(pa.table(values, schema=schema))


def _grouped(records: Iterator[ScanRecord]) -> Iterator[list[Row]]:
    """The rows of many scans at a time: groups of a few would make the file large and slow."""
    rows: list[Row] = []
    for record in records:
        rows += record.rows
        if len(rows) >= _GROUP:
            yield rows
            rows = []
    if rows:
        yield rows


def _type(name: str) -> pa.DataType:
    if name in _TEXT:
        return pa.string()
    return pa.int64() if name in _WHOLE else pa.float64()
