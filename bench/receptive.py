"""Which cells of each layer a single voxel's gradient reaches, and what its pull-back costs.

Derived from the architecture alone, for MONAI's ``UNet`` without residual units: independent of
jaxsal's own receptive fields.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxsal.errors import InputError
from jaxsal.nets.registry import NetworkConfig
from jaxsal.nets.unet_config import UNetConfig
from jaxsal.types import Triple

Range = tuple[int, int]  # first and last cell along an axis


class Layer(NamedTuple):
    """A convolution on the way from the image to the logits.

    Attributes:
        name: as jaxsal calls it.
        inputs: channels in.
        outputs: channels out.
        kernel: size along an axis.
        stride: along that axis.
        transposed: whether it up-samples.
    """

    name: str
    inputs: int
    outputs: int
    kernel: Triple
    stride: Triple
    transposed: bool


class Cost(NamedTuple):
    """What the pull-back of one voxel through one layer takes, on average over voxels.

    Attributes:
        name: of the layer.
        cells: of its input that the gradient reaches.
        macs: multiply-adds.
        values: numbers read and written: gradients in and out and the kept activation.
        weights: numbers of its kernel, read once per batch.
    """

    name: str
    cells: float
    macs: float
    values: float
    weights: int


def layers(config: NetworkConfig) -> list[Layer]:
    """The convolutions in the order of the computation."""
    norm = config.norm[0] if isinstance(config, UNetConfig) and config.norm else "batch"
    if not isinstance(config, UNetConfig) or config.num_res_units or norm != "batch":
        raise InputError("counted for a UNet without residual units and with batch norm only")
    widths = (config.in_channels, *config.channels)
    strides = (*config.strides, (1, 1, 1))
    found = [
        Layer(
            f"encoder.{i}" if i < config.levels else "bottleneck",
            widths[i],
            widths[i + 1],
            config.kernel_size,
            strides[i],
            False,
        )
        for i in range(config.levels + 1)
    ]
    for i in reversed(range(config.levels)):
        below = config.channels[min(i + 1, config.levels)] if i == config.levels - 1 else None
        inputs = config.channels[i] + (below if below is not None else config.channels[i])
        outputs = config.out_channels if i == 0 else config.channels[i - 1]
        kernel = config.up_kernel_size
        found.append(Layer(f"decoder.{i}", inputs, outputs, kernel, config.strides[i], True))
    return found


def reached(config: NetworkConfig, voxel: int, axis: int) -> dict[str, tuple[Range, Range]]:
    """(input, output) cells of every layer that a voxel's logit depends on, along an axis."""
    found: dict[str, tuple[Range, Range]] = {}
    cells = (voxel, voxel)
    skips = {}
    *encoder, bottleneck = [layer for layer in layers(config) if not layer.transposed]
    for layer in reversed([layer for layer in layers(config) if layer.transposed]):
        below = _input_range(layer, cells, axis)
        found[layer.name] = below, cells
        skips[layer.name.replace("decoder", "encoder")] = cells = below
    for layer in (bottleneck, *reversed(encoder)):
        skip = skips.get(layer.name, cells)
        cells = min(cells[0], skip[0]), max(cells[1], skip[1])
        below = _input_range(layer, cells, axis)
        found[layer.name] = below, cells
        cells = below
    return found


def exact_crop(
    config: NetworkConfig, voxel: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Start and size of the smallest aligned window on which a voxel's logit is the volume's.

    Args:
        config: the architecture.
        voxel: (3,).
        shape: of the volume, multiples of the network's stride.
    """
    starts, sizes = [], []
    for axis, (position, size) in enumerate(zip(voxel.tolist(), shape, strict=True)):
        divisor = config.divisor[axis]
        first, last = reached(config, position, axis)["encoder.0"][0]
        start = max(first // divisor * divisor, 0)
        stop = min((last // divisor + 1) * divisor, size)
        starts.append(start)
        sizes.append(stop - start)
    return tuple(starts), tuple(sizes)


def pull_back_costs(config: NetworkConfig) -> list[Cost]:
    """The pull-back of one voxel, layer by layer, on average over a voxel's position.

    Boxes are products of ranges, and positions along the axes independent of each other, so that
    the average of a product over axes is the product of averages.
    """
    by_axis = [
        [reached(config, voxel, axis) for voxel in _interior(config, axis)] for axis in range(3)
    ]
    return [_layer_cost(layer, by_axis) for layer in reversed(layers(config))]


def _layer_cost(layer: Layer, by_axis: list[list[dict[str, tuple[Range, Range]]]]) -> Cost:
    cells_in = cells_out = pairs = 1.0
    for axis, boxes in enumerate(by_axis):
        ranges = [box[layer.name] for box in boxes]
        cells_in *= float(np.mean([b - a + 1 for (a, b), _ in ranges]))
        cells_out *= float(np.mean([d - c + 1 for _, (c, d) in ranges]))
        pairs *= float(np.mean([sum(1 for _ in _pairs(layer, *pair, axis)) for pair in ranges]))
    values = cells_out * layer.outputs + 2 * cells_in * layer.inputs
    weights = int(np.prod(layer.kernel)) * layer.inputs * layer.outputs
    macs = pairs * layer.inputs * layer.outputs
    return Cost(layer.name, cells_in, macs, values, weights)


def _pairs(layer: Layer, inputs: Range, outputs: Range, axis: int) -> Iterator[tuple[int, int]]:
    """The (input, output) cells along an axis that a tap of the kernel joins."""
    coarse, fine = (inputs, outputs) if layer.transposed else (outputs, inputs)
    padding = (layer.kernel[axis] - 1) // 2
    taps = range(layer.kernel[axis])
    for c, tap in itertools.product(range(coarse[0], coarse[1] + 1), taps):
        f = c * layer.stride[axis] - padding + tap
        if fine[0] <= f <= fine[1]:
            yield (c, f) if layer.transposed else (f, c)


def _input_range(layer: Layer, outputs: Range, axis: int) -> Range:
    kernel, stride = layer.kernel[axis], layer.stride[axis]
    padding = (kernel - 1) // 2
    first, last = outputs
    if layer.transposed:  # output o takes input i where o = i stride - padding + tap
        return -((kernel - 1 - padding - first) // stride), (last + padding) // stride
    return first * stride - padding, last * stride - padding + kernel - 1


def _interior(config: NetworkConfig, axis: int) -> range:
    """One period of positions, far from the border."""
    period = config.divisor[axis]
    return range(64 * period, 65 * period)
