"""Convolutions of one to three spatial axes, by `jaxsal.nets.general_convolution`.

Fewer than three axes are three with sizes of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxsal.graph.operations.table import operation
from jaxsal.graph.values import Value
from jaxsal.nets.general_convolution import (
    general_convolution,
    transposed_general_convolution,
)
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
    y = transposed_general_convolution(
        x,
        kernel,
        stride=steps,
        padding=before,
        output_padding=after,
        dilation=spread,
        groups=groups,
    )
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
    y = general_convolution(x, kernel, stride=steps, padding=before, dilation=spread, groups=groups)
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
