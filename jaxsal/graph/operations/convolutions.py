"""Convolutions of one to three spatial axes, by `jaxsal.nets.convolution`.

What that one lacks is made of it. A *dilated* kernel meets every d-th position only, so the input
is split into the d³ grids of such positions, which are convolved as examples of a batch. *Groups*
are convolved one after the other; where each has one channel, the taps are multiplied with shifted
inputs and added up. Fewer than three axes are three with sizes of one. A *transposed* convolution
is the transpose of all that.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax

from jaxsal.graph.operations.table import operation
from jaxsal.graph.values import Value
from jaxsal.nets.convolution import convolution, transposed_convolution
from jaxsal.types import Triple

# Which of three axes one, two or three are. Of two the first and last: the forms that are quick on
# a CPU work along these.
_PLACES = {1: (2,), 2: (0, 2), 3: (0, 1, 2)}
_CHANNELS_LAST = (0, 2, 3, 4, 1)
_KERNEL = (2, 3, 4, 1, 0)


@operation("conv1d", "conv2d", "conv3d")
def convolve(
    input: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Value:
    """A convolution with the same padding on both sides."""
    both = [(p, p) for p in _per_axis(padding, weight)]
    return _convolved(input, weight, bias, stride, both, dilation, groups)


@operation("conv1d.padding", "conv2d.padding", "conv3d.padding")
def convolve_same(
    input: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: str = "valid",
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Value:
    """A convolution with padding that keeps the size ("same"), or none ("valid")."""
    edges = [(0, 0)] * (weight.rank - 2)
    if padding == "same":
        steps = zip(weight.shape[2:], _per_axis(dilation, weight), strict=True)
        totals = [d * (k - 1) for k, d in steps]
        edges = [(n // 2, n - n // 2) for n in totals]
    return _convolved(input, weight, bias, stride, edges, dilation, groups)


@operation("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
def convolve_transposed(
    input: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> Value:
    """The transpose of a convolution."""
    count = weight.rank - 2
    x, kernel = _in_three(input, weight)
    steps, before, after, spread = (
        _triple(_per_axis(each, weight), count, neutral)
        for each, neutral in ((stride, 1), (padding, 0), (output_padding, 0), (dilation, 1))
    )
    if groups == 1 and spread == (1, 1, 1):
        y = transposed_convolution(x, kernel, stride=steps, padding=before, output_padding=after)
    else:
        y = _transposed(x, kernel, steps, before, after, spread, groups)
    return _out_of_three(y if bias is None else y + bias.plain, input, count)


@operation("convolution")
def convolve_either(
    input: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Value:
    """A convolution or the transpose of one."""
    if transposed:
        return convolve_transposed(
            input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return convolve(input, weight, bias, stride, padding, dilation, groups)


def _convolved(
    input: Value,
    weight: Value,
    bias: Value | None,
    stride: Sequence[int],
    edges: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int,
) -> Value:
    count = weight.rank - 2
    x, kernel = _in_three(input, weight)
    steps = _triple(_per_axis(stride, weight), count, 1)
    spread = _triple(_per_axis(dilation, weight), count, 1)
    before = _triple([a for a, _ in edges], count, 0)
    if any(a != b for a, b in edges):
        after = _triple([b for _, b in edges], count, 0)
        x = jnp.pad(x, [(0, 0), *zip(before, after, strict=True), (0, 0)])
        before = (0, 0, 0)
    y = _general(x, kernel, steps, before, spread, groups)
    return _out_of_three(y if bias is None else y + bias.plain, input, count)


def _per_axis(values: Sequence[int], weight: Value) -> list[int]:
    """One number holds for all axes."""
    count = weight.rank - 2
    return list(values) * count if len(values) == 1 else list(values)


def _triple(values: Sequence[int], count: int, neutral: int) -> Triple:
    """Three numbers of so many, and what changes nothing along the axes of size one."""
    found = dict(zip(_PLACES[count], values, strict=True))
    return found.get(0, neutral), found.get(1, neutral), found.get(2, neutral)


def _in_three(input: Value, weight: Value) -> tuple[jax.Array, jax.Array]:
    """(B, X, Y, Z, C) and (kx, ky, kz, C / groups, K)."""
    count = weight.rank - 2
    x = input if input.rank == weight.rank else input.unsqueezed(0)
    for place in set(range(3)) - set(_PLACES[count]):
        x, weight = x.unsqueezed(2 + place), weight.unsqueezed(2 + place)
    return x.as_held(_CHANNELS_LAST), weight.as_held(_KERNEL)


def _out_of_three(y: jax.Array, input: Value, count: int) -> Value:
    """As PyTorch returns it: with the axes of the input."""
    gone = [2 + place for place in set(range(3)) - set(_PLACES[count])]
    gone += [0] if input.rank == count + 1 else []
    value = Value(y, _CHANNELS_LAST)
    return value.dropped(jnp.squeeze(y, [value.held(axis) for axis in gone]), gone)


def _general(
    x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple, dilation: Triple, groups: int
) -> jax.Array:
    if groups > 1:
        return _grouped(x, kernel, stride, padding, dilation, groups)
    if dilation != (1, 1, 1):
        return _dilated(x, kernel, stride, padding, dilation)
    return convolution(x, kernel, stride=stride, padding=padding)


def _transposed(
    y: jax.Array,
    kernel: jax.Array,
    stride: Triple,
    padding: Triple,
    output_padding: Triple,
    dilation: Triple,
    groups: int,
) -> jax.Array:
    """The transpose of `_general`, whose input has ``C groups`` channels."""
    spatial = [
        (n - 1) * s - 2 * p + d * (k - 1) + 1 + o
        for n, s, p, d, k, o in zip(
            y.shape[1:4], stride, padding, dilation, kernel.shape[:3], output_padding, strict=True
        )
    ]
    primal = jax.ShapeDtypeStruct((y.shape[0], *spatial, kernel.shape[3] * groups), y.dtype)

    def forward(x: jax.Array) -> jax.Array:
        return _general(x, kernel, stride, padding, dilation, groups)

    (x,) = jax.linear_transpose(forward, primal)(y)
    return x


def _dilated(
    x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple, dilation: Triple
) -> jax.Array:
    """Each of the grids of every d-th position is an example; strides are taken at the end."""
    size = [
        n + 2 * p - d * (k - 1)
        for n, p, d, k in zip(x.shape[1:4], padding, dilation, kernel.shape[:3], strict=True)
    ]
    padded = [n + 2 * p for n, p in zip(x.shape[1:4], padding, strict=True)]
    edges = [(p, p + -n % d) for p, n, d in zip(padding, padded, dilation, strict=True)]
    x = jnp.pad(x, [(0, 0), *edges, (0, 0)])
    examples, counts = x.shape[0], [n // d for n, d in zip(x.shape[1:4], dilation, strict=True)]
    split = [m for pair in zip(counts, dilation, strict=True) for m in pair]
    grids = x.reshape(examples, *split, x.shape[-1]).transpose(0, 2, 4, 6, 1, 3, 5, 7)
    y = convolution(grids.reshape(-1, *counts, x.shape[-1]), kernel)
    y = y.reshape(examples, *dilation, *y.shape[1:]).transpose(0, 4, 1, 5, 2, 6, 3, 7)
    y = y.reshape(
        examples, *(a * b for a, b in zip(y.shape[1:7:2], y.shape[2:7:2], strict=True)), y.shape[-1]
    )
    ends = (examples, *size, y.shape[-1])
    return lax.slice(y, (0,) * 5, ends, (1, *stride, 1))


def _grouped(
    x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple, dilation: Triple, groups: int
) -> jax.Array:
    """Each group of channels by its own part (kx, ky, kz, C / groups, K / groups) of the kernel."""
    if kernel.shape[3] == 1:
        return _depthwise(x, kernel, stride, padding, dilation)
    parts = jnp.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)
    kernels = jnp.moveaxis(kernel.reshape(*kernel.shape[:-1], groups, -1), -2, 0)

    def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        return _general(*pair, stride, padding, dilation, 1)

    y = jnp.moveaxis(lax.map(one, (parts, kernels)), 0, -2)
    return y.reshape(*y.shape[:-2], -1)


def _depthwise(
    x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple, dilation: Triple
) -> jax.Array:
    """Each channel by a kernel of its own, or by several: (kx, ky, kz, 1, K)."""
    times = kernel.shape[-1] // x.shape[-1]
    x = jnp.pad(x, [(0, 0), *((p, p) for p in padding), (0, 0)])
    x = jnp.repeat(x, times, axis=-1) if times > 1 else x
    size = [
        (n - d * (k - 1) - 1) // s + 1
        for n, d, k, s in zip(x.shape[1:4], dilation, kernel.shape[:3], stride, strict=True)
    ]
    products = []
    for tap in itertools.product(*map(range, kernel.shape[:3])):
        start = [t * d for t, d in zip(tap, dilation, strict=True)]
        stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, size, stride, strict=True)]
        ends = (x.shape[0], *stop, x.shape[-1])
        shifted = lax.slice(x, (0, *start, 0), ends, (1, *stride, 1))
        products.append(shifted * kernel[tap][0])
    return reduce(jnp.add, products)
