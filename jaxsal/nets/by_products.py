"""Convolutions as products of shifted copies of the input; see `jaxsal.nets.convolution`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import reduce
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax import lax

if TYPE_CHECKING:
    from jaxsal.types import Triple

_SLAB_BYTES = 4 * 2**20  # of a slab's rows: less and slabs share more, more falls out of caches


def by_columns(x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple) -> jax.Array:
    """One product over the columns of all taps."""
    taps = _shifted_phases(x, kernel.shape[:3], stride, padding)
    columns = jnp.concatenate(list(taps), axis=-1)
    return columns @ kernel.reshape(-1, kernel.shape[-1])


def by_separable_columns(
    x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple
) -> jax.Array:
    """The same, its columns made one axis after the other."""
    columns = _columns_by_axis(x, kernel.shape[:3], stride, padding)
    return columns @ kernel.reshape(-1, kernel.shape[-1])


def by_rows(x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple) -> jax.Array:
    """A product per tap of the first two axes, a few planes at a time where x is large."""
    weights = kernel.reshape(*kernel.shape[:2], -1, kernel.shape[-1])
    planes = _planes_per_slab(x.shape, kernel.shape)
    if stride != (1, 1, 1) or kernel.shape[0] == 1 or planes >= x.shape[1]:
        return _sum_of_products(x, weights, kernel.shape[:3], stride, padding)
    return _slab_by_slab(x, weights, kernel.shape[:3], padding, planes)


def by_blocks(x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple) -> jax.Array:
    """One product over the blocks that a kernel of the stride's size meets."""
    size = output_size(x.shape, kernel.shape[:3], stride, padding)
    met = [n * s for n, s in zip(size, stride, strict=True)]
    x = placed(x, [-p for p in padding], met)
    split = [m for pair in zip(size, stride, strict=True) for m in pair]
    blocks = x.reshape(x.shape[0], *split, x.shape[-1]).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return blocks.reshape(x.shape[0], *size, -1) @ kernel.reshape(-1, kernel.shape[-1])


