"""Every operation equals PyTorch's of that name: value, derivatives, and in any order of axes.

Compared in float64 on small arrays: the value, a pull-back, the derivative along a direction, and
the second derivative along it, against PyTorch's autograd.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxsal.errors import InputError
from jaxsal.graph.operations import OPERATIONS
from jaxsal.graph.operations.table import LEFT_OUT
from jaxsal.graph.values import Value

pytestmark = pytest.mark.usefixtures("xla_convolutions")
TOLERANCE = 1e-11  # of the largest magnitude: float64, sums of some hundred terms in another order
SECOND = 1e-9  # of second derivatives, of which each step cancels more


class Fixed(np.ndarray):
    """A tensor without derivatives."""


@dataclass(frozen=True)
class T:
    """A tensor to make: its shape and what it holds."""

    shape: tuple[int, ...]
    of: str = "normal"

    def make(self, generator: np.random.Generator) -> np.ndarray:
        if self.of == "positive":
            return generator.uniform(0.3, 2.0, self.shape)
        if self.of == "statistic":
            return generator.uniform(0.3, 2.0, self.shape).view(Fixed)
        if self.of == "bool":
            return generator.random(self.shape) < 0.6
        if self.of == "place":
            return generator.integers(0, 2, self.shape)
        if self.of == "count":
            return generator.integers(1, 4, self.shape)
        if self.of == "int":
            return generator.integers(0, 4, self.shape)
        if self.of == "fraction":
            return generator.uniform(-0.9, 0.9, self.shape)
        if self.of == "equal":  # as the background of an image
            return np.ones(self.shape)
        return 2 * generator.standard_normal(self.shape)


def t(*shape: int, of: str = "normal") -> T:
    return T(shape, of)


X3, X2 = t(2, 4, 5, 6, 7), t(2, 4, 6, 7)
Case = tuple[str, dict[str, Any]]
INF = math.inf


def case(name: str, **arguments: Any) -> Case:
    return name, arguments


def unary(names: str, of: str = "normal", **arguments: Any) -> list[Case]:
    return [case(name, self=t(2, 3, 4, of=of), **arguments) for name in names.split()]


CONVOLUTIONS = [
    case("conv3d", input=X3, weight=t(3, 4, 3, 2, 3), bias=t(3), padding=(1, 0, 2)),
    case("conv3d", input=X3, weight=t(3, 4, 3, 3, 3), stride=(2, 1, 2), padding=(1, 1, 1)),
    case("conv3d", input=X3, weight=t(3, 4, 2, 2, 2), dilation=(2, 1, 3), stride=(1, 2, 1)),
    case("conv3d", input=X3, weight=t(6, 2, 3, 3, 3), groups=2, padding=(1, 1, 1), bias=t(6)),
    case(
        "conv3d", input=X3, weight=t(8, 1, 3, 3, 3), groups=4, padding=(1, 1, 1), stride=(1, 2, 2)
    ),
    case("conv3d", input=X3, weight=t(4, 1, 2, 2, 2), groups=4, dilation=(2, 2, 2)),
    case("conv3d", input=X3, weight=t(6, 2, 2, 2, 2), groups=2, dilation=(2, 2, 2)),
    case("conv3d", input=t(4, 5, 6, 7), weight=t(3, 4, 3, 3, 3), bias=t(3)),
    case("conv3d.padding", input=X3, weight=t(3, 4, 3, 2, 4), padding="same", dilation=(1, 2, 1)),
    case("conv3d.padding", input=X3, weight=t(3, 4, 3, 2, 3), padding="valid", stride=(2, 2, 2)),
    case("conv2d", input=X2, weight=t(3, 4, 3, 2), bias=t(3), padding=(1, 0), stride=(1, 2)),
    case("conv2d", input=X2, weight=t(4, 1, 3, 3), groups=4, dilation=(2, 1)),
    case("conv2d.padding", input=X2, weight=t(3, 4, 3, 2), padding="same"),
    case("conv1d", input=t(2, 3, 9), weight=t(4, 3, 3), bias=t(4), stride=(2,), padding=(1,)),
    case(
        "conv_transpose3d.input",
        input=t(2, 3, 3, 4, 2),
        weight=t(3, 4, 3, 2, 3),
        bias=t(4),
        stride=(2, 1, 2),
        padding=(1, 0, 1),
        output_padding=(1, 0, 1),
    ),
    case(
        "conv_transpose3d.input",
        input=t(1, 4, 3, 4, 2),
        weight=t(4, 3, 2, 2, 2),
        groups=2,
        stride=(2, 2, 2),
        bias=t(6),
    ),
    case(
        "conv_transpose3d.input",
        input=t(1, 2, 3, 4, 3),
        weight=t(2, 3, 3, 2, 2),
        stride=(2, 1, 1),
        dilation=(1, 2, 2),
        padding=(1, 1, 0),
    ),
    case(
        "conv_transpose2d.input",
        input=t(2, 3, 4, 5),
        weight=t(3, 2, 3, 3),
        stride=(2, 2),
        padding=(1, 1),
        output_padding=(1, 0),
    ),
    case(
        "convolution",
        input=X3,
        weight=t(3, 4, 3, 3, 3),
        bias=None,
        stride=[1, 1, 1],
        padding=[1, 1, 1],
        dilation=[1, 1, 1],
        transposed=False,
        output_padding=[0, 0, 0],
        groups=1,
    ),
    case(
        "convolution",
        input=t(2, 3, 4, 5),
        weight=t(3, 2, 2, 2),
        bias=t(2),
        stride=[2, 2],
        padding=[0, 0],
        dilation=[1, 1],
        transposed=True,
        output_padding=[0, 0],
        groups=1,
    ),
]
STATISTICS = {name: t(4, of="statistic") for name in ("running_mean", "running_var")}
NORMS = [
    case(
        "batch_norm",
        input=X3,
        weight=t(4),
        bias=t(4),
        **STATISTICS,
        training=False,
        momentum=0.1,
        eps=1e-5,
        cudnn_enabled=True,
    ),
    case(
        "batch_norm",
        input=X2,
        weight=None,
        bias=None,
        **STATISTICS,
        training=False,
        momentum=0.1,
        eps=1e-3,
        cudnn_enabled=True,
    ),
    case(
        "_native_batch_norm_legit_no_training",
        input=X3,
        weight=t(4),
        bias=t(4),
        **STATISTICS,
        momentum=0.1,
        eps=1e-5,
    ),
    case(
        "_native_batch_norm_legit.no_stats",
        input=t(1, 4, 3, 4, 5),
        weight=t(4),
        bias=None,
        training=True,
        momentum=0.1,
        eps=1e-5,
    ),
    case(
        "instance_norm",
        input=X3,
        weight=t(4),
        bias=t(4),
        running_mean=None,
        running_var=None,
        use_input_stats=True,
        momentum=0.1,
        eps=1e-5,
        cudnn_enabled=True,
    ),
    case(
        "instance_norm",
        input=X2,
        weight=None,
        bias=None,
        running_mean=None,
        running_var=None,
        use_input_stats=True,
        momentum=0.1,
        eps=1e-5,
        cudnn_enabled=True,
    ),
    case(
        "instance_norm",
        input=X3,
        weight=t(4),
        bias=t(4),
        **STATISTICS,
        use_input_stats=False,
        momentum=0.1,
        eps=1e-5,
        cudnn_enabled=True,
    ),
    case("group_norm", input=X3, num_groups=2, weight=t(4), bias=t(4), eps=1e-5),
    case("group_norm", input=X2, num_groups=4),
    case("group_norm", input=t(3, 4), num_groups=2),
    case("group_norm", input=t(3, 4), num_groups=1, weight=t(4), bias=t(4)),
    case(
        "native_group_norm", input=X3, weight=t(4), bias=t(4), N=2, C=4, HxW=210, group=2, eps=1e-5
    ),
    case("layer_norm", input=t(2, 3, 4, 5), normalized_shape=[4, 5], weight=t(4, 5), bias=t(4, 5)),
    case("layer_norm", input=X3, normalized_shape=[7]),
    case(
        "native_layer_norm",
        input=t(2, 3, 4),
        normalized_shape=[4],
        weight=t(4),
        bias=t(4),
        eps=1e-5,
    ),
    case("rms_norm", input=t(2, 3, 4), normalized_shape=[4], weight=t(4)),
    case("rms_norm", input=t(2, 3, 4), normalized_shape=[3, 4], eps=1e-3),
]
ACTIVATIONS = [
    *unary("relu relu6 silu mish sigmoid log_sigmoid tanh hardswish hardsigmoid selu softplus"),
    *unary("gelu elu celu leaky_relu hardtanh hardshrink softshrink glu log_sigmoid_forward"),
    *unary("gelu", approximate="tanh"),
    *unary("leaky_relu", negative_slope=0.3),
    *unary("elu", alpha=0.7, scale=1.2, input_scale=0.9),
    *unary("celu", alpha=0.5),
    *unary("softplus", beta=2.0, threshold=3.0),
    *unary("hardtanh", min_val=-0.5, max_val=2.0),
    *unary("threshold", threshold=0.4, value=-2.0),
    case("prelu", self=X3, weight=t(4)),
    case("prelu", self=X3, weight=t(1)),
    case("_prelu_kernel", self=X3, weight=t(1, 4, 1, 1, 1)),
    case("softmax.int", self=X2, dim=1),
    case("log_softmax.int", self=X2, dim=-1),
    case("_softmax", self=X2, dim=1, half_to_float=False),
    case("_log_softmax", self=X2, dim=2, half_to_float=False),
    *(
        case(name, input=X2, p=0.5, train=False)
        for name in ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
    ),
    case("native_dropout", input=X2, p=0.5, train=False),
]
POOLING = [
    case("max_pool3d", self=X3, kernel_size=[2, 2, 2]),
    case("max_pool3d", self=X3, kernel_size=[3], stride=[2, 1, 2], padding=[1], ceil_mode=True),
    case("max_pool3d", self=X3, kernel_size=[2, 2, 2], stride=[1, 1, 1], dilation=[2, 1, 2]),
    case("max_pool3d", self=t(1, 2, 4, 4, 4, of="equal"), kernel_size=[3, 2, 2], padding=[1, 0, 0]),
    case(
        "max_pool3d_with_indices",
        self=X3,
        kernel_size=[3, 2, 3],
        stride=[2, 2, 2],
        padding=[1, 1, 1],
    ),
    case("max_pool2d", self=X2, kernel_size=[3, 2], stride=[2], padding=[1, 0]),
    case("max_pool2d_with_indices", self=t(3, 6, 7), kernel_size=[3, 3], stride=[2, 2]),
    case("max_pool1d", self=t(2, 3, 9), kernel_size=[3], stride=[2], padding=[1]),
    case("avg_pool3d", self=X3, kernel_size=[2, 3, 2]),
    case("avg_pool3d", self=t(1, 2, 4, 6, 2), kernel_size=[2, 3, 2]),
    case("avg_pool3d", self=X3, kernel_size=[3], stride=[2], padding=[1], ceil_mode=True),
    case(
        "avg_pool3d",
        self=X3,
        kernel_size=[3],
        stride=[2],
        padding=[1],
        ceil_mode=True,
        count_include_pad=False,
    ),
    case("avg_pool2d", self=X2, kernel_size=[3], stride=[1], padding=[1], divisor_override=5),
    case("avg_pool2d", self=X2, kernel_size=[2, 2], stride=[2, 3], ceil_mode=True),
    case("avg_pool1d", self=t(2, 3, 9), kernel_size=[2]),
    case("adaptive_avg_pool3d", self=X3, output_size=[1, 1, 1]),
    case("adaptive_avg_pool3d", self=X3, output_size=[5, 3, 4]),
    case("_adaptive_avg_pool2d", self=X2, output_size=[2, 7]),
    case("adaptive_avg_pool1d", self=t(2, 3, 9), output_size=[4]),
    case("adaptive_max_pool3d", self=X3, output_size=[2, 3, 7]),
    case("adaptive_max_pool2d", self=X2, output_size=[4, 3]),
]
INTERPOLATION = [
    *(
        case(f"{name}.vec", input=X3, output_size=size, scale_factors=factors)
        for name in ("upsample_nearest3d", "_upsample_nearest_exact3d")
        for size, factors in (([10, 9, 14], None), (None, [2.0, 1.5, 0.6]), ([5, 3, 1], None))
    ),
    *(
        case(
            "upsample_trilinear3d.vec",
            input=X3,
            output_size=size,
            align_corners=aligned,
            scale_factors=factors,
        )
        for aligned in (False, True)
        for size, factors in (([10, 9, 3], None), (None, [2.0, 1.5, 0.6]), ([5, 1, 14], None))
    ),
    case(
        "upsample_trilinear3d",
        self=X3,
        output_size=[10, 12, 14],
        align_corners=False,
        scales_d=2.0,
        scales_h=2.0,
        scales_w=2.0,
    ),
    case(
        "upsample_nearest3d",
        self=X3,
        output_size=[10, 12, 14],
        scales_d=2.0,
        scales_h=2.0,
        scales_w=2.0,
    ),
    case(
        "upsample_bilinear2d.vec",
        input=X2,
        output_size=[12, 5],
        align_corners=True,
        scale_factors=None,
    ),
    case(
        "upsample_bilinear2d",
        self=X2,
        output_size=[15, 17],
        align_corners=False,
        scales_h=2.5,
        scales_w=2.5,
    ),
    case(
        "upsample_bicubic2d.vec",
        input=X2,
        output_size=[12, 10],
        align_corners=False,
        scale_factors=None,
    ),
    case(
        "upsample_bicubic2d.vec",
        input=X2,
        output_size=[5, 10],
        align_corners=True,
        scale_factors=None,
    ),
    case("upsample_nearest2d.vec", input=X2, output_size=None, scale_factors=[0.5, 3.0]),
    case("_upsample_nearest_exact2d", self=X2, output_size=[9, 4]),
    case(
        "upsample_linear1d.vec",
        input=t(2, 3, 5),
        output_size=[11],
        align_corners=False,
        scale_factors=None,
    ),
    case("upsample_nearest1d", self=t(2, 3, 5), output_size=[10], scales=2.0),
]
PADDING = [
    case("constant_pad_nd", self=X3, pad=[1, 2, 0, 3, -1, 1], value=0.5),
    case("pad", self=X3, pad=[1, 2, 3, 0], mode="constant"),
    case("pad", self=X3, pad=[1, 2, 2, 1, 0, 3], mode="reflect"),
    case("pad", self=X3, pad=[1, 2, 2, 1, 0, 3], mode="replicate"),
    case("pad", self=X3, pad=[1, 2, 2, 1, 0, 3], mode="circular"),
    case("reflection_pad3d", self=X3, padding=[1, 2, 0, 3, 1, 1]),
    case("reflection_pad2d", self=X2, padding=[1, 2, 0, 3]),
    case("replication_pad3d", self=X3, padding=[1, 2, 0, 3, 1, 1]),
    case("replication_pad2d", self=X2, padding=[1, 2, 0, 3]),
]
PRODUCTS = [
    case("matmul", self=t(2, 3, 4), other=t(4, 5)),
    case("matmul", self=t(2, 1, 3, 4), other=t(3, 4, 5)),
    case("matmul", self=t(4), other=t(2, 4, 5)),
    case("matmul", self=t(2, 3, 4), other=t(4)),
    case("mm", self=t(2, 3), mat2=t(3, 4)),
    case("bmm", self=t(2, 3, 4), mat2=t(2, 4, 5)),
    case("mv", self=t(2, 3), vec=t(3)),
    case("dot", self=t(3), tensor=t(3)),
    case("outer", self=t(3), vec2=t(4)),
    case("linear", input=t(2, 3, 4), weight=t(5, 4), bias=t(5)),
    case("linear", input=t(4), weight=t(5, 4)),
    case("addmm", self=t(5), mat1=t(3, 4), mat2=t(4, 5), beta=0.5, alpha=2),
    case("addmm", self=t(5), mat1=t(3, 4), mat2=t(4, 5), beta=0),
    case("baddbmm", self=t(2, 3, 5), batch1=t(2, 3, 4), batch2=t(2, 4, 5), alpha=0.3),
    case("einsum", equation="bhxd, bhyd -> bhxy", tensors=[t(2, 3, 4, 5), t(2, 3, 6, 5)]),
    case("einsum", equation="b...c,cd->b...d", tensors=[t(2, 3, 4, 5), t(5, 6)]),
    case("einsum", equation="ij,jk", tensors=[t(2, 3), t(3, 4)]),
    case("einsum", equation="bij->bji", tensors=[t(2, 3, 4)]),
    case("einsum", equation="ii->i", tensors=[t(3, 3)]),
    case(
        "scaled_dot_product_attention",
        query=t(2, 3, 4, 5),
        key=t(2, 3, 6, 5),
        value=t(2, 3, 6, 5),
        attn_mask=t(4, 6),
    ),
    case(
        "scaled_dot_product_attention",
        query=t(2, 3, 4, 5),
        key=t(2, 3, 4, 5),
        value=t(2, 3, 4, 6),
        is_causal=True,
        scale=0.3,
    ),
    case(
        "scaled_dot_product_attention",
        query=t(2, 3, 4, 5),
        key=t(2, 3, 4, 5),
        value=t(2, 3, 4, 5),
        attn_mask=T((2, 1, 4, 4), "bool"),
    ),
    case(
        "scaled_dot_product_attention",
        query=t(2, 4, 3, 5),
        key=t(2, 2, 6, 5),
        value=t(2, 2, 6, 5),
        enable_gqa=True,
    ),
    case(  # so many scores that they are computed head by head
        "scaled_dot_product_attention",
        query=t(2, 3, 66, 4),
        key=t(2, 1, 63, 4),
        value=t(1, 3, 63, 5),
        attn_mask=t(3, 1, 63),
    ),
]
SHAPES = [
    *(case(name, self=X3, size=[2, 4, 5, 42]) for name in ("view", "_unsafe_view")),
    *(
        case("reshape", self=X3, shape=shape)
        for shape in (
            [8, -1],
            [2, 2, 2, 5, 6, 7],
            [-1],
            [2, 1, 4, 30, 7, 1],
            [7, 6, 5, 8],
            [2, 4, 5, 3, 2, 7],
        )
    ),
    case("reshape", self=t(1, 4, 3, 1, 2), shape=[4, 6]),
    case("reshape", self=t(2, 1, 3), shape=[2, 3, 1]),
    case("reshape", self=t(0, 3), shape=[3, 0]),
    case("view_as", self=t(2, 6), other=t(3, 4)),
    case("flatten.using_ints", self=X3, start_dim=2),
    case("unflatten.int", self=X2, dim=1, sizes=[2, -1]),
    case("permute", self=X3, dims=[0, 2, 3, 4, 1]),
    case("permute", self=X3, dims=[-1, 0, 2, 1, 3]),
    case("transpose.int", self=X3, dim0=1, dim1=-1),
    case("swapaxes", self=X2, axis0=0, axis1=1),
    case("t", self=t(2, 3)),
    case("movedim.int", self=X3, source=1, destination=-1),
    case("movedim.intlist", self=X3, source=[0, 4], destination=[2, 0]),
    case("expand", self=t(3, 1, 2), size=[4, 3, 5, -1]),
    case("expand_as", self=t(3, 1, 2), other=t(4, 3, 5, 2)),
    case("broadcast_to", self=t(1, 2), size=[3, 2]),
    case("repeat", self=t(2, 3), repeats=[2, 1, 3]),
    case("tile", self=t(2, 3, 2), dims=[2, 2]),
    case("repeat_interleave.self_int", self=X2, repeats=2, dim=1),
    case("repeat_interleave.self_int", self=t(2, 3), repeats=2),
    case("cat", tensors=[X2, t(2, 3, 6, 7), t(2, 1, 6, 7)], dim=1),
    case("cat", tensors=[t(0), t(2, 3)]),
    case("stack", tensors=[t(2, 3, 4), t(2, 3, 4)], dim=-1),
    case("stack", tensors=[t(2, 3, 4), t(2, 3, 4)]),
    case("split.Tensor", self=X2, split_size=3, dim=1),
    case("split.sizes", self=X2, split_size=[1, 3, 2], dim=2),
    case("split_with_sizes", self=X2, split_sizes=[1, 3], dim=1),
    case("chunk", self=X2, chunks=4, dim=-1),
    case("tensor_split.sections", self=X2, sections=4, dim=-1),
    case("unbind.int", self=X2, dim=1),
    case("slice.Tensor", self=X3, dim=3, start=-5, end=9223372036854775807, step=2),
    case("slice.Tensor", self=X3, dim=1, start=1, end=3),
    case("slice.Tensor", self=X3, dim=0, start=0, end=None),
    case("slice.Tensor", self=X3, dim=2, start=4, end=2),
    case("narrow", self=X3, dim=1, start=1, length=2),
    case("narrow", self=X3, dim=1, start=-3, length=2),
    case("select.int", self=X3, dim=1, index=-1),
    case("unsqueeze", self=X2, dim=1),
    case("unsqueeze", self=X2, dim=-1),
    case("squeeze", self=t(1, 3, 1, 2)),
    case("squeeze.dim", self=t(1, 3, 1, 2), dim=2),
    case("squeeze.dim", self=t(1, 3, 1, 2), dim=1),
    case("squeeze.dims", self=t(1, 3, 1, 2), dim=[0, 2]),
    case("flip", self=X3, dims=[1, -1]),
    case("roll", self=X3, shifts=[1, -2], dims=[1, 4]),
    case("roll", self=t(2, 3), shifts=[2]),
    *(case("rot90", self=X2, k=k, dims=[2, 3]) for k in (0, 1, 2, 3)),
    case("unfold", self=X2, dimension=2, size=3, step=2),
    case("meshgrid.indexing", tensors=[t(2), t(3)], indexing="ij"),
    case("pixel_shuffle", self=t(2, 8, 3, 4), upscale_factor=2),
    case("pixel_unshuffle", self=t(2, 3, 4, 6), downscale_factor=2),
    case("channel_shuffle", self=t(2, 6, 3, 4), groups=2),
    case("slice_scatter", self=X2, src=t(2, 2, 6, 7), dim=1, start=1, end=3),
    case("select_scatter", self=X2, src=t(2, 4, 7), dim=2, index=-2),
    case("copy", self=X2, src=t(4, 1, 7)),
    *(
        case(name, self=X2)
        for name in ["clone", "contiguous", "alias", "lift_fresh_copy", "detach"]
    ),
]
INDEXING = [
    case("index.Tensor", self=X2, indices=[None, t(3, of="int")]),
    case("index.Tensor", self=X2, indices=[None, None, t(2, 3, of="int")]),
    case("index.Tensor", self=X2, indices=[T((3,), "place"), None, t(3, of="int")]),
    case("_unsafe_index.Tensor", self=X2, indices=[None, None, t(3, 1, of="int"), t(4, of="int")]),
    case("index_select", self=X2, dim=1, index=t(5, of="int")),
    case("embedding", weight=t(4, 3), indices=t(2, 5, of="int")),
    case("gather", self=t(4, 4, 5), dim=1, index=t(3, 2, 5, of="int")),
    case("index_put", self=t(4, 5), indices=[t(1, of="int")], values=t(5)),
    case("index_put", self=t(4, 5), indices=[t(6, of="int")], values=t(6, 5), accumulate=True),
    case("scatter.value", self=t(4, 5), dim=1, index=t(3, 1, of="int"), value=2.0),
    case("scatter.src", self=t(4, 5), dim=0, index=t(1, 3, of="int"), src=t(1, 3)),
    case("scatter_add", self=t(4, 5), dim=0, index=t(6, 3, of="int"), src=t(6, 3)),
    case("where.self", condition=t(2, 3, of="bool"), self=t(3), other=t(2, 1)),
    case("where.ScalarOther", condition=t(2, 3, of="bool"), self=t(2, 3), other=0.0),
    case("where.ScalarSelf", condition=t(2, 3, of="bool"), self=-1.0, other=t(2, 3)),
    case("masked_fill.Scalar", self=X2, mask=t(6, 7, of="bool"), value=-2.5),
    case("masked_fill.Tensor", self=X2, mask=t(6, 7, of="bool"), value=t()),
]
CREATION = [
    case("full", size=[2, 3], fill_value=1.5),
    *(case(name, size=[2, 3]) for name in ("zeros", "ones")),
    case("full_like", self=X2, fill_value=2.0),
    *(case(name, self=X2) for name in ("zeros_like", "ones_like")),
    case("new_full", self=X2, size=[3], fill_value=2.0),
    *(case(name, self=X2, size=[3]) for name in ("new_zeros", "new_ones")),
    case("fill.Scalar", self=X2, value=2.0),
    case("scalar_tensor", s=2.5),
    case("arange", end=5),
    case("arange.start", start=1, end=5),
    case("arange.start_step", start=1.0, end=5.0, step=0.5),
    case("linspace", start=-1.0, end=1.0, steps=5),
    case("eye", n=3),
    case("tril", self=t(2, 3, 4), diagonal=1),
    case("triu", self=t(2, 3, 4), diagonal=-1),
]
SPREAD = ("sum.dim_IntList", "mean.dim", "amax", "amin", "var.dim", "std.dim", "logsumexp")
REDUCTIONS = [
    *(case(name, self=X3, dim=[1, 3]) for name in SPREAD),
    *(case(name, self=X3, dim=[-1], keepdim=True) for name in SPREAD),
    *(
        case(name, self=X2)
        for name in [
            "sum",
            "mean",
            "max",
            "min",
            "var",
            "std",
            "var_mean",
            "argmax",
            "argmin",
            "prod",
        ]
        if name != "prod"
    ),
    *(case(name, self=X2, dim=1) for name in ("max.dim", "min.dim", "argmax", "argmin", "cumsum")),
    *(case(name, self=X2, dim=-1, keepdim=True) for name in ("max.dim", "argmax", "argmin")),
    *(
        case(f"{name}.correction", self=X2, dim=[2, 3], correction=c)
        for name in ("var", "std", "var_mean")
        for c in (0, 1)
    ),
    case("prod", self=t(2, 3)),
    case("prod.dim_int", self=t(2, 3, 4), dim=1),
    case("cumprod", self=t(2, 3, 4), dim=1),
    *(case("linalg_vector_norm", self=X2, ord=o, dim=[1]) for o in (1, 2, 3.5, INF, -INF, 0)),
    case("linalg_norm", self=X2),
    case("norm.Scalar", self=X2, p=2),
    case("norm.ScalarOpt_dim", self=X2, p=2, dim=[1], keepdim=True),
    case("any.dim", self=t(3, 4, of="bool"), dim=1),
    case("all.dim", self=t(3, 4, of="bool"), dim=1, keepdim=True),
    case("any", self=t(3, 4, of="bool")),
]
OF_TWO = (
    "atan2 div.Tensor max.other maximum min.other minimum mul.Tensor remainder.Tensor fmod.Tensor"
)
ARITHMETIC = [
    *unary(
        "abs atan ceil cos cosh erf erfc exp exp2 expm1 floor neg reciprocal round sign sin sinh"
    ),
    *unary("sinh square tan trunc isfinite isinf isnan"),
    *unary("acos asin", of="fraction"),
    *unary("log log10 log1p log2 rsqrt sqrt", of="positive"),
    *unary("logical_not bitwise_not any", of="bool"),
    *(case(name, self=X2, other=t(4, 1, 7)) for name in OF_TWO.split()),
    *(case(name, self=X2, other=1.7) for name in ("div.Scalar", "mul.Scalar", "remainder.Scalar")),
    *(
        case(f"{name}.{kind}", self=X2, other=other)
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
        for kind, other in (("Tensor", t(6, 7)), ("Scalar", 0.5))
    ),
    *(
        case(name, self=t(3, of="bool"), other=t(2, 3, of="bool"))
        for name in (
            "logical_and",
            "logical_or",
            "logical_xor",
            "bitwise_and.Tensor",
            "bitwise_or.Tensor",
        )
    ),
    *(case(name, self=t(2, 4, 3), other=t(4, 1), alpha=2) for name in ("add.Tensor", "sub.Tensor")),
    case("add.Tensor", self=X3, other=t(2, 4, 1, 1, 1)),
    case("add.Tensor", self=t(4, 1, 1, 1), other=X3),
    case("add.Scalar", self=X2, other=2.5, alpha=2),
    case("rsub.Scalar", self=X2, other=2.5),
    *(
        case("div.Tensor_mode", self=X2, other=t(4, 1, 7), rounding_mode=mode)
        for mode in (None, "floor", "trunc")
    ),
    case("floor_divide", self=t(4, of="int"), other=t(4, of="count")),
    *(case("pow.Tensor_Scalar", self=t(2, 3), exponent=e) for e in (2, 3, -1, 0)),
    *(case("pow.Tensor_Scalar", self=t(2, 3, of="positive"), exponent=e) for e in (0.5, -1.5)),
    case("pow.Tensor_Tensor", self=t(2, 3, of="positive"), exponent=t(3)),
    case("pow.Scalar", self=2, exponent=t(3)),
    case("clamp", self=X2, min=-0.5, max=1.0),
    case("clamp", self=t(2, 3, of="equal"), min=1.0, max=2.0),
    case("clamp", self=X2, max=1.0),
    case("clamp.Tensor", self=X2, min=t(7)),
    case("clamp_min", self=X2, min=0.3),
    case("clamp_max", self=X2, max=0.3),
    case("lerp.Scalar", self=X2, end=X2, weight=0.3),
    case("lerp.Tensor", self=X2, end=X2, weight=t(7)),
    case("addcmul", self=X2, tensor1=t(7), tensor2=X2, value=0.5),
    case("addcdiv", self=X2, tensor1=t(7), tensor2=t(2, 4, 6, 7, of="positive"), value=0.5),
    case("type_as", self=t(3, of="int"), other=t(2)),
]
CASES = [
    *CONVOLUTIONS, *NORMS, *ACTIVATIONS, *POOLING, *INTERPOLATION, *PADDING, *PRODUCTS, *SHAPES,
    *INDEXING, *CREATION, *REDUCTIONS, *ARITHMETIC,
]  # fmt: skip


# Operations of whose results PyTorch differentiates only the first.
FIRST = {"native_layer_norm", "_native_batch_norm_legit.no_stats", "log_sigmoid_forward"}
FIRST |= {"_native_batch_norm_legit_no_training"}
ROUGH = {"hardsigmoid": 1e-7}  # PyTorch's slope is 1/6 as float32 has it


def theirs_of(name: str) -> Any:
    operation, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, operation), overload or "default")


def made(arguments: Any, generator: np.random.Generator) -> Any:
    """Arrays in place of tensors to make."""
    if isinstance(arguments, T):
        return np.asanyarray(arguments.make(generator))
    if isinstance(arguments, dict):
        return {key: made(value, generator) for key, value in arguments.items()}
    if isinstance(arguments, list) and any(isinstance(one, T) for one in arguments):
        return [made(value, generator) for value in arguments]
    return arguments


def mapped(function: Any, arguments: Any) -> Any:
    """A function of each array."""
    if isinstance(arguments, np.ndarray | jax.Array):
        return function(arguments)
    if isinstance(arguments, dict):
        return {key: mapped(function, value) for key, value in arguments.items()}
    if isinstance(arguments, list):
        return [mapped(function, value) for value in arguments]
    return arguments


def is_smooth(array: Any) -> bool:
    """Whether there are derivatives with respect to it; PyTorch has none to statistics."""
    return np.issubdtype(array.dtype, np.floating) and not isinstance(array, Fixed)


def floats(arguments: dict[str, Any]) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    mapped(lambda a: found.append(a) if is_smooth(a) else None, arguments)
    return found


def with_floats(arguments: dict[str, Any], values: Any) -> dict[str, Any]:
    """The arguments with other floating-point arrays, in their order."""
    rest = iter(values)
    return mapped(lambda a: next(rest) if is_smooth(a) else a, arguments)


def held(array: Any, order: str) -> Value:
    """Held as it is, or with its second axis last."""
    rank = np.ndim(array)
    if order == "plain" or rank < 3:
        return Value.of(array)
    axes = (0, *range(2, rank), 1)
    return Value(jnp.transpose(array, axes), axes)


def results(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


class Ours:
    """The operation as a function of its floating-point arrays, to those of its results."""

    def __init__(self, name: str, arguments: dict[str, Any], order: str) -> None:
        self.name = name
        self.function = OPERATIONS[f"aten.{name if '.' in name else name + '.default'}"]
        self.arguments = {k: v for k, v in arguments.items() if k not in LEFT_OUT}
        self.order = order

    def all(self, *arrays: Any) -> list[Any]:
        given = with_floats(self.arguments, arrays)
        tensors = mapped(lambda a: held(a, self.order), given)
        return [one.plain for one in results(self.function(**tensors))]

    def __call__(self, *arrays: Any) -> list[Any]:
        found = [one for one in self.all(*arrays) if jnp.issubdtype(one.dtype, jnp.floating)]
        return found[:1] if self.name in FIRST else found


def close(ours: Any, theirs: Any, tolerance: float) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        scale = np.abs(np.asarray(other, float)).max(initial=1e-300)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


def derivatives(ours: Ours, inputs: Any, directions: Any, cotangents: Any) -> Any:
    """All results, the pull-back, and first and second derivative along the directions."""

    def pushed(*arrays: Any) -> Any:
        _, tangents = jax.jvp(ours, arrays, directions)
        return sum(jnp.vdot(c, one) for c, one in zip(cotangents, tangents, strict=True))

    _, pull = jax.vjp(ours, *inputs)
    return ours.all(*inputs), pull(cotangents), *jax.jvp(pushed, inputs, directions)


def their_derivatives(name: str, given: Any, directions: Any, cotangents: Any) -> Any:
    """The same of PyTorch; None for derivatives where there are none."""
    inputs = [torch.tensor(a, requires_grad=True) for a in floats(given)]
    found = results(theirs_of(name)(**mapped(torch.as_tensor, with_floats(given, inputs))))
    smooth = [one for one in found if one.is_floating_point()]
    smooth = smooth[:1] if name in FIRST else smooth
    if not any(one.requires_grad for one in smooth):
        return arrays_of(found), None, None, None
    pairs = zip(smooth, map(torch.as_tensor, cotangents), strict=True)
    options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    total = sum((one * cotangent).sum() for one, cotangent in pairs)
    first = known(torch.autograd.grad, total, inputs, create_graph=True, **options)
    if first is None:
        return arrays_of(found), None, None, None

    def along(gradients: Any) -> torch.Tensor:
        return sum(
            (g * torch.as_tensor(d)).sum() for g, d in zip(gradients, directions, strict=True)
        )

    slope = along(first)
    again = known(torch.autograd.grad, slope, inputs, **options) if slope.grad_fn else None
    second = None if again is None else along(again)
    return arrays_of(found), arrays_of(first), *arrays_of([slope, second])


def known(function: Any, *arguments: Any, **options: Any) -> Any:
    """Its result, or None where PyTorch has no derivative of an operation."""
    try:
        return function(*arguments, **options)
    except RuntimeError as error:
        assert "is not implemented" in str(error)  # noqa: PT017
        return None


def arrays_of(tensors: Any) -> list[Any]:
    return [None if one is None else one.detach().numpy() for one in tensors]


@pytest.fixture
def double() -> Iterator[None]:
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with jax.enable_x64(True):
        yield
    torch.set_default_dtype(previous)


def named(value: Any) -> str | None:
    return value if isinstance(value, str) else ""


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("name", "arguments"), CASES, ids=named)
def test_an_operation_equals_pytorchs(name: str, arguments: dict[str, Any]) -> None:
    generator = np.random.default_rng(5)
    given = made(arguments, generator)
    inputs = tuple(floats(given))
    ours = Ours(name, given, "channels-last")
    directions = tuple(generator.standard_normal(a.shape) for a in inputs)
    shapes = [one.shape for one in jax.eval_shape(ours, *inputs)]
    cotangents = [generator.standard_normal(shape) for shape in shapes]
    tolerance = ROUGH.get(name, TOLERANCE)
    theirs = their_derivatives(name, given, directions, cotangents)
    if theirs[1] is None:
        found = jax.jit(ours.all)(*inputs)
    else:
        found, pulled, slope, second = jax.jit(partial(derivatives, ours))(
            inputs, directions, cotangents
        )
        close(pulled, theirs[1], tolerance)
        scale = sum(np.abs(g * d).sum() for g, d in zip(theirs[1], directions, strict=True))
        np.testing.assert_allclose(slope, theirs[2], rtol=0, atol=tolerance * scale)
        if theirs[3] is not None:
            scale = max(abs(theirs[3]), scale)
            np.testing.assert_allclose(second, theirs[3], rtol=0, atol=SECOND * scale)
    close(found, theirs[0], TOLERANCE)


@pytest.mark.thorough
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("name", "arguments"), CASES, ids=named)
def test_the_order_in_which_axes_are_held_does_not_matter(name, arguments) -> None:
    given = made(arguments, np.random.default_rng(5))
    plain, moved = (Ours(name, given, order) for order in ("plain", "channels-last"))
    close(moved.all(*floats(given)), plain.all(*floats(given)), TOLERANCE)


@pytest.mark.parametrize("name", OPERATIONS)
def test_arguments_are_those_of_pytorchs_schema(name: str) -> None:
    if not name.startswith("aten."):
        return
    operation, _, overload = name.removeprefix("aten.").rpartition(".")
    schema = getattr(getattr(torch.ops.aten, operation), overload)._schema
    ours = inspect.signature(OPERATIONS[name]).parameters
    wanted = [a for a in schema.arguments if a.name not in LEFT_OUT]
    missing = [a.name for a in wanted if a.name not in ours]
    assert missing == []
    for argument in wanted:
        if argument.has_default_value() and argument.default_value is not None:
            assert ours[argument.name].default is not inspect.Parameter.empty, argument.name


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        case("dropout", input=X2, p=0.5, train=True),
        case("scaled_dot_product_attention", query=X2, key=X2, value=X2, dropout_p=0.1),
        case("batch_norm", input=X3, weight=None, bias=None, **STATISTICS, training=True, eps=1e-5),
        case("index.Tensor", self=X2, indices=[t(2, of="bool")]),
    ],
)
def test_what_depends_on_chance_or_on_other_examples_is_refused(name, arguments) -> None:
    given = made(arguments, np.random.default_rng(5))
    with pytest.raises(InputError):
        Ours(name, given, "plain")(*floats(given))
