"""Which scans a network is trained on, and which it is validated on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from jaxsal.errors import InputError, warn
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.sources import has_subjects
from jaxsal.progress import Monitor
from jaxsal.wording import counted


def split(
    entries: Sequence[Entry], validation: float | Sequence[str], seed: int = 0
) -> tuple[list[Entry], list[Entry]]:
    """Splits scans by subject: all scans of a subject are on one side.

    A share is drawn by ranking the subjects by a hash of seed and name. So the split depends
    neither on the order of the scans nor on the machine, and a further subject moves few others.

    Args:
        entries: the scans.
        validation: the share of the subjects to validate on, from 0 to below 1, rounded to whole
            subjects, at least one unless it is 0; or names of subjects or of scans, a scan
            standing for its subject.
        seed: of the ranking.

    Returns:
        The scans to train on and those to validate on, both in their order.

    Raises:
        InputError: a share out of range or of a single subject, a name that is unknown or means
            two subjects, or nothing is left to train on.
    """
    subjects = {_subject(entry) for entry in entries}
    if isinstance(validation, int | float):
        chosen = _drawn(subjects, validation, seed)
    else:
        chosen = _named(entries, [validation] if isinstance(validation, str) else validation)
    if not subjects - chosen:
        raise InputError(
            f"of {counted(len(subjects), 'subject')} validation takes all, and none is left to "
            "train on: validate on fewer"
        )
    sides: tuple[list[Entry], list[Entry]] = ([], [])
    for entry in entries:
        sides[_subject(entry) in chosen].append(entry)
    return sides


def say_subjects(
    cohort: Path,
    training: Sequence[Entry],
    validation: Sequence[Entry],
    monitor: Monitor,
) -> None:
    """Says how the scans are split, and warns if it is unknown which are of one subject."""
    parts = [
        f"{counted(len(entries), 'scan')} of "
        f"{counted(len(set(map(_subject, entries))), 'subject')} to {use}"
        for use, entries in (("train on", training), ("validate on", validation))
    ]
    monitor.say(", ".join(parts))
    scans = [*training, *validation]
    alone = len(set(map(_subject, scans))) == len(scans)
    if validation and alone and not has_subjects(cohort):
        warn(
            f"{cohort} has no column 'subject', so that a subject with several scans "
            "may be trained and validated on: add the column if there are such, and 'session' or "
            "'run' to tell a subject's scans apart",
        )


def _subject(entry: Entry) -> str:
    return entry.entities["subject"]


def _drawn(subjects: set[str], share: float, seed: int) -> set[str]:
    """A share of the subjects."""
    if not 0 <= share < 1:
        raise InputError(f"validation must be a share from 0 to below 1, or names; got {share}")
    if share == 0:
        return set()
    if len(subjects) == 1:
        raise InputError(
            f"a share of {share:g} to validate on needs two subjects, and there is one, "
            f"{min(subjects)}: give more subjects, or a validation of 0"
        )
    ranked = sorted(
        subjects, key=lambda subject: hashlib.sha256(f"{seed}/{subject}".encode()).digest()
    )
    return set(ranked[: min(max(round(share * len(ranked)), 1), len(ranked) - 1)])


def _named(entries: Sequence[Entry], names: Sequence[str]) -> set[str]:
    """The subjects that names of subjects or scans mean."""
    meant: dict[str, set[str]] = {name: set() for name in names}
    for entry in entries:
        subject = _subject(entry)
        for name in {subject, f"sub-{subject}", entry.id} & meant.keys():
            meant[name].add(subject)
    unknown = [name for name, subjects in meant.items() if not subjects]
    if unknown:
        raise InputError(
            f"there is no subject or scan to validate on called {' or '.join(unknown)}; the "
            f"subjects are {_listed(sorted({_subject(entry) for entry in entries}))}"
        )
    for name, subjects in meant.items():
        if len(subjects) > 1:
            raise InputError(
                f"{name} to validate on means scans of several subjects, "
                f"{', '.join(sorted(subjects))}: name the subject as sub-..., or other scans of it"
            )
    return {subject for subjects in meant.values() for subject in subjects}


def _listed(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(names[:most]) or "none"
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"
