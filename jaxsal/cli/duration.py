"""Times, for reading."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds as text, in the unit that reads best."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:.1f} days"
