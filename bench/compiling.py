"""Telling compilation from computation."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import jax
import jax.monitoring

_EVENTS = (
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)

T = TypeVar("T")


def timed_apart(compute: Callable[[], T]) -> tuple[T, float, float]:
    """A result, the seconds it took, and those that compiling took besides."""
    durations = _durations()
    before, known = time.perf_counter(), len(durations)
    result = jax.block_until_ready(compute())
    compiling = sum(durations[known:])
    return result, time.perf_counter() - before - compiling, compiling


@cache  # once per process
def _durations() -> list[float]:
    """Grows by each compilation's seconds."""
    found: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event in _EVENTS:
            found.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return found
