"""Depthwise convolutions as sums of shifted products; see `jaxsal.nets.convolution`.

Each channel has a kernel of its own, so there are no matrices to multiply: a tap of the kernel is a
shift of the input times a number per channel. XLA computes the sum of up to some sixty of them in
one go, as fast as the cache hands out the numbers; of more it makes loops that take ten times as
long. With a larger kernel each plane of the result is a loop over the planes of the kernel.

What JAX derives as the transpose of such a sum pads every shift to the size of the whole and takes
three to ten times as long. Written out, the transpose is a sum of the same kind for each offset
within a stride. So both are primitives, and each is the other's transpose.

Letters: B batch, X Y Z spatial axes, C channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxsal.types import Triple

# One core: 4³ taps at once have 22 GFLOP/s, 5³ taps 2.5, and in five planes 24. A loop over planes
# of 3² taps has 4, so it is not for small ones.
_AT_ONCE, _IN_PLANE = 64, 16

_Places = Sequence[Sequence[tuple[Any, Any]]]  # per axis, taps and where the values they meet begin


@dataclass(frozen=True)
class Depthwise:
    """A convolution of each channel by a kernel of its own, which may be several that follow.

    It can be differentiated any number of times in either mode, and batched with ``vmap``.

    Attributes:
        size: (X, Y, Z) of the convolution's input.
        kernel_size: per spatial axis.
        stride: step per spatial axis.
        padding: zeros added on both sides of each spatial axis.
        dilation: distance between the kernel's taps.
    """

    size: Triple
    kernel_size: Triple
    stride: Triple
    padding: Triple
    dilation: Triple

    def convolution(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """(B, *size, C) by (kx, ky, kz, 1, n C): (B, X', Y', Z', n C), in the dtype of x."""
        x = jnp.repeat(x, kernel.shape[-1] // x.shape[-1], axis=-1)
        result: jax.Array = _convolution.bind(x, kernel[..., 0, :], of=self)
        return result

    def transposed(self, y: jax.Array, kernel: jax.Array, channels: int) -> jax.Array:
        """The transpose of `convolution`, applied to y, of an input of so many channels."""
        x: jax.Array = _transposed.bind(y, kernel[..., 0, :], of=self)
        return x.reshape(*x.shape[:-1], channels, -1).sum(-1) if x.shape[-1] > channels else x

    @property
    def result_size(self) -> Triple:
        """Of the convolution."""
        x, y, z = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(*self._axes_by_setting(), strict=True)
        )
        return x, y, z

    def sum_of_shifts(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """The convolution of (B, *size, C) by (kx, ky, kz, C)."""
        places = [
            [(tap, tap * d) for tap in range(k)]
            for k, d in zip(self.kernel_size, self.dilation, strict=True)
        ]
        return _sum_of_shifts(self._padded(x), kernel, places, self.result_size, self.stride)

    def interleaved_sums(self, y: jax.Array, kernel: jax.Array) -> jax.Array:
        """The transpose of `sum_of_shifts`: a sum for each offset within a stride."""
        axes = [_offsets(*setting) for setting in zip(*self._axes_by_setting()[1:], strict=True)]
        starts = [[start for offset in axis for _, start in offset] for axis in axes]
        size = [-(-n // s) for n, s in zip(self.size, self.stride, strict=True)]
        before = [max(0, -min(axis)) for axis in starts]
        after = [
            max(0, max(axis) + m - n) for axis, m, n in zip(starts, size, y.shape[1:4], strict=True)
        ]
        y = jnp.pad(y, [(0, 0), *zip(before, after, strict=True), (0, 0)])
        places = [
            [[(tap, start + low) for tap, start in offset] for offset in axis]
            for axis, low in zip(axes, before, strict=True)
        ]
        x = _interleaved(y, kernel, places, size)
        return lax.slice(x, (0,) * 5, (x.shape[0], *self.size, x.shape[-1]))

    def sums_of_products(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """The derivative by the kernel: for each tap the sum of y times what it meets of x."""
        x = self._padded(x)
        lengths = [(n - 1) * s + 1 for n, s in zip(self.result_size, self.stride, strict=True)]

        def of_tap(tap: jax.Array) -> jax.Array:
            start = (0, *(tap * jnp.array(self.dilation)), 0)
            met = lax.dynamic_slice(x, start, (x.shape[0], *lengths, x.shape[-1]))
            met = lax.slice(met, (0,) * 5, met.shape, (1, *self.stride, 1))
            return (met * y).sum((0, 1, 2, 3))

        taps = list(itertools.product(*map(range, self.kernel_size)))
        return lax.map(of_tap, jnp.array(taps)).reshape(*self.kernel_size, x.shape[-1])

    def _axes_by_setting(self) -> tuple[Triple, ...]:
        return self.size, self.kernel_size, self.stride, self.padding, self.dilation

    def _padded(self, x: jax.Array) -> jax.Array:
        return jnp.pad(x, [(0, 0), *((p, p) for p in self.padding), (0, 0)])


def _offsets(kernel: int, stride: int, padding: int, dilation: int) -> list[list[tuple[int, int]]]:
    """For each offset within a stride the taps that reach it, and the positions they start at."""
    reaching: list[list[tuple[int, int]]] = [[] for _ in range(stride)]
    for tap in range(kernel):
        for offset in range(stride):
            start, rest = divmod(offset + padding - tap * dilation, stride)
            if not rest:
                reaching[offset].append((tap, start))
    return reaching


def _interleaved(
    y: jax.Array,
    kernel: jax.Array,
    offsets: Sequence[_Places],
    size: Sequence[int],
    chosen: _Places = (),
) -> jax.Array:
    """The sums for all offsets, which lie in turn along each axis after those that are chosen."""
    axis = 1 + len(chosen)
    if axis > len(offsets):
        return _sum_of_shifts(y, kernel, chosen, size, (1, 1, 1))
    parts = [
        _interleaved(y, kernel, offsets, size, (*chosen, offset)) for offset in offsets[axis - 1]
    ]
    if len(parts) == 1:
        return parts[0]
    stacked = jnp.stack(parts, axis + 1)
    return stacked.reshape(*stacked.shape[:axis], -1, *stacked.shape[axis + 2 :])


def _sum_of_shifts(
    x: jax.Array, kernel: jax.Array, places: _Places, size: Sequence[int], stride: Triple
) -> jax.Array:
    """The sum over all taps of what each meets times its number per channel."""
    first, *rest = places
    in_plane = len(rest[0]) * len(rest[1])
    if len(first) * in_plane <= _AT_ONCE or in_plane < _IN_PLANE:
        return _at_once(x, kernel, places, size, stride)

    taps, starts = map(jnp.array, zip(*first, strict=True))
    one = (1, *size[1:])

    def plane(position: jax.Array) -> jax.Array:
        def add(total: jax.Array, place: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            tap, start = place
            met = lax.dynamic_slice_in_dim(x, position * stride[0] + start, 1, 1)
            numbers = lax.dynamic_slice_in_dim(kernel, tap, 1)
            return total + _at_once(met, numbers, [[(0, 0)], *rest], one, stride), None

        zero = jnp.zeros((x.shape[0], *one, x.shape[-1]), x.dtype)
        return lax.scan(add, zero, (taps, starts))[0][:, 0]

    return jnp.moveaxis(lax.map(plane, jnp.arange(size[0])), 0, 1)


def _at_once(
    x: jax.Array, kernel: jax.Array, places: _Places, size: Sequence[int], stride: Triple
) -> jax.Array:
    products = []
    for place in itertools.product(*places):
        tap, start = zip(*place, strict=True)
        stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, size, stride, strict=True)]
        ends = (x.shape[0], *stop, x.shape[-1])
        products.append(lax.slice(x, (0, *start, 0), ends, (1, *stride, 1)) * kernel[tap])
    zero = jnp.zeros((x.shape[0], *size, x.shape[-1]), x.dtype)
    return reduce(jnp.add, products) if products else zero


def _primitive(name: str, sums: Any, size: str) -> Primitive:
    """A primitive of an array and a kernel whose result is computed by a method of `Depthwise`."""

    def compute(x: jax.Array, kernel: jax.Array, *, of: Depthwise) -> jax.Array:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        return sums(of, x.astype(wide), kernel.astype(wide)).astype(x.dtype)

    primitive = Primitive(name)
    primitive.def_impl(partial(jax.jit, static_argnames="of")(compute))
    primitive.def_abstract_eval(
        lambda x, kernel, *, of: ShapedArray((x.shape[0], *getattr(of, size), x.shape[-1]), x.dtype)
    )
    mlir.register_lowering(primitive, mlir.lower_fun(compute, multiple_results=False))
    batching.primitive_batchers[primitive] = partial(_batched, primitive)
    return primitive


def _batched(
    primitive: Primitive, arguments: Sequence[jax.Array], axes: Sequence[Any], *, of: Depthwise
) -> tuple[jax.Array, int]:
    """Several arrays are one batch; with a kernel each they are channels."""
    (x, kernel), (x_axis, kernel_axis) = arguments, axes
    if kernel_axis is None:
        x = jnp.moveaxis(x, x_axis, 0)
        y = primitive.bind(x.reshape(-1, *x.shape[2:]), kernel, of=of)
        return y.reshape(*x.shape[:2], *y.shape[1:]), 0
    kernel = jnp.moveaxis(kernel, kernel_axis, -2)
    count, channels = kernel.shape[-2:]
    if x_axis is None:
        x = jnp.broadcast_to(x[..., None, :], (*x.shape[:-1], count, channels))
    else:
        x = jnp.moveaxis(x, x_axis, -2)
    flat = x.reshape(*x.shape[:-2], -1), kernel.reshape(*kernel.shape[:-2], -1)
    y = primitive.bind(*flat, of=of)
    return y.reshape(*y.shape[:-1], count, channels), y.ndim - 1


_convolution = _primitive("depthwise_convolution", Depthwise.sum_of_shifts, "result_size")
_transposed = _primitive("transposed_depthwise_convolution", Depthwise.interleaved_sums, "size")
ad.defbilinear(
    _convolution,
    lambda change, x, kernel, *, of: _transposed.bind(change, kernel, of=of),
    lambda change, x, kernel, *, of: of.sums_of_products(x, change).astype(change.dtype),
)
ad.defbilinear(
    _transposed,
    lambda change, y, kernel, *, of: _convolution.bind(change, kernel, of=of),
    lambda change, y, kernel, *, of: of.sums_of_products(change, y).astype(change.dtype),
)
