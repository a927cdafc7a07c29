"""Tracing a network in order to learn of what it consists, not for computing with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_traced: ContextVar[bool] = ContextVar("traced", default=False)


@contextmanager
def as_traced() -> Iterator[None]:
    """Within the block every convolution is one ``conv_general_dilated``, easy to recognise.

    Attention has no loops.
    """
    token = _traced.set(True)
    try:
        yield
    finally:
        _traced.reset(token)


def is_traced() -> bool:
    """Whether a network is being traced within such a block."""
    return _traced.get()
