"""Convolutions as sums of 2D convolutions of planes; see `jaxsal.nets.convolution`.

XLA on CPU gives 2D convolutions to its fast kernel where the kernel's axes are (ky, kz, inputs,
outputs). It brings others into that order itself, but not in the body of a loop: there, one that
JAX has transposed, whose last two axes are swapped, takes 4 to 70 times as long. So what is going
to be transposed has these axes swapped beforehand.

That kernel computes planes one after the other, on one core, where there are fewer than 128
outputs; but one plane that is very wide it shares between cores. So planes of a large convolution
lie in a row, if all cores are to share it. Milliseconds on two cores, with "winograd":

                              apart    in a row
    64³, 32 to 32 channels    112      81
    32³, 64 to 64 channels    39       21
    16³, 128 to 128           10       11

On one core the first two take the same time either way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxsal.nets.by_products import by_rows, output_size, placed, split_phases
from jaxsal.types import Triple

# By planes of a block, the points of interpolation. Those of four have half the error of 0, ±1, ±2.
_WINOGRAD = {4: (0.0, 0.75, -0.75, 1.5, -1.5), 2: (0.0, 1.0, -1.0)}

_OUTPUTS_OF_ONE_CORE = 128  # as many or more are shared between cores anyway
_POSITIONS_OF_A_ROW = 8000  # with fewer nothing was measured
_WIDTHS_OF_AN_OVERLAP = 8  # of narrower planes more than an eighth would be computed in vain


@dataclass(frozen=True)
class ByPlanes:
    """A convolution as a sum of 2D convolutions, differentiable any number of times in either mode.

    Attributes:
        sums: which convolutions to add up: `planes`, `stacked`, `phases` or `winograd`.
        stride: step per spatial axis.
        padding: zeros added on both sides of each spatial axis.
        swapped: whether it will be transposed rather than computed.
        shared: whether all cores are to share one convolution, whose planes lie in a row. Not
            those of derivatives: with `jaxsal.devices.split_cpu` each core computes others.
    """

    sums: Callable[[ByPlanes, jax.Array, jax.Array], jax.Array]
    stride: Triple
    padding: Triple
    swapped: bool = False
    shared: bool = True

    def convolution(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """As `jaxsal.nets.convolution.convolution`."""
        return _convolution(replace(self, swapped=False), x, kernel)

    def transposed(
        self, y: jax.Array, kernel: jax.Array, primal: jax.ShapeDtypeStruct
    ) -> jax.Array:
        """The transpose, applied to y, of the convolution of what is like the primal."""
        return _transposed(replace(self, swapped=True), y, kernel, primal)

    def of_plane(
        self, x: jax.Array, kernel: jax.Array, edges: Sequence[tuple[int, int]]
    ) -> jax.Array:
        """2D convolutions (B, X, Y', Z', K) of the planes of x by a kernel (ky, kz, C, K)."""
        if self.shared and self._suits_a_row(x, kernel):
            return self._of_planes_in_a_row(x, kernel, edges)
        y = self._convolved(x.reshape(-1, *x.shape[2:]), kernel, edges)
        return y.reshape(*x.shape[:2], *y.shape[1:])

    def _suits_a_row(self, x: jax.Array, kernel: jax.Array) -> bool:
        outputs, beyond = kernel.shape[2 if self.swapped else 3], kernel.shape[1] - 1
        is_wide = x.shape[3] >= _WIDTHS_OF_AN_OVERLAP * beyond
        is_large = math.prod(x.shape[1:4]) >= _POSITIONS_OF_A_ROW
        return outputs < _OUTPUTS_OF_ONE_CORE and is_wide and is_large

    def _of_planes_in_a_row(
        self, x: jax.Array, kernel: jax.Array, edges: Sequence[tuple[int, int]]
    ) -> jax.Array:
        """One 2D convolution of all planes of an example, side by side along Z."""
        rows, columns = edges
        ends = [(0, 0, 0)] * 3 + [(*columns, 0), (0, 0, 0)]  # a negative number cuts off
        x = lax.pad(x, jnp.zeros((), x.dtype), ends)
        batch, planes, height, width, channels = x.shape
        row = x.swapaxes(1, 2).reshape(batch, height, planes * width, channels)
        beyond = kernel.shape[1] - 1  # what begins in a plane and reaches the next is left out
        y = self._convolved(row, kernel, [rows, (0, beyond)])
        y = y.reshape(batch, y.shape[1], planes, width, -1)
        return y[..., : width - beyond, :].swapaxes(1, 2)

    def _convolved(
        self, x: jax.Array, kernel: jax.Array, edges: Sequence[tuple[int, int]]
    ) -> jax.Array:
        return lax.conv_general_dilated(
            x,
            kernel.swapaxes(2, 3) if self.swapped else kernel,
            (1, 1),
            edges,
            dimension_numbers=("NHWC", "HWOI" if self.swapped else "HWIO", "NHWC"),
        )

    def along_kernel(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """The convolution in a form whose transpose by the kernel is a matrix product."""
        return by_rows(x, kernel, self.stride, self.padding)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _convolution(form: ByPlanes, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return form.sums(form, x, kernel)


@partial(_convolution.defjvp, symbolic_zeros=True)
def _convolution_jvp(
    form: ByPlanes,
    primals: tuple[jax.Array, ...],
    tangents: tuple[jax.Array | SymbolicZero, ...],
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (dx, d_kernel) = primals, tangents
    parts = []
    if not isinstance(dx, SymbolicZero):
        parts.append(_convolution(replace(form, swapped=True, shared=False), dx, kernel))
    if not isinstance(d_kernel, SymbolicZero):
        parts.append(form.along_kernel(x, d_kernel))
    y = _convolution(form, x, kernel)
    return y, reduce(jnp.add, parts) if parts else jnp.zeros_like(y)


@partial(jax.custom_jvp, nondiff_argnums=(0, 3))
def _transposed(
    form: ByPlanes, y: jax.Array, kernel: jax.Array, primal: jax.ShapeDtypeStruct
) -> jax.Array:
    (x,) = jax.linear_transpose(lambda x: form.sums(form, x, kernel), primal)(y)
    return x


@partial(_transposed.defjvp, symbolic_zeros=True)
def _transposed_jvp(
    form: ByPlanes,
    primal: jax.ShapeDtypeStruct,
    primals: tuple[jax.Array, ...],
    tangents: tuple[jax.Array | SymbolicZero, ...],
) -> tuple[jax.Array, jax.Array]:
    (y, kernel), (dy, d_kernel) = primals, tangents
    parts = []
    if not isinstance(dy, SymbolicZero):
        parts.append(_transposed(replace(form, swapped=False, shared=False), dy, kernel, primal))
    if not isinstance(d_kernel, SymbolicZero):
        parts += jax.linear_transpose(lambda x: form.along_kernel(x, d_kernel), primal)(y)
    x = _transposed(form, y, kernel, primal)
    return x, reduce(jnp.add, parts) if parts else jnp.zeros_like(x)


def planes(form: ByPlanes, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The sum over the taps along X of 2D convolutions of planes."""
    by_tap = _ByTap.of(form, x, kernel)
    products = [
        placed(form.of_plane(values, weights, by_tap.edges), start, by_tap.size)
        for values, weights, start in zip(by_tap.values, by_tap.kernel, by_tap.starts, strict=True)
    ]
    return reduce(jnp.add, products)


