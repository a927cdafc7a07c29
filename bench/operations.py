"""Operations and bytes of a network's steps, forward and pulled back, counted by hand.

Products (of convolutions, linear layers and attention) count as they are written: every tap at
every position, those on the padding too. Steps on single numbers (norms, activations, sums) count
apart, as matrix units do not do them. Traffic is the least: each step reads its inputs and writes
its outputs once, activations and biases ride along with their neighbours, and attention's scores
stay on the chip.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from jaxsal.types import Triple

POINT: Triple = (1, 1, 1)
LEAKY = 3, 2  # comparison, product, choice; back, choice and product


class Kind(StrEnum):
    """What a step does."""

    CONVOLUTION = "convolutions"
    LINEAR = "linear layers"
    ATTENTION = "attention"
    NORM = "norms"
    ACTIVATION = "activations"
    SUM = "sums"


class Effort(NamedTuple):
    """What is to be done.

    Attributes:
        flops: of products, two per multiply-add.
        steps: operations on single numbers.
        values: numbers read and written, besides weights.
        weights: numbers read once for a whole batch.
    """

    flops: float = 0
    steps: float = 0
    values: float = 0
    weights: float = 0

    def times(self, count: float) -> Effort:
        """As often as that, on average."""
        return Effort(*(count * value for value in self))

    def bytes(self, width: int, batch: int = 1) -> float:
        """Bytes moved, of numbers of this width, with weights shared by a batch."""
        return width * (self.values + self.weights / batch)


class Operation(NamedTuple):
    """A step on the way from a window to its logits.

    Attributes:
        name: of its output, as jaxsal calls it.
        kind: what it does.
        inputs: numbers that it takes, besides weights.
        outputs: numbers that it gives.
        weights: numbers of its kernel and bias.
        forward: what it takes.
        back: what it takes to pull a cotangent of its outputs back to its inputs.
    """

    name: str
    kind: Kind
    inputs: int
    outputs: int
    weights: int
    forward: Effort
    back: Effort


def total(works: Iterable[Effort]) -> Effort:
    """All of it together."""
    return Effort(*map(sum, zip(Effort(), *works, strict=True)))


def convolution(
    name: str,
    size: Triple,
    channels: tuple[int, int],
    kernel: Triple,
    stride: Triple = POINT,
    *,
    bias: bool = False,
) -> Operation:
    """A convolution of a grid of this size, with these channels in and out."""
    before = math.prod(size)
    after = before // math.prod(stride)
    taps = math.prod(kernel)
    return _product(name, Kind.CONVOLUTION, (before, after), channels, taps, after, bias)


def transposed_convolution(
    name: str,
    size: Triple,
    channels: tuple[int, int],
    kernel: Triple,
    stride: Triple,
    *,
    bias: bool = False,
) -> Operation:
    """One that up-samples a grid of this size; its taps are those of each input position."""
    before = math.prod(size)
    after = before * math.prod(stride)
    taps = math.prod(kernel)
    return _product(name, Kind.CONVOLUTION, (before, after), channels, taps, before, bias)


def linear(name: str, positions: int, channels: tuple[int, int], *, bias: bool = True) -> Operation:
    """A linear layer at each position."""
    grids = positions, positions
    return _product(name, Kind.LINEAR, grids, channels, 1, positions, bias)


def _product(
    name: str,
    kind: Kind,
    grids: tuple[int, int],
    channels: tuple[int, int],
    taps: int,
    positions: int,
    bias: bool,
) -> Operation:
    inputs, outputs = (n * c for n, c in zip(grids, channels, strict=True))
    kernel = taps * math.prod(channels)
    flops, values = 2 * positions * kernel, inputs + outputs
    weights = kernel + bias * channels[1]
    forward = Effort(flops, bias * outputs, values, weights)
    return Operation(
        name, kind, inputs, outputs, weights, forward, Effort(flops, 0, values, kernel)
    )


def attention(name: str, windows: int, positions: int, channels: int, heads: int) -> Operation:
    """Scores, softmax and weighted values within windows; back, each product takes two.

    On single numbers: the queries' scaling; of the scores position bias, maximum, difference,
    exponential, sum and quotient; back, of the scores product, sum, difference and product.
    """
    values = windows * positions * channels
    scores = windows * heads * positions**2
    flops = 2 * (2 * windows * positions**2 * channels)
    forward = Effort(flops, values + 6 * scores, 4 * values)
    back = Effort(2 * flops, values + 4 * scores, 7 * values)
    return Operation(name, Kind.ATTENTION, 3 * values, values, 0, forward, back)


def norm(name: str, values: int, channels: int = 0) -> Operation:
    """Normalisation by means over some of these values; channels: with a scale and a bias each.

    Forward: mean, centring, squares, their mean, scaling; a product and a sum. Back: a product;
    scaling; the variance's share, product, sum, product and sum; the mean's, sum and difference.
    """
    affine = channels > 0
    forward = Effort(0, (5 + 2 * affine) * values, 2 * values, 2 * channels)
    back = Effort(0, (7 + affine) * values, 3 * values, channels)
    return Operation(name, Kind.NORM, values, values, 2 * channels, forward, back)


def activation(name: str, values: int, steps: tuple[int, int], weights: int = 0) -> Operation:
    """A function of each number, of so many steps forward and back; back, its input is read."""
    forward = Effort(0, steps[0] * values, 0, weights)
    back = Effort(0, steps[1] * values, values, weights)
    return Operation(name, Kind.ACTIVATION, values, values, weights, forward, back)


def addition(name: str, values: int) -> Operation:
    """The sum of two paths, of which one is read besides; back, their cotangents are added."""
    work = Effort(0, values, values)
    return Operation(name, Kind.SUM, 2 * values, values, 0, work, work)
