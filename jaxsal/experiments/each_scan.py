"""The same asked of each scan of a study; what was found before is not computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.inputs.entries import OTHER_ROLES, REGION_ROLES, Entry, Scan
from jaxsal.inputs.images import LoadedScan, load_scan
from jaxsal.inputs.read_ahead import one_by_one
from jaxsal.scan.notes import notes_of
from jaxsal.scan.prediction import Prediction, completed, find_lesions
from jaxsal.scan.provenance import identity_of
from jaxsal.store.files import content_of, write_json
from jaxsal.store.identity import digest
from jaxsal.store.parsing import parsed_json
from jaxsal.store.records import Stamp, are_same, from_json, stamps, stamps_of, to_json
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study


@dataclass(frozen=True)
class Made:
    """What an experiment made of a scan.

    Attributes:
        rows: ready for JSON.
        notes: what looks like a mistake in the scan, in sentences.
    """

    rows: list[Row]
    notes: tuple[str, ...] = ()


class KeptRows:
    """Rows and notes of scans in a folder, a file per scan.

    Rows that hold a derived scan (`entry_to_json`, under "entry") depend on its files: these may
    have been written over by the same experiment with other settings.

    Args:
        folder: for the files; made if it is not there.
        channels: of the model.
        identity: what rows depend on besides the scans, ready for JSON; rows of another identity
            are not used.
        files: what else the rows of a scan depend on, by role; files may be missing.
    """

    def __init__(
        self,
        folder: Path,
        channels: tuple[str, ...],
        identity: Mapping[str, Any],
        files: Callable[[Entry], Mapping[str, Path]] = lambda entry: {},
    ) -> None:
        self._folder, self._channels, self._files = folder, channels, files
        self._identity = digest(identity)
        folder.mkdir(parents=True, exist_ok=True)

    def made(self, entry: Entry) -> Made | None:
        """Those of a scan; None if there are none, or a file has changed that they depend on."""
        try:
            content = parsed_json(content_of(self._path(entry)))
            inputs, others = (from_json(content[kind]) for kind in ("inputs", "others"))
            derived = _derived(content["rows"])
            if (
                content["identity"] == self._identity
                and are_same(inputs, entry.scan, self._channels)
                and _unchanged(others, self._files(entry))
                and _unchanged(from_json(content.get("derived", {})), derived)
                and all(path.exists() for path in derived.values())
            ):
                return Made(list(content["rows"]), tuple(map(str, content["notes"])))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # none, or none that can be read
        return None

    def keep(self, entry: Entry, made: Made) -> None:
        """Writes those of a scan.

        Raises:
            OutputError: they cannot be written.
        """
        content = {
            "identity": self._identity,
            "inputs": to_json(stamps(entry.scan, self._channels)),
            "others": to_json(stamps_of(self._files(entry))),
            "derived": to_json(stamps_of(_derived(made.rows))),
            **asdict(made),
        }
        write_json(self._path(entry), content)

    def _path(self, entry: Entry) -> Path:
        return self._folder / f"{entry.stem}.json"


def _unchanged(stamps: Mapping[str, Stamp | None], files: Mapping[str, Path]) -> bool:
    """Whether files still have this content, and those that were missing still are."""
    if set(stamps) != set(files):
        return False
    pairs = [(stamp, files[role]) for role, stamp in stamps.items()]
    return all(stamp.is_same(path) if stamp else not path.exists() for stamp, path in pairs)


def _derived(rows: Sequence[Row]) -> dict[str, Path]:
    """The files of the scans that are kept in rows, by their names."""
    scans = [entry_from_json(row["entry"]).scan for row in rows if "entry" in row]
    paths = [path for scan in scans for path in (*scan.images, *scan.others.values())]
    return {str(path): path for path in paths}


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """A scan, ready for JSON, to be kept in a row."""
    scan = entry.scan
    return {
        "id": entry.id,
        "images": [str(path.absolute()) for path in scan.images],
        **{role: str(path.absolute()) for role, path in scan.others.items()},
        "entities": dict(entry.entities),
    }


def entry_from_json(content: Mapping[str, Any]) -> Entry:
    """The inverse of `entry_to_json`."""
    roles = (*OTHER_ROLES, *REGION_ROLES)
    others = {role: Path(content[role]) for role in roles if content.get(role)}
    scan = Scan(tuple(map(Path, content["images"])), **others)
    return Entry(content["id"], scan, content["entities"])


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
        return load_scan(entry.scan, study.model.channels, study.model.preprocessing)

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
