"""3D convolutions that are fast on every backend, in forward and reverse mode.

XLA's convolution is the right one on GPU and TPU. On CPU it is fast only for plain forward
convolutions: the pull-back of a convolution and a transposed one run a hundred times slower than
a matrix product of the same size. So on CPU a convolution is written as matrix products over
shifted copies of its input:

- the input is split into phases, one per offset within a stride (space to depth), after which
  every kernel tap is an unstrided shift of one phase;
- ``"columns"`` lays the shifted phases side by side and multiplies once: fastest, needs memory
  for a copy of the input per tap;
- ``"separable"`` makes the same columns one axis after the other, in a third of the operations:
  quicker to compile and to compute, but not to transpose, so for what is not differentiated;
- ``"rows"`` does so along the last axis only, and multiplies and adds up over the taps of the
  other two: needs memory for a few copies. A large input goes through it a few planes at a time,
  in a loop, so that these copies stay in the cache and memory is not fetched anew for each;
- ``"planes"`` lets the positions of a plane within a stride become channels, after which the taps
  along the first axis are unstrided 2D convolutions, which XLA does as fast as products; it adds
  them up. For kernels that are larger than their stride, in float32. A kernel of three with a
  stride of two has 16 taps for 9 in each plane. Its sums are direct, with the errors of the other
  forms (root mean square 3e-7 of the result's, for 576 channels);
- ``"winograd"`` takes the six planes along the first axis of which four of the output follow to six
  sums of them, and each of these through one 2D convolution, which XLA does as fast as products:
  F(4, 3) of Lavin and Gray (2016), with half of the multiplications. For unstrided kernels of
  three along the first axis, in float32; its errors are 2.3 times those of direct sums (root mean
  square 6e-7 of the result's, for 576 channels);
- ``"xla"`` is ``lax.conv_general_dilated``.

All forms are plain ``lax``: they can be differentiated any number of times in either mode,
batched with ``vmap``, and their transposes are again matrix products and shifts. A transposed
convolution is, by definition, the transpose of a convolution, and is computed as exactly that.

Letters: B batch, X Y Z spatial axes, C input channels, K output channels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, reduce
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxsal.current_device import current_device
from jaxsal.types import Triple

Form = Literal["columns", "separable", "rows", "planes", "winograd", "xla"]

_Array = jax.Array | jax.ShapeDtypeStruct

_DIMENSIONS = ("NHWDC", "HWDIO", "NHWDC")
_PLANE_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_traced: ContextVar[bool] = ContextVar("traced", default=False)
_FEW_CHANNELS = 8  # a matrix product over fewer rows than this is bound by memory traffic
_COLUMN_BYTES = 16 * 2**20  # larger column buffers per example fall out of every cache
# By planes of a block, the points of interpolation. Those of four have half the error of 0, ±1, ±2.
_WINOGRAD = {4: (0.0, 0.75, -0.75, 1.5, -1.5), 2: (0.0, 1.0, -1.0)}
_SLAB_BYTES = 4 * 2**20  # of a slab's rows: less and slabs share more, more falls out of caches


@contextmanager
def as_traced() -> Iterator[None]:
    """Within the block every convolution is one ``conv_general_dilated``, easy to recognise.

    For tracing a network in order to learn of what it consists, not for computing with it.
    """
    token = _traced.set(True)
    try:
        yield
    finally:
        _traced.reset(token)


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: Triple = (1, 1, 1),
    padding: Triple = (0, 0, 0),
    form: Form | None = None,
) -> jax.Array:
    """Cross-correlation with zero padding, as PyTorch's ``Conv3d`` without bias.

    Args:
        x: (B, X, Y, Z, C).
        kernel: (kx, ky, kz, C, K).
        stride: step per spatial axis.
        padding: zeros added on both sides of each spatial axis.
        form: how to compute it; by default the fastest known for the backend and the sizes.

    Returns:
        (B, X', Y', Z', K) with ``X' = (X + 2 padding - kx) // stride + 1``, in the dtype of x.

    Raises:
        ValueError: if ``form`` is "winograd" and the kernel is strided or not of three along X.
    """
    form = form or _fastest_form(x, kernel, stride)
    if form == "winograd":
        if kernel.shape[0] != 3 or stride != (1, 1, 1):
            raise ValueError(
                "winograd needs an unstrided kernel of 3 along the first axis, not one of "
                f"{kernel.shape[0]} with stride {stride}"
            )
        return _by_2d(_winograd, x, kernel, stride, padding)
    if form == "planes":
        return _by_2d(_planes, x, kernel, stride, padding)
    if form == "xla":
        return lax.conv_general_dilated(
            x, kernel, stride, [(p, p) for p in padding], dimension_numbers=_DIMENSIONS
        )
    if form == "separable":
        return _columns_by_axis(x, kernel.shape[:3], stride, padding) @ kernel.reshape(
            -1, kernel.shape[-1]
        )
    if form == "columns":
        taps = _shifted_phases(x, kernel.shape[:3], stride, padding)
        columns = jnp.concatenate(list(taps), axis=-1)
        return columns @ kernel.reshape(-1, kernel.shape[-1])
    return _rows(x, kernel, stride, padding)


def _rows(x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple) -> jax.Array:
    """The convolution by `_by_rows`, a few planes at a time where x is large."""
    weights = kernel.reshape(*kernel.shape[:2], -1, kernel.shape[-1])
    planes = _planes_per_slab(x.shape, kernel.shape)
    if stride != (1, 1, 1) or kernel.shape[0] == 1 or planes >= x.shape[1]:
        return _by_rows(x, weights, kernel.shape[:3], stride, padding)
    return _slab_by_slab(x, weights, kernel.shape[:3], padding, planes)


def transposed_convolution(
    y: jax.Array,
    kernel: jax.Array,
    *,
    stride: Triple = (1, 1, 1),
    padding: Triple = (0, 0, 0),
    output_padding: Triple = (0, 0, 0),
    form: Form | None = None,
) -> jax.Array:
    """The transpose of `convolution`, as PyTorch's ``ConvTranspose3d`` without bias.

    Args:
        y: (B, X, Y, Z, K).
        kernel: (kx, ky, kz, C, K): the kernel of the convolution that this one transposes.
        stride: up-sampling factor per spatial axis.
        padding: padding of the convolution that this one transposes.
        output_padding: extra positions at the end of each spatial axis of the result.
        form: as for `convolution`.

    Returns:
        (B, X', Y', Z', C) with ``X' = (X - 1) stride - 2 padding + kx + output_padding``.
    """
    spatial = tuple(
        (n - 1) * s - 2 * p + k + o
        for n, s, p, k, o in zip(
            y.shape[1:4], stride, padding, kernel.shape[:3], output_padding, strict=True
        )
    )
    primal = jax.ShapeDtypeStruct((y.shape[0], *spatial, kernel.shape[3]), y.dtype)
    form = form or _fastest_form(primal, kernel, stride)

    def forward(x: jax.Array) -> jax.Array:
        return convolution(x, kernel, stride=stride, padding=padding, form=form)

    (x,) = jax.linear_transpose(forward, primal)(y)
    return x


def forward_form(x: jax.Array, kernel: jax.Array, stride: Triple) -> Form:
    """The fastest form of a convolution that will not be differentiated."""
    form = _fastest_form(x, kernel, stride)
    return "separable" if form == "columns" else form


def _fastest_form(x: _Array, kernel: _Array, stride: Triple) -> Form:
    """Chosen by measurement; see the module's docstring for what each form costs."""
    if _traced.get() or current_device().platform != "cpu":
        return "xla"
    channels = kernel.shape[3]
    positions = math.prod(n // s for n, s in zip(x.shape[1:4], stride, strict=True))
    fits = 4 * positions * channels * math.prod(kernel.shape[:3]) <= _COLUMN_BYTES
    few = channels <= _FEW_CHANNELS
    if not fits and x.dtype == jnp.float32:
        # one core, GFLOP/s forward and back: 64^3 2 to 16 channels "columns" 2, 6, "winograd" 11,
        # 12; 16^3 64 to 64 "rows" 54, 15, "winograd" 130, 95. On small boxes its many operations
        # cost more.
        if kernel.shape[0] == 3 and stride == (1, 1, 1):
            return "winograd"
        # likewise, stride of 2: 64^3 16 to 32 "rows" 24, 18, "planes" 72, 92; 48^3 32 to 64 "rows"
        # 40, 36, "planes" 96, 109.
        if math.prod(kernel.shape[:3]) > math.prod(stride) > 1:
            return "planes"
    # likewise, kernel and stride of 2: 64^3 16 to 32 "columns" 47, 30, "rows" 70, 117.
    if kernel.shape[:3] == stride:
        return "rows"
    return "columns" if few or fits else "rows"


@partial(jax.custom_jvp, nondiff_argnums=(0, 3, 4))
def _by_2d(
    function: Callable[[jax.Array, jax.Array, Triple, Triple], jax.Array],
    x: jax.Array,
    kernel: jax.Array,
    stride: Triple,
    padding: Triple,
) -> jax.Array:
    """A convolution by a function of 2D convolutions of planes."""
    return function(x, kernel, stride, padding)


@partial(_by_2d.defjvp, symbolic_zeros=True)
def _by_2d_jvp(
    function: Callable[[jax.Array, jax.Array, Triple, Triple], jax.Array],
    stride: Triple,
    padding: Triple,
    primals: tuple[jax.Array, ...],
    tangents: tuple[jax.Array | SymbolicZero, ...],
) -> tuple[jax.Array, jax.Array]:
    """As the derivative is, but for the kernel in a form whose transpose is a matrix product."""
    (x, kernel), (dx, d_kernel) = primals, tangents
    y = _by_2d(function, x, kernel, stride, padding)
    parts = []
    if not isinstance(dx, SymbolicZero):
        parts.append(_by_2d(function, dx, kernel, stride, padding))
    if not isinstance(d_kernel, SymbolicZero):
        parts.append(_rows(x, d_kernel, stride, padding))
    return y, reduce(jnp.add, parts) if parts else jnp.zeros_like(y)


def _planes(x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple) -> jax.Array:
    """The sum over the taps along X of 2D convolutions of planes.

    Those are unstrided: the positions of a plane within a stride become channels of one position,
    and where a kernel does not meet all of them it is filled up with zeros.
    """
    size = _output_size(x.shape, kernel.shape[:3], stride, padding)
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
    planes = _positions_to_channels(apart, stride)
    phases = lax.split(planes, [len(planes) // stride[0]] * stride[0])
    first = [-p // s for p, s in zip(padding[1:], stride[1:], strict=True)]
    edges = [
        (-start, start + m - 1 + k - n)
        for start, m, k, n in zip(
            first, size[1:], kernel.shape[1:3], planes.shape[1:3], strict=True
        )
    ]
    products = []
    for tap, weights in enumerate(kernel):
        start, phase = divmod(tap - padding[0], stride[0])
        values = phases[phase].reshape(*x.shape[:2], *planes.shape[1:])
        products.append(_window(_by_planes(values, weights, edges), [start, 0, 0], size))
    return reduce(jnp.add, products)


def _positions_to_channels(planes: jax.Array, stride: Triple) -> jax.Array:
    """(N, Y, Z, C, …) -> (N, Y / sy, Z / sz, sy sz C, …)."""
    _, rows, columns = stride
    number, height, width, *rest = planes.shape
    blocks = planes.reshape(number, height // rows, rows, width // columns, columns, *rest)
    blocks = blocks.swapaxes(2, 3)
    return blocks.reshape(*blocks.shape[:3], rows * columns * rest[0], *rest[1:])


def _winograd(x: jax.Array, kernel: jax.Array, stride: Triple, padding: Triple) -> jax.Array:
    """The unstrided convolution, a block of planes of the output at a time."""
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
        _by_planes(_weighted(row, shifted), _weighted(taps, kernel), edges)
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


def _by_planes(x: jax.Array, kernel: jax.Array, edges: Sequence[tuple[int, int]]) -> jax.Array:
    """2D convolutions (B, X, Y', Z', K) of the planes of x by a kernel (ky, kz, C, K)."""
    planes = x.reshape(-1, *x.shape[2:])
    y = lax.conv_general_dilated(planes, kernel, (1, 1), edges, dimension_numbers=_PLANE_DIMENSIONS)
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _planes_per_slab(x_shape: tuple[int, ...], kernel_shape: tuple[int, ...]) -> int:
    """X-planes of the output to compute at once: no fewer than two neighbouring slabs share."""
    plane_bytes = 4 * math.prod(x_shape[2:4]) * math.prod(kernel_shape[2:4])
    return max(_SLAB_BYTES // plane_bytes, kernel_shape[0] - 1)


def _slab_by_slab(
    x: jax.Array, weights: jax.Array, kernel_size: tuple[int, ...], padding: Triple, planes: int
) -> jax.Array:
    """`_by_rows` of an unstrided convolution, for so many planes of the output at a time."""
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
        return _by_rows(x[None], weights, kernel_size, (1, 1, 1), (0, 0, 0))[0]

    # Computed again where the kernel is differentiated: kept, the shifted copies of all slabs would
    # be many times the input, and writing them takes longer than the products.
    y = lax.map(jax.checkpoint(slab, prevent_cse=False), overlapping)
    return y.reshape(examples, slabs * planes, *y.shape[2:])[:, :size]


def _by_rows(
    x: jax.Array,
    weights: jax.Array,
    kernel_size: tuple[int, ...],
    stride: Triple,
    padding: Triple,
) -> jax.Array:
    """The convolution by weights (kx, ky, kz C, K), one product per tap of the first two axes."""
    *plane, depth = _output_size(x.shape, kernel_size, stride, padding)
    phases = _split_phases(x, stride)
    rows: dict[tuple[int, ...], jax.Array] = {}
    for phase in itertools.product(*map(range, stride[:2])):
        taps = []
        for tap in range(kernel_size[2]):
            start, part = divmod(tap - padding[2], stride[2])
            values = phases[*phase, part]
            taps.append(_window(values, [0, 0, start], [*values.shape[1:3], depth]))
        rows[phase] = jnp.concatenate(taps, axis=-1)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    products = []
    for place in itertools.product(*map(range, kernel_size[:2])):
        places = [divmod(t - p, s) for t, p, s in zip(place, padding[:2], stride[:2], strict=True)]
        values = rows[tuple(phase for _, phase in places)]
        shifted = _window(values, [*(start for start, _ in places), 0], [*plane, depth])
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
    size = _output_size(x.shape, kernel_size, stride, padding)
    phases = _split_phases(x, stride)
    for tap in itertools.product(*map(range, kernel_size)):
        offsets = [t - p for t, p in zip(tap, padding, strict=True)]
        phase = phases[tuple(o % s for o, s in zip(offsets, stride, strict=True))]
        starts = [o // s for o, s in zip(offsets, stride, strict=True)]
        yield _window(phase, starts, size)


def _output_size(
    x_shape: tuple[int, ...], kernel_size: tuple[int, ...], stride: Triple, padding: Triple
) -> list[int]:
    return [
        (n + 2 * p - k) // s + 1
        for n, p, k, s in zip(x_shape[1:4], padding, kernel_size, stride, strict=True)
    ]


def _split_phases(x: jax.Array, stride: Triple) -> dict[tuple[int, ...], jax.Array]:
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


def _window(x: jax.Array, starts: list[int], size: list[int]) -> jax.Array:
    """x[start : start + size] along the spatial axes, zero where it reaches outside."""
    edges = [(-a, a + m - n, 0) for a, m, n in zip(starts, size, x.shape[1:4], strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
