"""The steps of the paper's networks on a window, from their architectures alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import Any

from bench.operations import (
    LEAKY,
    POINT,
    Operation,
    activation,
    addition,
    attention,
    convolution,
    linear,
    norm,
    transposed_convolution,
)
from bench.receptive import layers
from jaxsal.errors import InputError
from jaxsal.nets.attention import fit_window
from jaxsal.nets.dynunet_config import DynUNetConfig
from jaxsal.nets.registry import NetworkConfig
from jaxsal.nets.settings import Setting
from jaxsal.nets.swin_unetr_config import STAGES, SwinUNETRConfig
from jaxsal.nets.unet_config import UNetConfig
from jaxsal.types import Triple

_CUBE: Triple = (3, 3, 3)
_UP: Triple = (2, 2, 2)
_GELU = 5, 1  # scaling, error function, sum, product, halving; back, a product with what was kept


def operations_of(config: NetworkConfig, window: Triple) -> list[Operation]:
    """The steps in the order of the computation; batch norms count as folded into convolutions.

    Raises:
        InputError: the architecture is of another kind than the paper's.
    """
    known: dict[type, Callable[[Any, Triple], Iterator[Operation]]] = {
        UNetConfig: _unet,
        DynUNetConfig: _dynunet,
        SwinUNETRConfig: _swin_unetr,
    }
    if type(config) not in known:
        raise InputError(f"operations are not counted for networks of kind {config.kind!r}")
    return list(known[type(config)](config, window))


def _divided(size: Triple, stride: Triple) -> Triple:
    x, y, z = (n // s for n, s in zip(size, stride, strict=True))
    return x, y, z


def _multiplied(size: Triple, stride: Triple) -> Triple:
    x, y, z = (n * s for n, s in zip(size, stride, strict=True))
    return x, y, z


def _halved(size: Triple, times: int) -> Triple:
    return _divided(size, (2**times,) * 3)


def _unet(config: UNetConfig, window: Triple) -> Iterator[Operation]:
    size = window
    for layer in layers(config):
        make = transposed_convolution if layer.transposed else convolution
        block = f"{layer.name}.upsample" if layer.transposed else layer.name
        found = make(
            f"{block}.conv",
            size,
            (layer.inputs, layer.outputs),
            layer.kernel,
            layer.stride,
            bias=config.bias,
        )
        yield found
        size = (_multiplied if layer.transposed else _divided)(size, layer.stride)
        if layer.name != "decoder.0":
            yield activation(f"{block}.activation", found.outputs, LEAKY, weights=1)


def _dynunet(config: DynUNetConfig, window: Triple) -> Iterator[Operation]:
    if config.norm_name is not None and config.norm_name[0] == "batch":
        raise InputError("operations of a DynUNet are not counted with batch norm")
    sizes = list(accumulate(config.strides, _divided, initial=window))
    widths = (config.in_channels, *config.filters)
    for level, kernel in enumerate(config.kernel_size):
        name = f"encoder.{level}" if level < config.levels else "bottleneck"
        channels, stride = widths[level : level + 2], config.strides[level]
        bypassed = config.res_block and (channels[0] != channels[1] or stride != POINT)
        yield from _double_convolution(
            name,
            sizes[level],
            (channels[0], channels[1]),
            kernel,
            stride,
            norm_name=config.norm_name,
            residual=config.res_block,
            shortcut=bypassed,
        )
    for level in reversed(range(config.levels)):
        outputs, inputs = config.filters[level : level + 2]
        up, kernel = config.strides[level + 1], config.kernel_size[level + 1]
        below = sizes[level + 2]
        yield transposed_convolution(
            f"decoder.{level}.upsample", below, (inputs, outputs), up, up, bias=config.trans_bias
        )
        yield from _double_convolution(
            f"decoder.{level}.refine",
            sizes[level + 1],
            (2 * outputs, outputs),
            kernel,
            norm_name=config.norm_name,
        )
    yield convolution("head", window, (config.filters[0], config.out_channels), POINT, bias=True)


def _double_convolution(
    name: str,
    size: Triple,
    channels: tuple[int, int],
    kernel: Triple,
    stride: Triple = POINT,
    *,
    norm_name: Setting | None,
    residual: bool = False,
    shortcut: bool = False,
) -> Iterator[Operation]:
    """Two convolutions with norms and leaky ReLUs; residual: and a shortcut around them."""
    inputs, outputs = channels
    after = _divided(size, stride)
    values = math.prod(after) * outputs
    yield from _unit(f"{name}.units.0", size, channels, kernel, stride, norm_name)
    yield activation(f"{name}.units.0.activation", values, LEAKY)
    yield from _unit(f"{name}.units.1", after, (outputs, outputs), kernel, POINT, norm_name)
    if shortcut:
        yield from _unit(f"{name}.shortcut", size, (inputs, outputs), POINT, stride, norm_name)
    if residual:
        yield addition(f"{name}.sum", values)
    yield activation(name, values, LEAKY)


def _unit(
    name: str,
    size: Triple,
    channels: tuple[int, int],
    kernel: Triple,
    stride: Triple,
    norm_name: Setting | None,
) -> Iterator[Operation]:
    """A convolution and its norm."""
    found = convolution(f"{name}.conv", size, channels, kernel, stride)
    yield found
    if norm_name is not None:
        affine = dict(norm_name[1]).get("affine", norm_name[0] == "group")
        yield norm(f"{name}.norm", found.outputs, channels[1] if affine else 0)


def _swin_unetr(config: SwinUNETRConfig, window: Triple) -> Iterator[Operation]:
    if config.use_v2:
        raise InputError("operations of a SwinUNETR are not counted with use_v2")
    width = config.feature_size

    def feature(index: int) -> Iterator[Operation]:
        if config.normalize:
            values = math.prod(_halved(window, index + 1)) * width * 2**index
            yield norm(f"features.{index}", values)

    yield convolution(
        "embedding.projection", window, (config.in_channels, width), _UP, _UP, bias=True
    )
    if config.patch_norm:
        yield norm("embedding", math.prod(_halved(window, 1)) * width, width)
    yield from feature(0)
    for stage in range(STAGES):
        yield from _stage(config, stage, _halved(window, stage + 1))
        yield from feature(stage + 1)
    yield from _convolutions(config, window)


def _stage(config: SwinUNETRConfig, stage: int, size: Triple) -> Iterator[Operation]:
    """Transformer blocks on a grid of this size, and the merging that halves it."""
    channels, positions = config.width(stage), math.prod(size)
    name = f"stages.{stage}"
    for block in range(config.depths[stage]):
        yield from _block(config, stage, size, f"{name}.blocks.{block}")
    merged = positions // 8
    yield norm(f"{name}.merging.norm", positions * channels, 8 * channels)
    yield linear(f"{name}.merging", merged, (8 * channels, 2 * channels), bias=False)


def _block(config: SwinUNETRConfig, stage: int, size: Triple, name: str) -> Iterator[Operation]:
    channels, positions = config.width(stage), math.prod(size)
    window, _ = fit_window(size, config.window_size, shifted=False)
    counts = [-(-n // w) for n, w in zip(size, window, strict=True)]  # padded up to whole windows
    within = math.prod(window)
    padded = math.prod(counts) * within
    hidden, heads = config.hidden(stage), config.num_heads[stage]
    yield norm(f"{name}.attention_norm", positions * channels, channels)
    bias = config.qkv_bias
    yield linear(f"{name}.attention.qkv", padded, (channels, 3 * channels), bias=bias)
    yield attention(f"{name}.attention.scores", math.prod(counts), within, channels, heads)
    yield linear(f"{name}.attention.projection", positions, (channels, channels))
    yield addition(f"{name}.attended", positions * channels)
    yield norm(f"{name}.perceptron_norm", positions * channels, channels)
    yield linear(f"{name}.perceptron.hidden", positions, (channels, hidden))
    yield activation(f"{name}.perceptron.activation", positions * hidden, _GELU)
    yield linear(f"{name}.perceptron.output", positions, (hidden, channels))
    yield addition(name, positions * channels)


def _convolutions(config: SwinUNETRConfig, window: Triple) -> Iterator[Operation]:
    """The convolutional blocks beside and above the transformer."""
    width, norm_name = config.feature_size, config.norm_name

    def block(name: str, level: int, inputs: int, outputs: int) -> Iterator[Operation]:
        return _double_convolution(
            name,
            _halved(window, level),
            (inputs, outputs),
            _CUBE,
            norm_name=norm_name,
            residual=True,
            shortcut=inputs != outputs,
        )

    yield from block("skips.0", 0, config.in_channels, width)
    for level in (1, 2, 3):
        channels = width * 2 ** (level - 1)
        yield from block(f"skips.{level}", level, channels, channels)
    yield from block("bottleneck", 5, 16 * width, 16 * width)
    widths = (width, width, 2 * width, 4 * width, 8 * width, 16 * width)
    for level, (here, below) in reversed(list(enumerate(pairwise(widths)))):
        coarse = _halved(window, level + 1)
        yield transposed_convolution(f"decoder.{level}.upsample", coarse, (below, here), _UP, _UP)
        yield from block(f"decoder.{level}.refine", level, 2 * here, here)
    yield convolution("head", window, (width, config.out_channels), POINT, bias=True)
