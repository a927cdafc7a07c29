"""Maxima and means over windows of one to three spatial axes, the last ones of a tensor.

A window is a box, so it is taken one axis after the other: as the maximum, or sum, of a few
shifted slices. One core, 64³ positions of 16 channels, windows of 2 with stride 2 / of 3 with
stride 1: maxima take 0.8 / 32 ms and their gradient 7 / 98 ms, where XLA's ``reduce_window``
takes 1.0 / 73 ms and its pull-back, which selects and scatters, 72 / 755 ms. Means over blocks that
do not overlap are quicker by a reshape: 32 channels, stride 2, gradient 18 rather than 45 ms.

Of equal values the first counts, in PyTorch's order, and gets the whole slope: the background of an
image is all equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsal.graph.operations.table import operation
from jaxsal.graph.values import Value


class _Windows(NamedTuple):
    """Along one axis: how many, how large, how far apart, and where the first one begins."""

    number: int
    size: int
    stride: int
    before: int
    dilation: int = 1

    def taps(self, array: jax.Array, axis: int, outside: float | int) -> list[jax.Array]:
        """For each place of a window what all windows have there."""
        reach = (self.number - 1) * self.stride + self.dilation * (self.size - 1) + 1
        after = reach - array.shape[axis] - self.before
        edges = [(self.before, after, 0) if a == axis else (0, 0, 0) for a in range(array.ndim)]
        padded = lax.pad(array, jnp.asarray(outside, array.dtype), edges)
        span = (self.number - 1) * self.stride + 1
        starts = [tap * self.dilation for tap in range(self.size)]
        return [lax.slice_in_dim(padded, a, a + span, self.stride, axis) for a in starts]

    def numbers(self, size: int, padding: int) -> np.ndarray:
        """(number,): positions of each window that lie within the size and padding after it."""
        first = np.arange(self.number) * self.stride - self.before
        return np.minimum(first + self.size, size + padding) - first

    def inside(self, size: int) -> np.ndarray:
        """(number,): positions of each window that lie within the size."""
        first = np.arange(self.number) * self.stride - self.before
        return np.minimum(first + self.size, size) - np.maximum(first, 0)


def _windows(
    value: Value,
    axes: int,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> list[_Windows]:
    """Of each of the last axes."""
    sizes = _each(kernel_size, axes)
    steps = _each(stride, axes) if stride else sizes
    found = []
    for n, k, s, p, d in zip(
        value.shape[-axes:], sizes, steps, _each(padding, axes), _each(dilation, axes), strict=True
    ):
        room = n + 2 * p - d * (k - 1) - 1
        count = (room + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (count - 1) * s >= n + p:  # a window that begins behind the end
            count -= 1
        found.append(_Windows(count, k, s, p, d))
    return found


def _each(values: Sequence[int] | int, axes: int) -> list[int]:
    """One number holds for all axes."""
    numbers = [values] if isinstance(values, int) else list(values)
    return numbers * axes if len(numbers) == 1 else numbers


def _enter_windowed(axes: int) -> None:
    @operation(f"max_pool{axes}d")
    def max_pool(
        self: Value,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        dilation: Sequence[int] = (1,),
        ceil_mode: bool = False,
    ) -> Value:
        windows = _windows(self, axes, kernel_size, stride, padding, dilation, ceil_mode)
        return self.like(_maxima(self, windows)[0])

    @operation("max_pool1d_with_indices" if axes == 1 else f"max_pool{axes}d_with_indices")
    def max_pool_with_indices(
        self: Value,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        dilation: Sequence[int] = (1,),
        ceil_mode: bool = False,
    ) -> tuple[Value, Value]:
        windows = _windows(self, axes, kernel_size, stride, padding, dilation, ceil_mode)
        found, places = _maxima(self, windows, _places(self, axes))
        return self.like(found), self.like(places)

    @operation(f"avg_pool{axes}d")
    def avg_pool(
        self: Value,
        kernel_size: Sequence[int],
        stride: Sequence[int] = (),
        padding: Sequence[int] = (0,),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Value:
        windows = _windows(self, axes, kernel_size, stride, padding, (1,), ceil_mode)
        sums = _sums(self, windows)
        if divisor_override:
            return sums.like(sums.array / divisor_override)
        for axis, window in zip(range(-axes, 0), windows, strict=True):
            size = self.shape[axis]
            beyond = window.before
            numbers = window.numbers(size, beyond) if count_include_pad else window.inside(size)
            sums = _divided(sums, axis, numbers)
        return sums

    def adaptive_avg_pool(self: Value, output_size: Sequence[int]) -> Value:
        value = self
        for axis, count in zip(range(-axes, 0), _asked(self, axes, output_size), strict=True):
            value = _adaptive_mean(value, axis, count)
        return value

    operation(f"adaptive_avg_pool{axes}d")(adaptive_avg_pool)
    if axes > 1:
        operation(f"_adaptive_avg_pool{axes}d")(adaptive_avg_pool)

    @operation(f"adaptive_max_pool{axes}d")
    def adaptive_max_pool(self: Value, output_size: Sequence[int]) -> tuple[Value, Value]:
        arrays: tuple[jax.Array, ...] = (jnp.asarray(self.array), _places(self, axes))
        counts = _asked(self, axes, output_size)
        for axis, count in reversed(list(zip(range(-axes, 0), counts, strict=True))):
            arrays = _adaptive_maximum(arrays, self.held(axis), count)
        return self.like(arrays[0]), self.like(arrays[1])


for _axes in (1, 2, 3):
    _enter_windowed(_axes)


def _maxima(value: Value, windows: Sequence[_Windows], *more: jax.Array) -> tuple[jax.Array, ...]:
    """The maxima, and what other arrays have where the maxima are.

    The last axis goes first: then the first of equals is the first in PyTorch's order.
    """
    arrays = (jnp.asarray(value.array), *more)
    least = -jnp.inf if jnp.issubdtype(value.dtype, jnp.floating) else jnp.iinfo(value.dtype).min
    axes = range(-len(windows), 0)
    for axis, window in reversed(list(zip(axes, windows, strict=True))):
        outside = (least, *(0 for _ in more))
        held = value.held(axis)
        taps = [window.taps(array, held, out) for array, out in zip(arrays, outside, strict=True)]
        arrays = reduce(_first_maximum, zip(*taps, strict=True))
    return arrays


def _first_maximum(
    first: tuple[jax.Array, ...], second: tuple[jax.Array, ...]
) -> tuple[jax.Array, ...]:
    """Where the second is greater, or not a number, the second arrays; else the first ones."""
    greater = (second[0] > first[0]) | (second[0] != second[0])
    return tuple(jnp.where(greater, b, a) for a, b in zip(first, second, strict=True))


def _places(value: Value, axes: int) -> jax.Array:
    """The number of each position in PyTorch's order of the last axes, in the array's shape."""
    spatial = value.shape[-axes:]
    numbers = np.arange(math.prod(spatial), dtype=np.int32).reshape(spatial)
    outer = value.rank - axes
    kept = [axis for axis in value.axes if axis >= outer]
    held = numbers.transpose([axis - outer for axis in kept])
    shape = [value.shape[axis] if axis >= outer else 1 for axis in value.axes]
    return jnp.broadcast_to(held.reshape(shape), value.array.shape)


def _sums(value: Value, windows: Sequence[_Windows]) -> Value:
    for axis, window in reversed(list(zip(range(-len(windows), 0), windows, strict=True))):
        held, array = value.held(axis), jnp.asarray(value.array)
        whole = window.number * window.size == array.shape[held] and window.before == 0
        if whole and window.stride == window.size:
            value = value.like(_blocks(array, held, window.size).sum(held + 1))
        else:
            value = value.like(reduce(jnp.add, window.taps(array, held, 0)))
    return value


def _blocks(array: jax.Array, axis: int, size: int) -> jax.Array:
    """An axis as two: blocks, and positions of a block."""
    return array.reshape(*array.shape[:axis], -1, size, *array.shape[axis + 1 :])


def _divided(value: Value, axis: int, numbers: np.ndarray) -> Value:
    """By a number per position along an axis."""
    if (numbers == numbers[0]).all():
        return value.like(value.array / int(numbers[0]))
    shape = [-1 if a == value.held(axis) else 1 for a in range(value.rank)]
    return value.like(value.array / jnp.asarray(numbers.reshape(shape), value.dtype))


def _asked(value: Value, axes: int, output_size: Sequence[int]) -> list[int]:
    counts = _each(output_size, axes)
    return [
        n if count is None else count for n, count in zip(value.shape[-axes:], counts, strict=True)
    ]


def _bins(size: int, count: int) -> list[tuple[int, int]]:
    """Where each of so many windows begins and ends that cover an axis."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _adaptive_mean(value: Value, axis: int, count: int) -> Value:
    held, size, array = value.held(axis), value.shape[axis], jnp.asarray(value.array)
    if size % count == 0:
        return value.like(_blocks(array, held, size // count).mean(held + 1))
    return value.like(_joined(array, held, count, lambda part: part.mean(held, keepdims=True)))


def _joined(
    array: jax.Array, axis: int, count: int, function: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """A function of each of the windows that cover an axis, side by side."""
    parts = [lax.slice_in_dim(array, a, b, 1, axis) for a, b in _bins(array.shape[axis], count)]
    return jnp.concatenate([function(part) for part in parts], axis)


def _adaptive_maximum(
    arrays: tuple[jax.Array, ...], axis: int, count: int
) -> tuple[jax.Array, ...]:
    """The maximum within each of the windows that cover an axis, and what is there."""
    found = []
    for start, stop in _bins(arrays[0].shape[axis], count):
        taps = [
            tuple(lax.slice_in_dim(array, place, place + 1, 1, axis) for array in arrays)
            for place in range(start, stop)
        ]
        found.append(reduce(_first_maximum, taps))
    return tuple(jnp.concatenate(parts, axis) for parts in zip(*found, strict=True))
