"""Participants and sessions of a BIDS dataset, chosen by labels as BIDS-Apps are given them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxsal.errors import InputError
from jaxsal.inputs.entries import ENTITIES, Entry

_SHOWN = 10  # labels that there are


def require_dataset(folder: Path) -> None:
    """Raises InputError unless a folder is the root of a BIDS dataset."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give the root of a BIDS dataset")
    described = (folder / "dataset_description.json").is_file()
    if not described and not any(path.is_dir() for path in folder.glob("sub-*")):
        raise InputError(
            f"{folder} is no root of a BIDS dataset: it has neither a dataset_description.json nor "
            "folders sub-*"
        )


def chosen(
    entries: Sequence[Entry], participants: Sequence[str] = (), sessions: Sequence[str] = ()
) -> list[int]:
    """The places of the scans of some participants, in some sessions.

    Args:
        entries: the scans of the dataset.
        participants: their labels, with or without "sub-"; none: all.
        sessions: likewise, "ses-".

    Raises:
        InputError: there is no such participant, or none of them has such a session.
    """
    places = _having(entries, range(len(entries)), "subject", "participant", participants)
    return _having(entries, places, "session", "session", sessions)


def _having(
    entries: Sequence[Entry], places: Sequence[int], entity: str, noun: str, labels: Sequence[str]
) -> list[int]:
    if not labels:
        return list(places)
    wanted = [label.removeprefix(f"{ENTITIES[entity]}-") for label in labels]
    there = list(dict.fromkeys(entries[i].entities.get(entity, "") for i in places))
    unknown = [label for label in wanted if label not in there or not label]
    if unknown:
        some = [label for label in there if label]
        more = ", …" if len(some) > _SHOWN else ""
        known = f"{', '.join(some[:_SHOWN])}{more}" if some else "none"
        raise InputError(f"there is no {noun} {', '.join(unknown)}; there are: {known}")
    return [i for i in places if entries[i].entities.get(entity) in wanted]
