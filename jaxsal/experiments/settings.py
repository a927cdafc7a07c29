"""Settings that several experiments have."""

from __future__ import annotations

from typing import Any

from jaxsal.errors import InputError
from jaxsal.options import option


def volume_option() -> Any:
    """A smallest and a largest volume in mm³; on the command line 90:120."""
    return option((90.0, 120.0), "MM3:MM3", parse=_pair, shown="90:120")


def _pair(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(":"))
    except ValueError as error:
        raise ValueError("must be two numbers with a colon between, such as 90:120") from error
    return low, high


def check_range(name: str, bounds: tuple[float, float]) -> None:
    """Refuses bounds that are no range.

    Raises:
        InputError: they are negative, or the second is smaller than the first.
    """
    low, high = bounds
    if not 0 <= low <= high:
        raise InputError(
            f"{name} must be the smallest and the largest, such as 90:120, got {low:g}:{high:g}"
        )
