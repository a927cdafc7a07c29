"""What the device can do at most, by a measurement, and how near a benchmark comes."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from bench.operations import Effort
from bench.options import timed
from bench.record import Row
from jaxsal.current_device import current_device
from jaxsal.nets.registry import MATMUL_PRECISION

WIDTHS = {"float32": 4, "tf32": 4, "bfloat16x3": 4, "bfloat16": 2}  # bytes of a number
_BATCH = 32  # gradients that share a reading of the weights
_REPEATS = 5
_SIDE, _FAST_SIDE = 4096, 8192  # of the matrices, on a CPU and on an accelerator
_LENGTH = 2**28  # of the array that is copied
_TOY_SIDE, _TOY_LENGTH = 256, 2**20


@dataclass(frozen=True)
class Ceilings:
    """Speeds of a large matrix product and of a large copy.

    Attributes:
        precision: of the product.
        flops: FLOP per second.
        bytes: per second, read and written.
    """

    precision: str
    flops: float
    bytes: float

    @property
    def note(self) -> str:
        """What they are, for a result."""
        return (
            f"ceilings, measured in the same run: {self.flops / 1e9:.4g} GFLOP/s of a matrix "
            f"product in {self.precision}, {self.bytes / 1e9:.4g} GB/s of a copy."
        )

    @property
    def settings(self) -> Row:
        """As they stand in a result's settings."""
        return {"gflop_per_s": self.flops / 1e9, "gbyte_per_s": self.bytes / 1e9}

    def shares(self, work: Effort | None, seconds: float) -> Row:
        """Columns: what a result's figure takes by hand count, beside the ceilings.

        Args:
            work: what is done, counted from the architecture; no columns if that was not counted.
            seconds: that it takes.
        """
        if work is None:
            return {}
        moved = work.bytes(WIDTHS[self.precision], _BATCH)
        return {
            "gflop": work.flops / 1e9,
            "mbyte": moved / 1e6,
            "share_of_peak": work.flops / seconds / self.flops,
            "share_of_bandwidth": moved / seconds / self.bytes,
        }


SHARES_NOTE = (
    "gflop: of products (convolutions, linear layers, attention), mbyte: the least traffic, with "
    f"weights read once for {_BATCH} gradients; both counted by hand from the architecture; "
    "shares: of the ceilings."
)


def measure_ceilings(precision: str, *, toy: bool = False) -> Ceilings:
    """Measures them on the default device."""
    side = _SIDE if current_device().platform == "cpu" else _FAST_SIDE
    operations = matrix_product_rate(_TOY_SIDE if toy else side, precision)
    return Ceilings(precision, operations, copy_rate(_TOY_LENGTH if toy else _LENGTH))


def matrix_product_rate(size: int, precision: str) -> float:
    """FLOP/s of a square matrix product."""
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    matrix = jnp.ones((size, size), dtype)
    with jax.default_matmul_precision(MATMUL_PRECISION[precision]):
        product = jax.jit(lambda a: a @ a)
        timed(lambda: product(matrix))
        best = min(timed(lambda: product(matrix))[1] for _ in range(_REPEATS))
    return 2 * size**3 / best


def copy_rate(size: int) -> float:
    """Bytes per second, read and written, of a copy of this many numbers."""
    array = jnp.ones(size, jnp.float32)
    copy = jax.jit(lambda a: a + 1)
    timed(lambda: copy(array))
    best = min(timed(lambda: copy(array))[1] for _ in range(_REPEATS))
    return 2 * 4 * size / best
