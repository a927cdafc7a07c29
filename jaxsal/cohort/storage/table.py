"""The tables over a cohort: of all lesions, as TSV and Parquet, and of all scans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from jaxsal.cohort.region_summary import SUMMARY_COLUMNS, RegionSummary
from jaxsal.cohort.storage.names import LESION_COLUMNS_SIDECAR, REGION_TABLES
from jaxsal.cohort.storage.rows import TEXT, WHOLE
from jaxsal.scan.region_table import REGION_COLUMNS, all_regions
from jaxsal.store.files import whole_file, write_json
from jaxsal.store.records import ScanRecord
from jaxsal.tables import Column, Row, open_table, write_table
from jaxsal.wording import one_line

_STATUS = {
    "scan": "what the scan is called in the cohort",
    "status": "finished or failed",
    "lesions": "number of lesions that were explained",
    "seconds": "seconds of computing",
    "reason": "why the scan failed, or what else is to be known of it",
}
_GROUP = 5000  # rows


def write_tables(folder: Path, columns: Sequence[Column], records: Iterable[ScanRecord]) -> None:
    """Writes `names.TABLES`: of lesions and of scans, and the meanings of all columns.

    With a column of lesions' regions, those of regions are written, too.

    Args:
        folder: the cohort's.
        columns: of the table of lesions.
        records: of the scans, in the tables' order; a few are in memory at a time.
    """
    scans: list[dict[str, Any]] = []
    parcelled = any(column.key == "region" for column in columns)
    with (
        _Parquet(folder / "lesions.parquet", columns) as parquet_rows,
        _Regions(folder) if parcelled else nullcontext() as regions,
    ):

        def rows() -> Iterator[Row]:
            for record in records:
                scans.append(scan_row(record))
                parquet_rows.add(record.rows)
                if regions is not None:
                    regions.add(record.rows)
                yield from record.rows

        write_table(folder / "lesions.tsv", [column.key for column in columns], rows())
    for name in ("lesions.json", LESION_COLUMNS_SIDECAR):
        write_json(folder / name, _meanings(columns))
    if not parcelled:  # any more
        for name in REGION_TABLES:
            (folder / name).unlink(missing_ok=True)
    write_table(folder / "status.tsv", list(_STATUS), scans)
    write_json(folder / "status.json", {k: {"Description": text} for k, text in _STATUS.items()})


def scan_row(record: ScanRecord) -> dict[str, Any]:
    """A scan's row of the table of scans."""
    return {
        "scan": record.id,
        "status": record.status,
        "lesions": len(record.rows),
        "seconds": record.seconds,
        "reason": one_line(record.reason),
    }


def _meanings(columns: Iterable[Column]) -> dict[str, dict[str, str]]:
    """What columns mean, as BIDS's sidecars say it."""
    return {column.key: {"Description": column.description} for column in columns}


class _Regions:
    """The table of regions, written lesion by lesion, and in the end its summary."""

    _COLUMNS = (Column("scan", "scan", "what the scan is called in the cohort"), *REGION_COLUMNS)

    def __init__(self, folder: Path) -> None:
        self._folder, self._summary = folder, RegionSummary()

    def __enter__(self) -> _Regions:
        with ExitStack() as stack:
            keys = [column.key for column in self._COLUMNS]
            self._write = stack.enter_context(open_table(self._folder / "regions.tsv", keys))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if error[0] is None:
            keys = [column.key for column in SUMMARY_COLUMNS]
            write_table(self._folder / "region_summary.tsv", keys, self._summary.rows())
            write_json(self._folder / "regions.json", _meanings(self._COLUMNS))
            write_json(self._folder / "region_summary.json", _meanings(SUMMARY_COLUMNS))

    def add(self, lesions: Sequence[Row]) -> None:
        self._summary.add(lesions)
        for row in all_regions(lesions):
            self._write(row)


class _Parquet:
    """A Parquet file to which rows are added, in large groups: small ones are slow."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._path = path
        self._schema = pa.schema([(column.key, _type(column.key)) for column in columns])
        self._rows: list[Row] = []

    def __enter__(self) -> _Parquet:
        with ExitStack() as stack:
            file = stack.enter_context(whole_file(self._path))
            self._table = stack.enter_context(parquet.ParquetWriter(file, self._schema))
            stack.callback(self._flush)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, rows: Sequence[Row]) -> None:
        self._rows += rows
        if len(self._rows) >= _GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            names = self._schema.names
            values = {name: [row.get(name) for row in self._rows] for name in names}
            self._table.write_table(pa.table(values, schema=self._schema))
            self._rows = []


def _type(name: str) -> pa.DataType:
    if name in TEXT:
        return pa.string()
    return pa.int64() if name in WHOLE else pa.float64()
