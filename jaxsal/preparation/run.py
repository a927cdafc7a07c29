"""A cohort prepared, unattended: what is done stays done, and a bad scan does not stop the others.

The folder of results has BIDS's names, and a table of the scans that are done, which is a manifest
of the prepared cohort; see `jaxsal.inputs.manifest`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal.inputs.entries import ENTITIES, OTHER_ROLES, Entry
from jaxsal.preparation.brain import OWN, require_no_masks, with_masks
from jaxsal.preparation.dataset import FAILED, check_row, described, prepared
from jaxsal.preparation.libraries import import_elastix, import_simpleitk, versions
from jaxsal.preparation.names import PreparedNames, is_prepared_of, suffixes_of
from jaxsal.preparation.scan import Task, prepare_scan, record_path, staging_path
from jaxsal.preparation.settings import PreparationSettings
from jaxsal.preparation.tool import is_command, require_tool
from jaxsal.processes import available_cores, in_processes
from jaxsal.store.bids_dataset import LAYOUT, describe
from jaxsal.store.files import write_json
from jaxsal.store.inside import remove_inside
from jaxsal.store.records import ScanRecord, are_same
from jaxsal.store.run_folder import RunFolder
from jaxsal.tables import write_table
from jaxsal.wording import one_line

TABLE = "cohort.tsv"
_EARLIER = ("scans.tsv", "scans.json")  # of the versions that noted no layout

OnPrepared = Callable[[ScanRecord, bool], None]  # the record of a scan, and if it is new


def prepare_cohort(
    entries: Sequence[Entry],
    out: Path,
    settings: PreparationSettings,
    processes: int | None = None,
    on_scan: OnPrepared = lambda record, is_new: None,
    *,
    overwrite: bool = False,
) -> list[ScanRecord]:
    """Prepares every scan of a cohort that is not prepared yet, or whose files have changed.

    Args:
        entries: the cohort, with images in the order of the settings' channels.
        out: the folder for the results.
        settings: how scans are prepared.
        processes: how many scans are prepared at once; None: one per CPU core. Results do not
            depend on it.
        on_scan: called with every scan's record.
        overwrite: begin anew where earlier runs left results; see `jaxsal.store`.

    Returns:
        What became of each scan, in their order; those that failed have no results.

    Raises:
        InputError: the extra is not installed; there is no tool or mask to extract brains with; the
            folder is in use, or holds something else or results of other settings; or a process
            was ended.
        OutputError: nothing can be written.
    """
    if processes is not None and processes < 1:
        raise InputError(f"processes must be at least 1, got {processes}")
    import_simpleitk()
    if settings.register:
        import_elastix()
    entries, settings = _with_brains(entries, settings)
    folder = RunFolder(
        out, "preprocess", key="settings", holds="scans prepared with {}", layout=LAYOUT
    )

    def begin(*_: object) -> Mapping[str, Any]:
        for name in ("scans", "unfinished"):
            (folder.state / name).mkdir(exist_ok=True)
        return {"software": versions()}

    with folder.opened(settings.identity, begin, partial(_remove_all, out), overwrite=overwrite):
        return _run(entries, out, settings, processes or available_cores(), on_scan)


def _with_brains(
    entries: Sequence[Entry], settings: PreparationSettings
) -> tuple[Sequence[Entry], PreparationSettings]:
    """The cohort with its masks of the brain, which are files of the scans like any other."""
    given = settings.skull_strip
    if given is None:
        return entries, settings
    if is_command(given):
        require_tool(given)
        require_no_masks(entries)
        return entries, settings
    return with_masks(entries, given), replace(settings, skull_strip=OWN)


def _run(
    entries: Sequence[Entry],
    out: Path,
    settings: PreparationSettings,
    processes: int,
    on_scan: OnPrepared,
) -> list[ScanRecord]:
    done: dict[str, ScanRecord] = {}
    left = []
    for entry in entries:
        record = _finished(entry, out, settings)
        if record is None:
            left.append(_task(entry, out, settings))
            continue
        done[entry.stem] = record
        on_scan(record, False)
    try:
        with in_processes(prepare_scan, left, processes) as records:
            for record in records:
                done[record.stem] = record
                on_scan(record, True)
    finally:  # also when interrupted
        found = [done[entry.stem] for entry in entries if entry.stem in done]
        _write_tables(out, settings, entries, found)
    return found


def _remove_all(out: Path, record: Mapping[str, Any]) -> None:
    """Removes what earlier runs wrote, tables apart, which are written anew."""
    for path in record_path(out, "x").parent.glob("*.json"):
        _remove(out, path)
    for name in () if "layout" in record else _EARLIER:
        (out / name).unlink(missing_ok=True)


def _finished(entry: Entry, out: Path, settings: PreparationSettings) -> ScanRecord | None:
    """The record of a scan that need not be done again; else its old results are removed."""
    path = record_path(out, entry.stem)
    record = ScanRecord.read(path, out, entry.stem, is_prepared_of, check_row)
    if record is None:
        return None
    same = record.id == entry.id and are_same(record.inputs, entry.scan, settings.channels)
    if same and not record.missing(out):
        shutil.rmtree(staging_path(out, entry.stem), ignore_errors=True)  # if it is still there
        return record
    _remove(out, path)
    return None


def _remove(out: Path, path: Path) -> None:
    """Removes a scan's results, and its record last."""
    record = ScanRecord.read(path, out, path.stem, is_prepared_of, check_row)
    if record is not None:
        remove_inside(out, record.files)
    path.unlink(missing_ok=True)


def _task(entry: Entry, out: Path, settings: PreparationSettings) -> Task:
    roles = entry.scan.roles(settings.channels)
    images = {channel: roles[channel] for channel in settings.channels}
    masks = {role: roles[role] for role in OTHER_ROLES if role in roles}
    names = PreparedNames(entry.stem, suffixes_of(settings.channels))
    return Task(entry.id, names, images, masks, out, settings)


def _write_tables(
    out: Path,
    settings: PreparationSettings,
    entries: Sequence[Entry],
    records: Sequence[ScanRecord],
) -> None:
    """Writes the manifest of the prepared cohort, what its columns mean, and scans that failed."""
    entities = {entry.stem: entry.entities for entry in entries}
    rows = [
        {"scan": r.id, **entities[r.stem], **r.rows[0], "seconds": r.seconds, "note": r.reason}
        for r in records
        if r.status == "finished" and r.rows
    ]
    first = ["scan", *ENTITIES, *settings.channels, *OTHER_ROLES]
    used = {name for row in rows for name in row} | {"scan", *settings.channels}
    order = [*first, *(name for row in rows for name in row)]
    columns = [name for name in dict.fromkeys(order) if name in used]
    write_table(out / TABLE, columns, rows)
    write_json(out / "cohort.json", described(columns, settings))
    describe(out, prepared(settings.channels), [i for entry in entries for i in entry.scan.images])
    failed = [{"scan": r.id, "reason": one_line(r.reason)} for r in records if not r.rows]
    for name in ("failed.tsv", "failed.json"):
        (out / name).unlink(missing_ok=True)
    if failed:
        write_table(out / "failed.tsv", list(FAILED), failed)
        write_json(out / "failed.json", FAILED)
