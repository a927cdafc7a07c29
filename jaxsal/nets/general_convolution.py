"""3D convolutions with groups and dilation, and their transposes, fast on every backend.

XLA's convolution is the right one on GPU and TPU. On CPU it computes those with groups hundreds of
times more slowly than others, so there they are made of what is fast. Where each group has one
channel, they are sums of shifts (`jaxsal.nets.depthwise`); other groups are convolved one after the
other, several at once where they have few channels. A *dilated* kernel meets every d-th position
only: the input is split into the d³ grids of such positions, which are convolved as examples of a
batch.

Letters: B batch, X Y Z spatial axes, C input channels, K output channels, G groups.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxsal.current_device import current_device
from jaxsal.nets.convolution import convolution, transposed_convolution
from jaxsal.nets.depthwise import Depthwise
from jaxsal.nets.tracing import is_traced
from jaxsal.types import Triple

_ONE: Triple = (1, 1, 1)
# One core, 24³ positions of 64 channels in 16 groups, forward and back: each group by itself 29 and
# 23 ms, four (of 16 channels) together 12 and 12, eight 13 and 13, all 17 and 17; PyTorch 5 and 5.
_ENOUGH = 16
_DIMENSIONS = ("NHWDC", "HWDIO", "NHWDC")


def general_convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: Triple = _ONE,
    padding: Triple = (0, 0, 0),
    dilation: Triple = _ONE,
    groups: int = 1,
) -> jax.Array:
    """Cross-correlation with zero padding, as PyTorch's ``Conv3d`` without bias.

    Args:
        x: (B, X, Y, Z, C).
        kernel: (kx, ky, kz, C / G, K), the outputs of each group one after the other.
        stride: step per spatial axis.
        padding: zeros added on both sides of each spatial axis.
        dilation: distance between the kernel's taps.
        groups: G, number of groups of channels, each of which has outputs of its own.

    Returns:
        (B, X', Y', Z', K) with ``X' = (X + 2 padding - dilation (kx - 1) - 1) // stride + 1``, in
        the dtype of x.
    """
    if groups == 1 and dilation == _ONE:
        return convolution(x, kernel, stride=stride, padding=padding)
    if is_traced() or current_device().platform != "cpu":
        return lax.conv_general_dilated(
            x,
            kernel,
            stride,
            [(p, p) for p in padding],
            rhs_dilation=dilation,
            feature_group_count=groups,
            dimension_numbers=_DIMENSIONS,
        )
    if kernel.shape[3] == 1:
        return _depthwise(x.shape, kernel, stride, padding, dilation).convolution(x, kernel)
    if dilation != _ONE:
        return _dilated(x, kernel, stride, padding, dilation, groups)
    return _group_by_group(x, kernel, stride, padding, groups)


def transposed_general_convolution(
    y: jax.Array,
    kernel: jax.Array,
    *,
    stride: Triple = _ONE,
    padding: Triple = (0, 0, 0),
    output_padding: Triple = (0, 0, 0),
    dilation: Triple = _ONE,
    groups: int = 1,
) -> jax.Array:
    """The transpose of `general_convolution`, as PyTorch's ``ConvTranspose3d`` without bias.

    Args:
        y: (B, X, Y, Z, K).
        kernel: (kx, ky, kz, C / G, K): of the convolution that this one transposes.
        stride: up-sampling factor per spatial axis.
        padding: padding of the convolution that this one transposes.
        output_padding: extra positions at the end of each spatial axis of the result.
        dilation: distance between the kernel's taps.
        groups: G, number of groups of channels.

    Returns:
        (B, X', Y', Z', C) with
        ``X' = (X - 1) stride - 2 padding + dilation (kx - 1) + 1 + output_padding``.
    """
    settings: dict[str, Any] = {"stride": stride, "padding": padding}
    if groups == 1 and dilation == _ONE:
        return transposed_convolution(y, kernel, output_padding=output_padding, **settings)
    size = [
        (n - 1) * s - 2 * p + d * (k - 1) + 1 + o
        for n, s, p, d, k, o in zip(
            y.shape[1:4], stride, padding, dilation, kernel.shape[:3], output_padding, strict=True
        )
    ]
    primal = jax.ShapeDtypeStruct((y.shape[0], *size, kernel.shape[3] * groups), y.dtype)
    if kernel.shape[3] == 1 and not is_traced() and current_device().platform == "cpu":
        depthwise = _depthwise(primal.shape, kernel, stride, padding, dilation)
        return depthwise.transposed(y, kernel, groups)

    def forward(x: jax.Array) -> jax.Array:
        return general_convolution(x, kernel, dilation=dilation, groups=groups, **settings)

    (x,) = jax.linear_transpose(forward, primal)(y)
    return x


def _depthwise(
    x_shape: tuple[int, ...], kernel: jax.Array, stride: Triple, padding: Triple, dilation: Triple
) -> Depthwise:
    _, x, y, z, _ = x_shape
    kx, ky, kz, *_ = kernel.shape
    return Depthwise((x, y, z), (kx, ky, kz), stride, padding, dilation)


def _group_by_group(
    x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple, groups: int
) -> jax.Array:
    """Each group of channels by its own part (kx, ky, kz, C / G, K / G) of the kernel."""
    together = _how_many_together(groups, kernel.shape[3])
    kernel, groups = _joined(kernel, groups, together), groups // together
    if groups == 1:
        return convolution(x, kernel, stride=stride, padding=padding)
    parts = jnp.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)
    kernels = jnp.moveaxis(kernel.reshape(*kernel.shape[:-1], groups, -1), -2, 0)

    def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        return convolution(*pair, stride=stride, padding=padding)

    y = jnp.moveaxis(lax.map(one, (parts, kernels)), 0, -2)
    return y.reshape(*y.shape[:-2], -1)


def _how_many_together(groups: int, channels: int) -> int:
    """The least number of neighbouring groups that have enough channels, or all groups."""
    divisors = [n for n in range(1, groups + 1) if groups % n == 0]
    return next((n for n in divisors if n * channels >= _ENOUGH), groups)


def _joined(kernel: jax.Array, groups: int, together: int) -> jax.Array:
    """The kernel (kx, ky, kz, n C / G, K) of n groups as one, with zeros from group to group."""
    *size, channels, outputs = kernel.shape
    each = kernel.reshape(*size, 1, channels, groups // together, together, outputs // groups)
    own = jnp.eye(together, dtype=kernel.dtype)[:, None, None, :, None]
    return (each * own).reshape(*size, together * channels, outputs)


def _dilated(
    x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple, dilation: Triple, groups: int
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
    y = general_convolution(grids.reshape(-1, *counts, x.shape[-1]), kernel, groups=groups)
    y = y.reshape(examples, *dilation, *y.shape[1:]).transpose(0, 4, 1, 5, 2, 6, 3, 7)
    y = y.reshape(
        examples, *(a * b for a, b in zip(y.shape[1:7:2], y.shape[2:7:2], strict=True)), y.shape[-1]
    )
    ends = (examples, *size, y.shape[-1])
    return lax.slice(y, (0,) * 5, ends, (1, *stride, 1))
