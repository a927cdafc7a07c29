"""What results depend on: of a folder's earlier run and of one that is to go on there, compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError, printable

ADVICE = "Choose another folder, go on with what it was begun with, or begin anew with --overwrite"
_MODEL = "model.parameters_sha256"
_SHOWN = 5  # differences


class OtherResultsError(InputError):
    """A folder holds results of other things than those that are to go on there.

    Attributes:
        difference: what it holds, and in what it differs.
        advice: what to do, in a sentence without its full stop.
    """

    def __init__(self, difference: str, advice: str) -> None:
        super().__init__(difference, advice)
        self.difference, self.advice = difference, advice

    def __str__(self) -> str:
        return printable(f"{self.difference}. {self.advice}")


def require_same(
    root: Path,
    earlier: Mapping[str, Any],
    now: Mapping[str, Any],
    holds: str,
    advice: str = ADVICE,
    ignored: Collection[str] = (),
) -> None:
    """Refuses to go on with anything else than before.

    Args:
        root: the folder.
        earlier: identity of the run that began it, as JSON gives it back.
        now: identity of the run that is to go on, likewise.
        holds: what the folder holds if they differ, for the message: "results of {}", which
            becomes "results of another model" or "results of other settings".
        advice: what to do then.
        ignored: what may differ, as `flat` names it.

    Raises:
        OtherResultsError: they differ; the message says in what.
    """
    before, after = flat(earlier), flat(now)
    if before.get(_MODEL) != after.get(_MODEL):
        raise OtherResultsError(f"{root} holds {holds.format('another model')}", advice)
    changed = [
        f"{name} was {before.get(name, 'not there')}, is {after.get(name, 'not there')}"
        for name in sorted({*before, *after} - {*ignored})
        if before.get(name) != after.get(name)
    ]
    if changed:
        more = "; and more" if len(changed) > _SHOWN else ""
        shown = f"{'; '.join(changed[:_SHOWN])}{more}"
        raise OtherResultsError(f"{root} holds {holds.format('other settings')}: {shown}", advice)


def flat(tree: Any, name: str = "") -> dict[str, Any]:
    """The leaves of nested mappings, by their keys joined with dots."""
    if not isinstance(tree, Mapping):
        return {name: tree}
    return {
        key: value
        for child, inner in tree.items()
        for key, value in flat(inner, f"{name}.{child}" if name else str(child)).items()
    }


def digest(identity: Mapping[str, Any]) -> str:
    """SHA-256 of an identity as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
