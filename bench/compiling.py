"""Telling compilation from computation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import jax

from jaxsal.compilation import compiling_seconds

T = TypeVar("T")


def timed_apart(compute: Callable[[], T]) -> tuple[T, float, float]:
    """A result, the seconds it took, and those that compiling took besides."""
    durations = compiling_seconds()
    before, known = time.perf_counter(), len(durations)
    result = jax.block_until_ready(compute())
    compiling = sum(durations[known:])
    return result, time.perf_counter() - before - compiling, compiling