def stacked(form: ByPlanes, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One 2D convolution, of planes with the channels of all that the kernel meets along X."""
    return _at_once(form, _ByTap.of(form, x, kernel))


def phases(form: ByPlanes, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The sum over the phases of one 2D convolution each, by the kernel's taps in that phase."""
    return reduce(jnp.add, [_at_once(form, of) for of in _by_tap_of_each_phase(form, x, kernel)])


def _at_once(form: ByPlanes, by_tap: _ByTap) -> jax.Array:
    """One 2D convolution, of planes with the channels of all taps along X side by side."""
    met = [
        placed(values, start, [by_tap.size[0], *values.shape[2:4]])
        for values, start in zip(by_tap.values, by_tap.starts, strict=True)
    ]
    weights = jnp.moveaxis(by_tap.kernel, 0, 2)
    weights = weights.reshape(*weights.shape[:2], -1, weights.shape[-1])
    return form.of_plane(jnp.concatenate(met, axis=-1), weights, by_tap.edges)


class _ByTap(NamedTuple):
    """An unstrided convolution of planes for each tap of the kernel along X.

    Of the whole convolution, the positions of a plane within a stride are channels of one position
    (`of`), and where a kernel does not meet all of them it is filled up with zeros. Of one phase,
    the channels are those of the input.

    Attributes:
        values: for each tap the planes (B, N, Y', Z', C') that it meets.
        kernel: (kx', ky', kz', C', K).
        starts: for each tap which of its planes is the first of the output's, along X, Y, Z.
        edges: zeros to add before and after the planes' two axes.
        size: of the output, along X, Y, Z.
    """

    values: list[jax.Array]
    kernel: jax.Array
    starts: list[list[int]]
    edges: list[tuple[int, int]]
    size: list[int]

    @classmethod
    def of(cls, form: ByPlanes, x: jax.Array, kernel: jax.Array) -> _ByTap:
        stride, padding = form.stride, form.padding
        size = output_size(x.shape, kernel.shape[:3], stride, padding)
        _, rows, columns = (
            (-p % s, -(-p % s + k) % s)
            for k, s, p in zip(kernel.shape[:3], stride, padding, strict=True)
        )
        kernel = jnp.pad(kernel, [(0, 0), rows, columns, (0, 0), (0, 0)])
        kernel = _positions_to_channels(kernel, stride)
        fill = [(0, -n % s) for n, s in zip(x.shape[1:4], stride, strict=True)]
        x = jnp.pad(x, [(0, 0), *fill, (0, 0)])
        x = x.reshape(x.shape[0], -1, stride[0], *x.shape[2:])
        apart = x.transpose(2, 0, 1, 3, 4, 5).reshape(-1, *x.shape[3:])
        blocks = _positions_to_channels(apart, stride)
        parts = lax.split(blocks, [len(blocks) // stride[0]] * stride[0])
        met = [part.reshape(*x.shape[:2], *blocks.shape[1:]) for part in parts]
        first = [-p // s for p, s in zip(padding[1:], stride[1:], strict=True)]
        edges = _edges(first, size, kernel, blocks.shape[1:3])
        places = [divmod(tap - padding[0], stride[0]) for tap in range(len(kernel))]
        values = [met[phase] for _, phase in places]
        return cls(values, kernel, [[start, 0, 0] for start, _ in places], edges, size)


def _by_tap_of_each_phase(form: ByPlanes, x: jax.Array, kernel: jax.Array) -> Iterator[_ByTap]:
    """The convolutions of the phases that the kernel meets, which add up to the whole one."""
    size = output_size(x.shape, kernel.shape[:3], form.stride, form.padding)
    for phase, values in split_phases(x, form.stride).items():
        first = [(p + at) % s for p, at, s in zip(form.padding, phase, form.stride, strict=True)]
        if any(tap >= k for tap, k in zip(first, kernel.shape[:3], strict=True)):
            continue
        axes = zip(first, form.padding, form.stride, strict=True)
        along, *start = ((tap - p) // s for tap, p, s in axes)
        chosen = (slice(tap, None, s) for tap, s in zip(first, form.stride, strict=True))
        taps = kernel[tuple(chosen)]
        starts = [[along + tap, 0, 0] for tap in range(len(taps))]
        edges = _edges(start, size, taps, values.shape[2:4])
        yield _ByTap([values] * len(taps), taps, starts, edges, size)


def _edges(
    first: Sequence[int], size: Sequence[int], kernel: jax.Array, planes: Sequence[int]
) -> list[tuple[int, int]]:
    """Zeros before and after the planes' two axes, of which the kernel meets `first` first."""
    axes = zip(first, size[1:], kernel.shape[1:3], planes, strict=True)
    return [(-start, start + m - 1 + k - n) for start, m, k, n in axes]


def _positions_to_channels(planes: jax.Array, stride: Triple) -> jax.Array:
    """(N, Y, Z, C, …) -> (N, Y / sy, Z / sz, sy sz C, …)."""
    _, rows, columns = stride
    number, height, width, *rest = planes.shape
    blocks = planes.reshape(number, height // rows, rows, width // columns, columns, *rest)
    blocks = blocks.swapaxes(2, 3)
    return blocks.reshape(*blocks.shape[:3], rows * columns * rest[0], *rest[1:])


def winograd(form: ByPlanes, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The unstrided convolution, a block of planes of the output at a time."""
    padding = form.padding
    size = x.shape[1] + 2 * padding[0] - 2
    planes, points = min(_WINOGRAD.items(), key=lambda item: -(-size // item[0]) * (item[0] + 2))
    from_input, from_kernel, to_output = _winograd_sums(points)
    blocks, edges = -(-size // planes), [(p, p) for p in padding[1:]]
    end = (blocks + 1) * planes - x.shape[1] - padding[0]
    inputs, outputs = (-(-channels // 4) * 4 for channels in kernel.shape[3:])  # XLA loads four
    more, channels = inputs - x.shape[-1], kernel.shape[-1]
    kernel = jnp.pad(kernel, [*[(0, 0)] * 3, (0, more), (0, outputs - channels)])
    x = jnp.pad(x, [(0, 0), (padding[0], end), (0, 0), (0, 0), (0, more)])
    x = x.reshape(x.shape[0], blocks + 1, planes, *x.shape[2:])
    parts = lax.split(x, [1] * planes, axis=2)  # whose transpose is one concatenation
    shifted = [part[:, :-1, 0] for part in parts] + [part[:, 1:, 0] for part in parts[:2]]
    products = [
        form.of_plane(_weighted(row, shifted), _weighted(taps, kernel), edges)
        for row, taps in zip(from_input, from_kernel, strict=True)
    ]
    y = jnp.stack([_weighted(row, products) for row in to_output], axis=2)
    return y.reshape(y.shape[0], -1, *y.shape[3:])[:, :size, ..., :channels]


def _winograd_sums(points: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which sums to form, for blocks of m planes of the output and m + 1 points.

    Returns:
        The matrices ``B^T`` (m + 2, m + 2) of the input, ``G`` (m + 2, 3) of the kernel and ``A^T``
        (m, m + 2) of the output, in the letters of Lavin and Gray (2016). The last point is
        infinity.
    """
    planes = len(points) - 1
    others = [[p for p in points if p != point] for point in points]
    from_input = [[*np.poly(roots)[::-1], 0.0] for roots in others] + [np.poly(points)[::-1]]
    scales = [
        math.prod(point - p for p in rest) for point, rest in zip(points, others, strict=True)
    ]
    from_kernel = np.vander(points, 3, increasing=True) / np.array(scales)[:, None]
    to_output = np.vander(points, planes, increasing=True)
    return (
        np.array(from_input),
        np.vstack([from_kernel, np.eye(3)[-1]]),
        np.vstack([to_output, np.eye(planes)[-1]]).T,
    )


def _weighted(weights: np.ndarray, terms: Iterable[jax.Array]) -> jax.Array:
    """The sum of the terms times their weights."""
    pairs = zip(weights.tolist(), terms, strict=True)
    return reduce(jnp.add, [weight * term for weight, term in pairs if weight])
