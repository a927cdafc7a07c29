"""Programs that compute faster, for tests in which the same few run over and over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax


def optimise(programs: bool) -> None:
    """Let what is compiled from now on be optimised, or hardly.

    Both kinds of one program may live in a process, whichever test comes first. JAX would take one
    for the other: it keeps apart what differs in settings of tracing. So one of those is changed
    too, which has no effect unless profiles guide the compiler.
    """
    jax.config.update("jax_disable_most_optimizations", not programs)
    jax.config.update("jax_pgle_profiling_runs", 3 if programs else 2)


@contextmanager
def optimised() -> Iterator[None]:
    """What is compiled within is optimised, which other tests' programs are not."""
    optimise(True)
    try:
        yield
    finally:
        optimise(False)
