"""3D convolutions that are fast on every backend, in forward and reverse mode.

XLA's convolution is the right one on GPU and TPU. On CPU it is fast only for plain forward
convolutions: the pull-back of a convolution and a transposed one run a hundred times slower than
a matrix product of the same size. So on CPU a convolution is written as matrix products over
shifted copies of its input (`jaxsal.nets.by_products`), or as a sum of 2D convolutions
(`jaxsal.nets.by_planes`):

- for products, the input is split into phases, one per offset within a stride (space to depth),
  after which every kernel tap is an unstrided shift of one phase;
- ``"columns"`` lays the shifted phases side by side and multiplies once: for small boxes, as it
  needs memory for a copy of the input per tap;
- ``"separable"`` makes the same columns one axis after the other, in a third of the operations:
  quicker to compile and to compute, but not to transpose, so for what is not differentiated;
- ``"rows"`` does so along the last axis only, and multiplies and adds up over the taps of the
  other two: needs memory for a few copies. A large input goes through it a few planes at a time,
  in a loop, so that these copies stay in the cache and memory is not fetched anew for each;
- ``"blocks"`` lays each block of a stride's size in a row and multiplies once. For kernels of
  the size of their stride, whose blocks do not overlap, such as those that cut an image into
  patches for a transformer: a kernel of 16³ has 4,096 taps, too many to be shifted one by one;
- ``"planes"`` lets the positions of a plane within a stride become channels, after which the taps
  along the first axis are unstrided 2D convolutions, which XLA does as fast as products; it adds
  them up. For kernels that are larger than their stride, in float32. A kernel of three with a
  stride of two has 16 taps for 9 in each plane. Its sums are direct, with the errors of the other
  forms (root mean square 3e-7 of the result's, for 576 channels);
- ``"phases"`` takes one 2D convolution for each phase, of the planes that the phase's taps meet,
  with their channels side by side, and adds these up: eight for a stride of two. It multiplies
  nothing by zero, and is for many channels: with few, eight small 2D convolutions cost more than
  the zeros;
- ``"stacked"`` makes channels of all planes that the kernel meets along the first axis, for a
  single 2D convolution: for few channels, as an image has;
- ``"winograd"`` takes the six planes along the first axis of which four of the output follow to six
  sums of them, and each of these through one 2D convolution, which XLA does as fast as products:
  F(4, 3) of Lavin and Gray (2016), with half of the multiplications. For unstrided kernels of
  three along the first axis, in float32; its errors are 2.3 times those of direct sums (root mean
  square 6e-7 of the result's, for 576 channels);
- ``"xla"`` is ``lax.conv_general_dilated``.

Of large 2D convolutions in a forward pass planes lie in a row, so that all cores share them.

`jaxsal.nets.fastest_form` chooses one. With groups or dilation: `jaxsal.nets.general_convolution`.

All forms consist of ``lax``: they can be differentiated any number of times in either mode,
batched with ``vmap``, and their transposes are as fast as they are themselves. A transposed
convolution is, by definition, the transpose of a convolution, and is computed as exactly that.

Letters: B batch, X Y Z spatial axes, C input channels, K output channels.
"""

from __future__ import annotations

import jax
from jax import lax

from jaxsal.nets.by_planes import ByPlanes, phases, planes, stacked, winograd
from jaxsal.nets.by_products import by_blocks, by_columns, by_rows, by_separable_columns
from jaxsal.nets.fastest_form import Form, fastest_form
from jaxsal.types import Triple

_BY_PRODUCTS = {
    "columns": by_columns,
    "separable": by_separable_columns,
    "rows": by_rows,
    "blocks": by_blocks,
}
_BY_PLANES = {"planes": planes, "stacked": stacked, "phases": phases, "winograd": winograd}
_DIMENSIONS = ("NHWDC", "HWDIO", "NHWDC")


def convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: Triple = (1, 1, 1),
    padding: Triple = (0, 0, 0),
    form: Form | None = None,
    shared: bool = True,
) -> jax.Array:
    """Cross-correlation with zero padding, as PyTorch's ``Conv3d`` without bias.

    Args:
        x: (B, X, Y, Z, C).
        kernel: (kx, ky, kz, C, K).
        stride: step per spatial axis.
        padding: zeros added on both sides of each spatial axis.
        form: how to compute it; by default the fastest known for the backend and the sizes.
        shared: whether all cores of a CPU are to share it, if it is large and a sum of 2D
            convolutions; better not where each core has others to compute. Its derivatives are not
            shared.

    Returns:
        (B, X', Y', Z', K) with ``X' = (X + 2 padding - kx) // stride + 1``, in the dtype of x.

    Raises:
        ValueError: if ``form`` is "winograd" and the kernel is strided or not of three along X, or
            "blocks" and the kernel is not of the size of its stride.
    """
    form = form or fastest_form(x, kernel, stride)
    if form == "blocks" and kernel.shape[:3] != stride:
        raise ValueError(
            f"blocks needs a kernel of the stride's size, {stride}; got {kernel.shape[:3]}"
        )
    if form == "winograd" and (kernel.shape[0] != 3 or stride != (1, 1, 1)):
        raise ValueError(
            "winograd needs an unstrided kernel of 3 along the first axis, not one of "
            f"{kernel.shape[0]} with stride {stride}"
        )
    if form in _BY_PLANES:
        return ByPlanes(_BY_PLANES[form], stride, padding, shared=shared).convolution(x, kernel)
    if form in _BY_PRODUCTS:
        return _BY_PRODUCTS[form](x, kernel, stride, padding)
    return lax.conv_general_dilated(
        x, kernel, stride, [(p, p) for p in padding], dimension_numbers=_DIMENSIONS
    )


def transposed_convolution(
    y: jax.Array,
    kernel: jax.Array,
    *,
    stride: Triple = (1, 1, 1),
    padding: Triple = (0, 0, 0),
    output_padding: Triple = (0, 0, 0),
    form: Form | None = None,
    shared: bool = True,
) -> jax.Array:
    """The transpose of `convolution`, as PyTorch's ``ConvTranspose3d`` without bias.

    Args:
        y: (B, X, Y, Z, K).
        kernel: (kx, ky, kz, C, K): the kernel of the convolution that this one transposes.
        stride: up-sampling factor per spatial axis.
        padding: padding of the convolution that this one transposes.
        output_padding: extra positions at the end of each spatial axis of the result.
        form: as for `convolution`.
        shared: as for `convolution`.

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
    form = form or fastest_form(primal, kernel, stride, transposed=True)
    if form in _BY_PLANES:
        return ByPlanes(_BY_PLANES[form], stride, padding, shared=shared).transposed(
            y, kernel, primal
        )

    def forward(x: jax.Array) -> jax.Array:
        return convolution(x, kernel, stride=stride, padding=padding, form=form)

    (x,) = jax.linear_transpose(forward, primal)(y)
    return x
