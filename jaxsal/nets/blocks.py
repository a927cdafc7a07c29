"""The layers that networks are built of, with named activations.

A layer is called as ``layer(x, tap)``: `Tap` collects what it computes under the layer's name and,
where asked to, adds a perturbation to it.

Layers behave as their PyTorch counterparts do at inference. Activations are channels-last,
(B, X, Y, Z, C).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsal.errors import InputError
from jaxsal.nets.activations import ACTIVATIONS
from jaxsal.nets.general_convolution import (
    general_convolution,
    transposed_general_convolution,
)
from jaxsal.nets.standardise import standardise
from jaxsal.types import Triple

Arguments = tuple[tuple[str, Any], ...]  # keyword arguments in a form that can be hashed


class Tap:
    """Collects the named activations of one forward pass, and perturbs some of them.

    Args:
        perturbations: what to add to the activation of that name, in its shape.
    """

    def __init__(self, perturbations: Mapping[str, jax.Array] | None = None) -> None:
        self.activations: dict[str, jax.Array] = {}
        self._perturbations = dict(perturbations or {})
        self._prefix = ""

    def __call__(self, name: str, value: jax.Array) -> jax.Array:
        """Records ``value`` under ``name`` and returns it, perturbed where asked."""
        full = self._prefix + name if name else self._prefix.rstrip(".")
        if full in self._perturbations:
            value = value + self._perturbations[full].astype(value.dtype)
        self.activations[full] = value
        return value

    def under(self, name: str) -> Tap:
        """A tap whose names begin with ``name.``, recording into the same dictionary."""
        inner = Tap()
        inner.activations = self.activations
        inner._perturbations = self._perturbations
        inner._prefix = f"{self._prefix}{name}."
        return inner

    def apart(self) -> Tap:
        """A tap with the same names and perturbations that records into a dictionary of its own."""
        other = Tap(self._perturbations)
        other._prefix = self._prefix
        return other


Block = Callable[[jax.Array, Tap], jax.Array]
UpBlock = Callable[[jax.Array, jax.Array, Tap], jax.Array]  # of the skip and what is below it


def encode(levels: Sequence[Block], x: jax.Array, tap: Tap) -> list[jax.Array]:
    """The output of each encoder level, from the top down."""
    outputs = []
    for i, level in enumerate(levels):
        x = level(x, tap.under(f"encoder.{i}"))
        outputs.append(x)
    return outputs


def decode(
    levels: Sequence[UpBlock], skips: Sequence[jax.Array], below: jax.Array, tap: Tap
) -> jax.Array:
    """The output of the top level, from the skips (top first) and what comes from below them."""
    for i in reversed(range(len(levels))):
        below = levels[i](skips[i], below, tap.under(f"decoder.{i}"))
    return below


class Convolution(nnx.Module):
    """A convolution or, with ``transposed``, an up-sampling transposed one.

    The padding is that of an odd kernel that keeps the size, unless given. Up-sampling multiplies
    the size by the stride exactly: unless given, the output padding makes up for what is missing.
    ``groups`` are of channels, each with outputs of its own. A rate of ``dropout`` is for training,
    and belongs to the convolution; see `jaxsal.nets.training`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel_size: Triple,
        stride: Triple = (1, 1, 1),
        padding: Triple | None = None,
        output_padding: Triple | None = None,
        transposed: bool = False,
        groups: int = 1,
        use_bias: bool = True,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ) -> None:
        self.kernel_size, self.stride, self.transposed = kernel_size, stride, transposed
        self.padding = padding or tuple((k - 1) // 2 for k in kernel_size)
        self.output_padding, self.groups = output_padding, groups
        first, last = (outputs, inputs) if transposed else (inputs, outputs)
        channels = (first // groups, last)
        bound = 1 / math.sqrt(math.prod(kernel_size) * inputs / groups)  # as PyTorch initialises
        uniform = partial(jax.random.uniform, minval=-bound, maxval=bound)
        self.kernel = nnx.Param(uniform(rngs.params(), (*kernel_size, *channels)))
        self.bias = nnx.Param(uniform(rngs.params(), (outputs,))) if use_bias else None
        self.dropout = nnx.Dropout(dropout, deterministic=True) if dropout else None

    def __call__(self, x: jax.Array, tap: Tap) -> jax.Array:
        arguments: dict[str, Any] = {"stride": self.stride, "padding": self.padding}
        arguments["groups"] = self.groups
        if self.transposed:
            extra = self.output_padding or self._missing()
            y = transposed_general_convolution(
                x, self.kernel[...], output_padding=extra, **arguments
            )
        else:
            y = general_convolution(x, self.kernel[...], **arguments)
        y = y if self.bias is None else y + self.bias[...]
        return tap("", y if self.dropout is None else self.dropout(y))

    def _missing(self) -> Triple:
        """The output padding with which a transposed one multiplies the size by the stride."""
        sizes = zip(self.padding, self.stride, self.kernel_size, strict=True)
        x, y, z = (2 * p + s - k for p, s, k in sizes)
        return x, y, z


class PReLU(nnx.Module):
    """x where positive, else a learnt slope times x; one slope, or one per channel."""

    def __init__(self, slopes: int = 1, initial: float = 0.25) -> None:
        self.slope = nnx.Param(jnp.full((slopes,), initial, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.where(x > 0, x, self.slope[...].astype(x.dtype) * x)


class InstanceNorm(nnx.Module):
    """Normalisation of each channel of each example over all of its positions."""

    def __init__(self, channels: int, *, epsilon: float, affine: bool) -> None:
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(channels)) if affine else None
        self.bias = nnx.Param(jnp.zeros(channels)) if affine else None

    def __call__(self, x: jax.Array) -> jax.Array:
        return _normalise(x, (1, 2, 3), self.epsilon, self.scale, self.bias)


class GroupNorm(nnx.Module):
    """Normalisation of each group of neighbouring channels over all positions of each example."""

    def __init__(self, channels: int, *, groups: int, epsilon: float, affine: bool) -> None:
        self.groups, self.epsilon = groups, epsilon
        self.scale = nnx.Param(jnp.ones(channels)) if affine else None
        self.bias = nnx.Param(jnp.zeros(channels)) if affine else None

    def __call__(self, x: jax.Array) -> jax.Array:
        return _normalise(x, (1, 2, 3), self.epsilon, self.scale, self.bias, self.groups)


class TrailingLayerNorm(nnx.Module):
    """PyTorch's ``LayerNorm`` on channels-first arrays: over the last axes of (C, X, Y, Z)."""

    def __init__(self, shape: Sequence[int], *, epsilon: float, affine: bool) -> None:
        self.epsilon = epsilon
        self.shape = tuple(shape)
        last = (1,) * (4 - len(shape)) + tuple(shape)  # (C, X, Y, Z)
        stored = (*last[1:], last[0])
        self.scale = nnx.Param(jnp.ones(stored)) if affine else None
        self.bias = nnx.Param(jnp.zeros(stored)) if affine else None

    def __call__(self, x: jax.Array) -> jax.Array:
        axes = (4, 1, 2, 3)[4 - len(self.shape) :]
        size = tuple(x.shape[a] for a in axes)
        if size != self.shape:
            raise InputError(f"layer norm over {self.shape} cannot take an input of size {size}")
        return _normalise(x, axes, self.epsilon, self.scale, self.bias)


def _normalise(
    x: jax.Array,
    axes: tuple[int, ...],
    epsilon: float,
    scale: nnx.Param | None,
    bias: nnx.Param | None,
    groups: int | None = None,
) -> jax.Array:
    y = standardise(x, axes, epsilon, groups)
    if scale is not None and bias is not None:
        y = y * scale[...] + bias[...]
    return y


def make_norm(
    name: str, settings: Arguments, channels: int, rngs: nnx.Rngs
) -> Callable[[jax.Array], jax.Array]:
    """The normalisation layer that MONAI builds for this name, at inference.

    Args:
        name: "batch", "instance", "group" or "layer".
        settings: PyTorch's keyword arguments of that layer.
        channels: number of channels it works on.
        rngs: required by Flax.
    """
    arguments = dict(settings)
    epsilon = arguments.get("eps", 1e-5)
    if name == "batch":
        affine = arguments.get("affine", True)
        return nnx.BatchNorm(
            channels,
            use_running_average=True,
            momentum=0.9,
            epsilon=epsilon,
            use_bias=affine,
            use_scale=affine,
            use_fast_variance=False,
            rngs=rngs,
        )
    if name == "instance":
        return InstanceNorm(channels, epsilon=epsilon, affine=arguments.get("affine", False))
    if name == "group":
        return GroupNorm(
            channels,
            groups=arguments["num_groups"],
            epsilon=epsilon,
            affine=arguments.get("affine", True),
        )
    affine = arguments.get("elementwise_affine", True)
    return TrailingLayerNorm(arguments["normalized_shape"], epsilon=epsilon, affine=affine)


class Activation(nnx.Module):
    """An activation function without parameters."""

    def __init__(self, name: str, settings: Arguments) -> None:
        self.name, self.settings = name, settings

    def __call__(self, x: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.name](x, **dict(self.settings))


def make_activation(name: str, settings: Arguments) -> Activation | PReLU:
    """The activation function that MONAI builds for this name.

    Args:
        name: "prelu" or a key of `ACTIVATIONS`.
        settings: PyTorch's keyword arguments of that layer.
    """
    if name == "prelu":
        arguments = dict(settings)
        return PReLU(arguments.get("num_parameters", 1), arguments.get("init", 0.25))
    return Activation(name, settings)
