"""Which programs are compiled, so that a test can say that none is compiled again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def compilations() -> Iterator[list[str]]:
    """The names of the programs that are compiled meanwhile, by JAX's log."""
    names: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            first, _, rest = record.getMessage().partition(" jit(")
            if first == "Compiling":
                names.append(rest.partition(")")[0])

    handler = Collect()
    logging.getLogger("jax").addHandler(handler)
    try:
        with jax.log_compiles():
            yield names
    finally:
        logging.getLogger("jax").removeHandler(handler)
