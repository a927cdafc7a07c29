"""What is wrong with a cohort, reported all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxsal.errors import InputError
from jaxsal.wording import counted

_SHOWN = 50

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """Something wrong with one file of one scan.

    Attributes:
        id: of the scan.
        role: of the file: a channel, "reference", "instances" or "mask".
        message: what is wrong and what to do.
        severity: "error" if the scan cannot be used, "warning" if it may be intended.
    """

    id: str
    role: str
    message: str
    severity: Severity = "error"

    def __str__(self) -> str:
        kind = "warning: " if self.severity == "warning" else ""
        return f"{self.id}: {self.role}: {kind}{' '.join(self.message.splitlines())}"


def refuse(source: str, problems: Sequence[str]) -> None:
    """Raises one InputError that lists all problems of a source, if there are any."""
    if not problems:
        return
    count = counted(len(problems), "problem")
    more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    lines = [f"{source} has {count}:", *problems[:_SHOWN], *more]
    raise InputError("\n  ".join(lines))
