"""How values are written for reading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral


def number(value: float, digits: int | None = None) -> str:
    """Write a number: fixed decimals, else three significant digits."""
    if digits is None and (isinstance(value, Integral) or value == 0 or not math.isfinite(value)):
        digits = 0
    if digits is None:
        rounded = float(f"{value:.2e}")  # 9.996 becomes 10.0, not 10.00
        digits = max(0, 2 - math.floor(math.log10(abs(rounded))))
    if digits > 6:  # far below anything of interest: an exponent reads better than zeros
        return f"{value:.2e}".replace("-", "−")
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def counted(number: int, noun: str) -> str:
    """Write how many there are of something: 1 lesion, 2 lesions."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def one_line(text: str) -> str:
    """Write a text that may have several lines, such as a reason, in a single one."""
    return " ".join(text.split())


def fact(value: object) -> str:
    """Write a fact about a run: text, number, or some of them, named or not."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {fact(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(fact, value)))
    return {"None": "–", "True": "yes", "False": "no"}.get(str(value), str(value))


def duration(seconds: float) -> str:
    """Write a time in the unit that reads best."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:.1f} days"


def pace(per_second: float) -> str:
    """Write how many of something are done per second, or, if it is slow, per minute."""
    if per_second < 0.1:
        return f"{number(60 * per_second)}/min"
    return f"{per_second:,.0f}/s" if per_second >= 100 else f"{number(per_second)}/s"
