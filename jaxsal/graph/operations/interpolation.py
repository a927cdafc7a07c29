"""Interpolation of one to three spatial axes, the last ones of a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp

from jaxsal.graph.operations.table import operation
from jaxsal.graph.values import Value
from jaxsal.nets.interpolation import (
    Weights,
    cubic,
    cubic_aligned,
    interpolated,
    linear,
    linear_aligned,
    nearest,
    nearest_exact,
)


def _resampled(
    value: Value, sizes: Sequence[int], scales: Sequence[float | None], of: Weights
) -> Value:
    array = jnp.asarray(value.array)
    axes = range(-len(sizes), 0)
    for axis, count, scale in reversed(list(zip(axes, sizes, scales, strict=True))):
        array = interpolated(array, value.held(axis), of(value.shape[axis], count, scale))
    return value.like(array)


def _asked(
    value: Value, axes: int, output_size: Sequence[int] | None, factors: Sequence[float] | None
) -> tuple[list[int], list[float | None]]:
    """The sizes and scale factors that either of the two stands for."""
    if output_size is not None:
        return list(output_size), [None] * axes
    assert factors is not None
    sizes = [math.floor(n * f) for n, f in zip(value.shape[-axes:], factors, strict=True)]
    return sizes, list(factors)


def _enter(name: str, axes: int, of: Weights) -> None:
    """An operation without the argument ``align_corners``."""

    @operation(f"{name}.vec")
    def from_input(
        input: Value, output_size: Sequence[int] | None, scale_factors: Sequence[float] | None
    ) -> Value:
        return _resampled(input, *_asked(input, axes, output_size, scale_factors), of)

    @operation(name)
    def from_self(
        self: Value,
        output_size: Sequence[int],
        scales: float | None = None,
        scales_d: float | None = None,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Value:
        given = [scales] if axes == 1 else [scales_d, scales_h, scales_w][-axes:]
        return _resampled(self, output_size, given, of)


def _enter_aligned(name: str, axes: int, apart: Weights, aligned: Weights) -> None:
    """An operation with the argument ``align_corners``."""

    @operation(f"{name}.vec")
    def from_input(
        input: Value,
        output_size: Sequence[int] | None,
        align_corners: bool,
        scale_factors: Sequence[float] | None,
    ) -> Value:
        of = aligned if align_corners else apart
        return _resampled(input, *_asked(input, axes, output_size, scale_factors), of)

    @operation(name)
    def from_self(
        self: Value,
        output_size: Sequence[int],
        align_corners: bool,
        scales: float | None = None,
        scales_d: float | None = None,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Value:
        given = [scales] if axes == 1 else [scales_d, scales_h, scales_w][-axes:]
        return _resampled(self, output_size, given, aligned if align_corners else apart)


for _axes in (1, 2, 3):
    _enter(f"upsample_nearest{_axes}d", _axes, nearest)
    _enter(f"_upsample_nearest_exact{_axes}d", _axes, nearest_exact)
_enter_aligned("upsample_linear1d", 1, linear, linear_aligned)
_enter_aligned("upsample_bilinear2d", 2, linear, linear_aligned)
_enter_aligned("upsample_trilinear3d", 3, linear, linear_aligned)
_enter_aligned("upsample_bicubic2d", 2, cubic, cubic_aligned)
