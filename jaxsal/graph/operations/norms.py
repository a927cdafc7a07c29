"""Normalisation, as PyTorch does it at inference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from jaxsal.errors import InputError
from jaxsal.graph.operations.table import operation
from jaxsal.graph.values import Axes, Value, elementwise
from jaxsal.nets.standardise import standardise

Statistics = tuple[Value, Value, Value]  # what is normalised, the mean, 1 / standard deviation

_OF_BATCH = (
    "batch norm measures its mean and variance in the batch itself, so that examples depend on "
    "each other: put the network into evaluation mode, `module.eval()`, before it is exported"
)


@operation("batch_norm")
def batch_norm(
    input: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    training: bool,
    eps: float,
) -> Value:
    """Each channel by the mean and variance that were measured in training.

    Raises:
        InputError: it measures them in the batch itself.
    """
    if training or running_mean is None or running_var is None:
        raise InputError(f"{_OF_BATCH}, and let its batch norms track running statistics")
    return _by_statistics(input, weight, bias, running_mean, running_var, eps)


@operation("_native_batch_norm_legit_no_training")
def native_batch_norm(
    input: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value,
    running_var: Value,
    eps: float,
) -> Statistics:
    """As `batch_norm`, and two that are empty."""
    empty = Value.of(jnp.zeros(0, input.dtype))
    return _by_statistics(input, weight, bias, running_mean, running_var, eps), empty, empty


@operation("_native_batch_norm_legit.no_stats")
def native_batch_norm_of_batch(
    input: Value, weight: Value | None, bias: Value | None, training: bool, eps: float
) -> Statistics:
    """Each channel by its own mean and variance: what becomes of an instance norm.

    Raises:
        InputError: of more than one example.
    """
    if input.shape[0] != 1:
        raise InputError(_OF_BATCH)
    axes = input.all_held([0, *range(2, input.rank)])
    y = _scaled(
        _standardised(input, axes, eps), _per_channel(weight, input), _per_channel(bias, input)
    )
    mean, inverse = _measured(input, axes, eps)
    return y, mean.viewed([-1]), inverse.viewed([-1])


@operation("instance_norm")
def instance_norm(
    input: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    use_input_stats: bool,
    eps: float,
) -> Value:
    """Each channel of each example by its own mean and variance."""
    if not use_input_stats and running_mean is not None and running_var is not None:
        return _by_statistics(input, weight, bias, running_mean, running_var, eps)
    y = _standardised(input, input.all_held(range(2, input.rank)), eps)
    return _scaled(y, _per_channel(weight, input), _per_channel(bias, input))


@operation("group_norm")
def group_norm(
    input: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> Value:
    """Each group of channels of each example by its own mean and variance."""
    y = _standardised_by_group(input, num_groups, eps)
    return _scaled(y, _per_channel(weight, input), _per_channel(bias, input))


@operation("native_group_norm")
def native_group_norm(
    input: Value,
    weight: Value | None,
    bias: Value | None,
    N: int,  # noqa: N803 - the schema's
    C: int,  # noqa: N803
    HxW: int,  # noqa: N803
    group: int,
    eps: float,
) -> Statistics:
    """As `group_norm`, with the mean and the inverse standard deviation (B, groups)."""
    mean, inverse = _measured(*_grouped(input, group), eps)
    shape = (N, group)
    return group_norm(input, group, weight, bias, eps), mean.viewed(shape), inverse.viewed(shape)


def _grouped(value: Value, groups: int) -> tuple[Value, Axes]:
    """The channels as (groups, channels of a group), and the axes of a group as held."""
    examples, channels, *spatial = value.shape
    grouped = value.viewed([examples, groups, channels // groups, *spatial])
    return grouped, grouped.all_held(range(2, grouped.rank))


@operation("layer_norm")
def layer_norm(
    input: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> Value:
    """The last axes by their own mean and variance."""
    y = _standardised(input, _last(input, normalized_shape), eps)
    return _scaled(y, weight, bias)


@operation("native_layer_norm")
def native_layer_norm(
    input: Value,
    normalized_shape: Sequence[int],
    weight: Value | None,
    bias: Value | None,
    eps: float,
) -> Statistics:
    """As `layer_norm`, with the mean and the inverse standard deviation."""
    measured = _measured(input, _last(input, normalized_shape), eps)
    return layer_norm(input, normalized_shape, weight, bias, eps), *measured


@operation("rms_norm")
def rms_norm(
    input: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    eps: float | None = None,
) -> Value:
    """The last axes by the root of the mean of their squares."""
    return _fused_rms_norm(input, normalized_shape, weight, eps)[0]


@operation("_fused_rms_norm")
def _fused_rms_norm(
    input: Value, normalized_shape: Sequence[int], weight: Value | None, eps: float | None
) -> tuple[Value, Value]:
    """As `rms_norm`, with the inverse of the root."""
    exact = input.array.astype(jnp.promote_types(input.dtype, jnp.float32))
    epsilon = float(jnp.finfo(input.dtype).eps) if eps is None else eps
    axes = _last(input, normalized_shape)
    inverse = lax.rsqrt(jnp.square(exact).mean(axes, keepdims=True) + epsilon)
    y = input.like((exact * inverse).astype(input.dtype))
    return _scaled(y, weight, None), input.like(inverse)


def _last(value: Value, shape: Sequence[int]) -> Axes:
    return value.all_held(range(value.rank - len(shape), value.rank))


def _standardised(value: Value, axes: Axes, epsilon: float) -> Value:
    return value.like(standardise(jnp.asarray(value.array), axes, epsilon))


def _standardised_by_group(value: Value, groups: int, epsilon: float) -> Value:
    # Means of single channels first are quicker than those of both axes, where there are positions.
    if value.rank > 2 and value.axes[-1] == 1:
        axes = value.all_held(range(2, value.rank))
        return value.like(standardise(jnp.asarray(value.array), axes, epsilon, groups))
    grouped, axes = _grouped(value, groups)
    return _standardised(grouped, axes, epsilon).viewed(value.shape)


def _measured(value: Value, axes: Axes, epsilon: float) -> tuple[Value, Value]:
    """Mean and inverse standard deviation, of size one along the axes."""
    array = jnp.asarray(value.array)
    inverse = lax.rsqrt(array.var(axes, keepdims=True) + epsilon)
    return value.like(array.mean(axes, keepdims=True)), value.like(inverse)


def _by_statistics(
    input: Value,
    weight: Value | None,
    bias: Value | None,
    mean: Value,
    variance: Value,
    epsilon: float,
) -> Value:
    exact = jnp.promote_types(input.dtype, jnp.float32)
    scale = lax.rsqrt(jnp.asarray(variance.array).astype(exact) + epsilon)
    if weight is not None:
        scale = scale * jnp.asarray(weight.array)
    y = elementwise(lambda x, m: x - m, input, _per_channel(mean, input))
    scale_value = Value.of(scale.astype(input.dtype))
    return _scaled(y, _per_channel(scale_value, input), _per_channel(bias, input))


def _per_channel(vector: Value | None, input: Value) -> Value | None:
    """A number per channel, to broadcast against (B, C, …)."""
    if vector is None:
        return None
    return vector.viewed([1, math.prod(vector.shape), *[1] * (input.rank - 2)])


def _scaled(value: Value, weight: Value | None, bias: Value | None) -> Value:
    if weight is not None:
        value = elementwise(lambda x, w: x * w, value, weight)
    return value if bias is None else elementwise(lambda x, b: x + b, value, bias)
