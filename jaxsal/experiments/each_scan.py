"""The same asked of each scan of a study; what was found before is not computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.experiments.kept import KeptRows, Made
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.loading import LoadedScan, load_scan
from jaxsal.inputs.read_ahead import one_by_one
from jaxsal.scan.notes import notes_of
from jaxsal.scan.prediction import Prediction, completed, find_lesions
from jaxsal.scan.provenance import identity_of
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study


def each_scan(
    study: Study,
    name: str,
    settings: Mapping[str, Any],
    compute: Callable[[Entry, Prediction], list[Row]],
    files: Callable[[Entry], Mapping[str, Path]] = lambda entry: {},
) -> list[Row]:
    """Rows of all scans. A scan that fails is noted and skipped; so are rows with a "note".

    Args:
        study: the scans.
        name: of the experiment.
        settings: what the rows depend on besides model, prediction and scan; for JSON.
        compute: makes the rows of a scan, ready for JSON.
        files: what else a scan's rows are made from, which may not be there.

    Returns:
        The rows in the order of the scans.
    """
    study.monitor.stage(name)
    finding = completed(study.prediction, study.model)
    identity = identity_of(study.model, finding, settings)
    kept = KeptRows(study.out / ".jaxsal" / name, study.model.channels, identity, files)
    found = {entry.stem: kept.made(entry) for entry in study.entries}
    for entry in study.entries:
        earlier = found[entry.stem]
        _pass_on(study, entry, earlier.notes if earlier else ())

    def load(entry: Entry) -> LoadedScan:
        return load_scan(entry.scan, study.model)

    def work(entry: Entry, loaded: LoadedScan) -> Made:
        prediction = find_lesions(study.model, loaded, study.prediction)
        notes = notes_of(study.model, prediction)
        _pass_on(study, entry, notes)
        made = Made(compute(entry, prediction), notes)
        kept.keep(entry, made)
        return made

    todo = [entry for entry in study.entries if found[entry.stem] is None]
    done = len(study.entries) - len(todo)
    for number, (entry, made, reason) in enumerate(one_by_one(todo, load, work), done + 1):
        found[entry.stem] = made
        study.monitor.count(number, len(study.entries), "scans")
        if reason:
            study.leave_out(name, entry.id, reason)
    return [row for entry in study.entries for row in _rows(study, found[entry.stem])]


def _rows(study: Study, made: Made | None) -> Iterator[Row]:
    for row in made.rows if made else ():
        if "note" in row:
            study.note(row["note"])
        yield row


def _pass_on(study: Study, entry: Entry, notes: Sequence[str]) -> None:
    for note in notes:
        study.note(f"{entry.id}: {note}")
