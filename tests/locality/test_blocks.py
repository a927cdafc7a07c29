"""A convolution's pull-back from blocks to blocks is that from cells to cells."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxsal.locality.blocks import block_kernel, pull_back_blocks, to_blocks, to_cells
from jaxsal.nets.convolution import convolution

# kernel, stride, factor of the output's blocks
CASES = [
    ((3, 3, 3), (2, 2, 2), (1, 1, 1)),
    ((3, 3, 3), (2, 2, 2), (2, 2, 2)),
    ((3, 1, 5), (2, 2, 1), (1, 2, 3)),
    ((2, 4, 1), (2, 3, 1), (3, 1, 2)),
    ((1, 2, 3), (3, 1, 2), (2, 2, 1)),
]


def test_blocks_and_cells_are_inverse():
    cells = jnp.arange(2 * 4 * 6 * 3 * 5).reshape(2, 4, 6, 3, 5)
    blocks = to_blocks(cells, (2, 3, 1))
    assert blocks.shape == (2, 2, 2, 3, 6 * 5)
    np.testing.assert_array_equal(to_cells(blocks, (2, 3, 1)), cells)


def test_a_block_holds_its_cells_in_the_order_of_the_axes():
    cells = jnp.stack(jnp.meshgrid(*map(jnp.arange, (4, 4, 4)), indexing="ij"), -1)[None]
    inside = to_blocks(cells, (2, 2, 2))[0, 1, 0, 1].reshape(2, 2, 2, 3)
    np.testing.assert_array_equal(inside[1, 0, 1], [3, 0, 3])


@pytest.mark.parametrize(("size", "stride", "factor"), CASES, ids=str)
def test_pulled_back_in_blocks_as_in_cells(size, stride, factor):
    # The values are small integers, so that sums are exact.
    rng = np.random.default_rng(0)
    blocks = (2, 3, 2)
    made = [n * f for n, f in zip(blocks, factor, strict=True)]
    read = [(n - 1) * s + k for n, s, k in zip(made, stride, size, strict=True)]
    kernel = jnp.asarray(rng.integers(-3, 4, (*size, 2, 3)), jnp.float32)
    cotangent = jnp.asarray(rng.integers(-3, 4, (1, *made, 3)), jnp.float32)
    primal = jax.ShapeDtypeStruct((1, *read, 2), jnp.float32)

    def forward(x):
        return convolution(x, kernel, stride=stride, form="xla")

    (expected,) = jax.linear_transpose(forward, primal)(cotangent)
    wide = [f * s for f, s in zip(factor, stride, strict=True)]
    needed = [-(-n // w) for n, w in zip(read, wide, strict=True)]
    found = to_cells(
        pull_back_blocks(
            to_blocks(cotangent, factor), block_kernel(kernel, factor, stride), needed
        ),
        wide,
    )
    beyond = [(0, n * w - m, 0) for n, w, m in zip(needed, wide, read, strict=True)]
    expected = lax.pad(expected, 0.0, [(0, 0, 0), *beyond, (0, 0, 0)])
    np.testing.assert_array_equal(found, expected)
