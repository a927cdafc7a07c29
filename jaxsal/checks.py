"""What settings are checked by: each names the setting, the rule and what was received."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from jaxsal.errors import InputError


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Raises InputError unless the value is one of those known."""
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}; got {value!r}")


def whole(name: str, value: object, least: int = 1) -> None:
    """Raises InputError unless the value is a whole number of at least so much."""
    if not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value}")


def seed(value: int) -> None:
    """Raises InputError unless the value can seed random numbers on every device."""
    if not isinstance(value, Integral) or not 0 <= value < 2**31:
        raise InputError(f"seed must be from 0 to 2147483647, got {value}")


def memory(value: int | None) -> None:
    """Raises InputError unless the value is None or a positive number of bytes."""
    if value is not None and value <= 0:
        raise InputError(f"memory must be more than zero, got {value} bytes")