def _planes_per_slab(x_shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> int:
    """X-planes of the output to compute at once: no fewer than two neighbouring slabs share."""
    plane_bytes = 4 * math.prod(x_shape[2:4]) * math.prod(kernel_shape[2:4])
    return max(_SLAB_BYTES // plane_bytes, kernel_shape[0] - 1)


def _slab_by_slab(
    x: jax.Array, weights: jax.Array, kernel_size: tuple[int, ...], padding: Triple, planes: int
) -> jax.Array:
    """The same of an unstrided convolution, for so many planes of the output at a time."""
    examples, shared = x.shape[0], kernel_size[0] - 1
    size = x.shape[1] + 2 * padding[0] - shared
    slabs = -(-size // planes)
    planes = max(-(-size // slabs), shared)  # of much the same size
    end = (slabs + 1) * planes - x.shape[1] - padding[0]
    edges = [(padding[0], end), *((p, p) for p in padding[1:])]
    x = jnp.pad(x, [(0, 0), *edges, (0, 0)])
    first = x[:, :-planes].reshape(examples * slabs, planes, *x.shape[2:])
    next_ = x[:, planes:].reshape(examples * slabs, planes, *x.shape[2:])
    overlapping = jnp.concatenate([first, next_[:, :shared]], axis=1)

    def slab(x: jax.Array) -> jax.Array:
        return _sum_of_products(x[None], weights, kernel_size, (1, 1, 1), (0, 0, 0))[0]

    # Computed again where the kernel is differentiated: kept, the shifted copies of all slabs would
    # be many times the input, and writing them takes longer than the products.
    y = lax.map(jax.checkpoint(slab, prevent_cse=False), overlapping)
    return y.reshape(examples, slabs * planes, *y.shape[2:])[:, :size]


def _sum_of_products(
    x: jax.Array,
    weights: jax.Array,
    kernel_size: tuple[int, ...],
    stride: Triple,
    padding: Triple,
) -> jax.Array:
    """The convolution by weights (kx, ky, kz C, K), one product per tap of the first two axes."""
    *plane, depth = output_size(x.shape, kernel_size, stride, padding)
    phases = split_phases(x, stride)
    rows: dict[tuple[int, ...], jax.Array] = {}
    for phase in itertools.product(*map(range, stride[:2])):
        taps = []
        for tap in range(kernel_size[2]):
            start, part = divmod(tap - padding[2], stride[2])
            values = phases[*phase, part]
            taps.append(placed(values, [0, 0, start], [*values.shape[1:3], depth]))
        rows[phase] = jnp.concatenate(taps, axis=-1)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    products = []
    for place in itertools.product(*map(range, kernel_size[:2])):
        places = [divmod(t - p, s) for t, p, s in zip(place, padding[:2], stride[:2], strict=True)]
        values = rows[tuple(phase for _, phase in places)]
        shifted = placed(values, [*(start for start, _ in places), 0], [*plane, depth])
        products.append(jnp.matmul(shifted, weights[place], preferred_element_type=wide))
    return reduce(jnp.add, products).astype(x.dtype)  # rounded once, after adding up


def _columns_by_axis(
    x: jax.Array, kernel_size: tuple[int, ...], stride: Triple, padding: Triple
) -> jax.Array:
    """For each output position all values that the kernel meets: (B, X', Y', Z', kx ky kz C)."""
    x = jnp.pad(x, [(0, 0), *((p, p) for p in padding), (0, 0)])
    for axis in (3, 2, 1):  # so that the first axis of the kernel varies slowest
        k, s = kernel_size[axis - 1], stride[axis - 1]
        last = (x.shape[axis] - k) // s * s
        taps = [lax.slice_in_dim(x, tap, tap + last + 1, s, axis) for tap in range(k)]
        x = jnp.concatenate(taps, axis=-1)
    return x


def _shifted_phases(
    x: jax.Array, kernel_size: tuple[int, ...], stride: Triple, padding: Triple
) -> Iterator[jax.Array]:
    """For each kernel tap, in kernel order, the values of x that it meets: (B, X', Y', Z', C)."""
    size = output_size(x.shape, kernel_size, stride, padding)
    phases = split_phases(x, stride)
    for tap in itertools.product(*map(range, kernel_size)):
        offsets = [t - p for t, p in zip(tap, padding, strict=True)]
        phase = phases[tuple(o % s for o, s in zip(offsets, stride, strict=True))]
        starts = [o // s for o, s in zip(offsets, stride, strict=True)]
        yield placed(phase, starts, size)


def output_size(
    x_shape: tuple[int, ...], kernel_size: tuple[int, ...], stride: Triple, padding: Triple
) -> list[int]:
    """Spatial size of a convolution."""
    return [
        (n + 2 * p - k) // s + 1
        for n, p, k, s in zip(x_shape[1:4], padding, kernel_size, stride, strict=True)
    ]


def split_phases(x: jax.Array, stride: Triple) -> dict[tuple[int, ...], jax.Array]:
    """x[:, px::sx, py::sy, pz::sz] for every phase p, all of one size (zeros at the end)."""
    if stride == (1, 1, 1):
        return {(0, 0, 0): x}
    blocks = [-(-n // s) for n, s in zip(x.shape[1:4], stride, strict=True)]
    fill = [(0, b * s - n) for n, s, b in zip(x.shape[1:4], stride, blocks, strict=True)]
    x = jnp.pad(x, [(0, 0), *fill, (0, 0)])
    interleaved = [m for pair in zip(blocks, stride, strict=True) for m in pair]
    x = x.reshape(x.shape[0], *interleaved, x.shape[-1]).transpose(2, 4, 6, 0, 1, 3, 5, 7)
    places = list(itertools.product(*map(range, stride)))
    parts = lax.split(x.reshape(-1, *x.shape[3:]), [1] * len(places))  # transposed: a concatenation
    return {place: part[0] for place, part in zip(places, parts, strict=True)}


def placed(x: jax.Array, starts: list[int], size: list[int]) -> jax.Array:
    """x[start : start + size] along the spatial axes, zero where it reaches outside."""
    edges = [(-a, a + m - n, 0) for a, m, n in zip(starts, size, x.shape[1:4], strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
