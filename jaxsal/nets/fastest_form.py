"""Which form of a convolution is the fastest on a CPU: rules, chosen by measurement.

Beside each rule stand milliseconds on one core, forward and back, of the forms that were compared;
`jaxsal.nets.convolution` says what each form is. Elsewhere XLA's own convolution is the fastest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from jaxsal.current_device import current_device
from jaxsal.nets.tracing import is_traced
from jaxsal.types import Triple

Form = Literal[
    "columns", "separable", "rows", "blocks", "planes", "phases", "stacked", "winograd", "xla"
]

_Array = jax.Array | jax.ShapeDtypeStruct

_FEW_CHANNELS = 8  # a matrix product over fewer rows than this is bound by memory traffic
_FEW_STACKED = 24  # channels of a plane and those beside it, that are fastest convolved at once
_FEW_STACKED_OF_MANY_TAPS = 80
_MANY_STRIDED = 32  # input channels from which one 2D convolution per phase is the fastest
_MOST_PHASES = 8
_MOST_TAPS_OF_PHASES = 125
_MANY_POSITIONS = 512
_POSITIONS_OF_A_BOX = 8000  # local pull-backs' boxes have fewer
_MANY_TAPS = 27  # more than this, each an operation of its own, compile and run slowly
_COLUMN_BYTES = 16 * 2**20  # larger column buffers per example fall out of every cache


@dataclass(frozen=True)
class _Sizes:
    """What the choice depends on.

    Attributes:
        image: size of the input, (X, Y, Z).
        kernel: its size along each axis.
        stride: the step along each axis.
        channels: of the input.
        is_float32: whether the input is.
        transposed: whether the transpose itself is asked for.
    """

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: Triple
    channels: int
    is_float32: bool
    transposed: bool

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def step(self) -> int:
        return math.prod(self.stride)

    @property
    def positions(self) -> int:
        return math.prod(n // s for n, s in zip(self.image, self.stride, strict=True))

    @property
    def is_patch(self) -> bool:
        """Whether the kernel is of the size of its stride."""
        return self.kernel == self.stride

    @property
    def fits(self) -> bool:
        """Whether a copy of the input per tap stays in a cache."""
        return 4 * self.positions * self.channels * self.taps <= _COLUMN_BYTES

    @property
    def suits_2d(self) -> bool:
        """Whether 2D convolutions may be fast.

        Over less than a kernel they are not: kernel of 5: 4^3 64 to 64 channels "rows" 0.4, 0.5,
        "planes" 5, 9; 5^3 0.7, 0.9; 0.6, 0.6.
        """
        covered = all(n >= k for n, k in zip(self.image, self.kernel, strict=True))
        return covered and self.taps > self.step and self.is_float32

    @property
    def is_large(self) -> bool:
        """Whether 2D convolutions of few planes at a time are worth it.

        On small boxes many operations, and sums of large kernels, cost more than they save: 3^3
        eight at a time, 256 to 512 channels, "rows" 12 ms, in a loop 14, "winograd" 16 and 34.
        """
        return self.suits_2d and self.positions >= _MANY_POSITIONS

    @property
    def is_box_of_transpose(self) -> bool:
        """Whether the transpose is asked for, of several small boxes at a time.

        With "planes" for these, local pull-backs of the paper's U-Net take 1.45 times as long.
        """
        return self.transposed and self.positions < _POSITIONS_OF_A_BOX


def _has_few_stacked_channels(of: _Sizes) -> bool:
    """64^3 2 to 16 channels "columns" 286, 70, "winograd" 38, 42, "stacked" 25, 25.

    8 to 16 "winograd" 32, 42, "stacked" 19, 25; 12 to 12 57, 57; 103, 55; eight of 16^3 8 to 8
    "columns" 25, 18, "winograd" 2, 2, "stacked" 0.8, 0.9. With a stride of 2: 96^3 2 to 32
    "columns" 65, 17, "planes" 55, 19, "stacked" 9, 10. Kernel of 5: 32^3 16 to 16 "planes" 35, 38,
    "stacked" 24, 19; 32 to 32 98 and 144 forward.
    """
    few = _FEW_STACKED if of.taps <= _MANY_TAPS else _FEW_STACKED_OF_MANY_TAPS
    return of.is_large and of.channels * of.kernel[0] * math.prod(of.stride[1:]) <= few


def _suits_winograd(of: _Sizes) -> bool:
    """64^3 16 to 16 channels "rows" 206, 284, "winograd" 82, 45.

    Eight of 8^3 64 to 64 "columns" 31, 9, "rows" 8, 7, "winograd" 2, 2.
    """
    return of.is_large and of.kernel[0] == 3 and of.step == 1


def _is_strided_of_many(of: _Sizes) -> bool:
    """Stride of 2: 48^3 32 to 64 channels "columns" 72, 50, "planes" 34, 31, "phases" 25, 23.

    24^3 64 to 128 12, 10; 14, 15; 9, 8; eight of 16^3 32 to 64 9, 8; 10, 9; 7, 5. Kernel of 5: 48^3
    64 to 64 "planes" 233, 244, "phases" 202, 185; of 7: 32 to 32 127, 151; 135, 136. With fewer
    channels: 64^3 16 to 32 "planes" 26, 24, "phases" 35, 17.
    """
    strided = of.is_large and 1 < of.step <= _MOST_PHASES and not of.is_box_of_transpose
    suits = of.kernel[0] > 1 and of.taps <= _MOST_TAPS_OF_PHASES
    return strided and suits and of.channels >= _MANY_STRIDED


def _is_strided(of: _Sizes) -> bool:
    """Of fewer channels; stride of 2: 64^3 16 to 32 "columns" 80, 58, "planes" 26, 24."""
    return of.is_large and of.step > 1 and not of.fits and not of.is_box_of_transpose


def _is_flat(of: _Sizes) -> bool:
    """A kernel of 1 x 3 x 3: 64^3 16 to 16 "columns" 328, 179, "rows" 245, 215, "planes" 25, 24.

    With a stride of 2, 16 to 32: 84, 44; 55, 41; 16, 10.
    """
    return of.is_large and of.kernel[0] == 1 and not (of.transposed and of.step > 1)


def _has_many_taps(of: _Sizes) -> bool:
    """Kernel of 5: 32^3 16 to 16 channels "columns" 605, 337, "rows" 129, 229, "planes" 34, 35.

    8^3 64 to 64 8, 4; 5, 5; 2, 2. Kernel of 7, stride of 2: 64^3 2 to 16 "rows" 118, 112, "planes"
    19, 33.
    """
    return of.taps > _MANY_TAPS


_RULES: tuple[tuple[Form, Callable[[_Sizes], bool]], ...] = (
    # 64^3 16 to 32 channels, kernel of 2, "columns" 9.9, 2.3, "blocks" 6.9, 17, "rows" 6.1, 2.2;
    # 96^3 2 to 768, kernel of 16, "blocks" 33, 28.
    ("blocks", lambda of: of.is_patch and _has_many_taps(of)),
    ("rows", lambda of: of.is_patch),
    ("stacked", _has_few_stacked_channels),
    ("winograd", _suits_winograd),
    ("phases", _is_strided_of_many),
    ("planes", _is_strided),
    ("planes", _is_flat),
    ("planes", lambda of: _has_many_taps(of) and of.suits_2d),
    ("rows", _has_many_taps),
    ("columns", lambda of: of.channels <= _FEW_CHANNELS or of.fits),
)
"""The first that holds is taken; if none does, "rows"."""


def fastest_form(x: _Array, kernel: jax.Array, stride: Triple, *, transposed: bool = False) -> Form:
    """The form of a convolution, or of its transpose, that is fastest in both directions.

    Args:
        x: (B, X, Y, Z, C), what the convolution takes.
        kernel: (kx, ky, kz, C, K).
        stride: step per spatial axis.
        transposed: whether the transpose is to be computed.
    """
    if is_traced() or current_device().platform != "cpu":
        return "xla"
    sizes = _Sizes(
        x.shape[1:4],
        kernel.shape[:3],
        stride,
        kernel.shape[3],
        x.dtype == jnp.float32,
        transposed,
    )
    return next((form for form, holds in _RULES if holds(sizes)), "rows")


def forward_form(x: _Array, kernel: jax.Array, stride: Triple) -> Form:
    """The fastest form of a convolution that will not be differentiated."""
    form = fastest_form(x, kernel, stride)
    return "separable" if form == "columns" else form
