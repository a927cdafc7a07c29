"""Configuration <-> network, by the networks of `jaxsal.registry.NETWORKS`.

A `NetworkFunction` is what the rest of jaxsal sees of a network: a pure function of parameters and
a batch of images, hashable, so that everything compiled for it is shared between models of one
architecture. Parameters are flat: ``{"encoder.0.conv.kernel": array, …}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, ClassVar, Protocol, Self

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsal.errors import InputError
from jaxsal.registry import NETWORKS
from jaxsal.types import Triple

Parameters = Mapping[str, jax.Array]


class NetworkConfig(Protocol):
    """The architecture of a network, hashable: what every configuration offers."""

    kind: ClassVar[str]  # its name in `jaxsal.registry.NETWORKS`

    @property
    def in_channels(self) -> int:
        """Number of image channels."""
        ...

    @property
    def out_channels(self) -> int:
        """Number of logits per voxel."""
        ...

    @property
    def divisor(self) -> Triple:
        """What each spatial size of an input must be a multiple of."""
        ...

    @property
    def fixed_size(self) -> tuple[int | None, int | None, int | None]:
        """The only size an input can have along each spatial axis; None where it is free."""
        ...

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> Self:
        """From the arguments of the source's constructor, as JSON gives them."""
        ...

    def to_arguments(self) -> dict[str, Any]:
        """The inverse of `from_arguments`, ready for JSON."""
        ...

    def __hash__(self) -> int: ...


class NetworkClass(Protocol):
    """A Flax module as the registry lists it.

    ``network(batch, perturbations)`` gives logits (B, X, Y, Z, K) of images (B, X, Y, Z, C), whose
    sizes are multiples of ``config.divisor``, and all activations by name; the perturbations are
    added to the activations of their names on the way, see `jaxsal.nets.blocks.Tap`. A class may
    have ``rematerialises = True``: its networks then take the keyword ``rematerialise``, to compute
    activations again rather than keep them for derivatives.
    """

    Config: type[NetworkConfig]

    def __call__(self, config: Any, rngs: nnx.Rngs) -> Any:
        """The network of this architecture, freshly initialised."""
        ...


# Arithmetic of every matrix product and convolution, by name.
MATMUL_PRECISION = {
    "float32": "highest",  # on a TPU six passes in bfloat16
    "tf32": "tensorfloat32",
    "bfloat16x3": "high",
    "bfloat16": "bfloat16",
}


def config_from_arguments(kind: str, arguments: Mapping[str, Any]) -> NetworkConfig:
    """The configuration of a network from the arguments of its source's constructor.

    Raises:
        InputError: the kind is unknown or an argument is not supported.
    """
    return NETWORKS[kind].Config.from_arguments(arguments)


def build(config: NetworkConfig, rngs: nnx.Rngs) -> Any:
    """The network of this architecture, freshly initialised."""
    return NETWORKS[config.kind](config, rngs)


def require_rematerialising(kind: str, asked_by: str) -> None:
    """Raises InputError unless networks of this kind can compute activations again.

    Args:
        kind: of the network.
        asked_by: begins the message.
    """
    able = [name for name in NETWORKS if getattr(NETWORKS[name], "rematerialises", False)]
    if kind not in able:
        raise InputError(f"{asked_by} is for {', '.join(able)} only; this network is {kind}")


class Sized:
    """What a network's architecture says of batches, for functions that have it as ``config``."""

    config: NetworkConfig

    @property
    def divisor(self) -> Triple:
        """What each spatial size of a batch must be a multiple of."""
        return self.config.divisor

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return self.config.in_channels

    @property
    def smallest_size(self) -> Triple:
        """The smallest spatial size of a batch."""
        x, y, z = (n or d for n, d in zip(self.config.fixed_size, self.config.divisor, strict=True))
        return x, y, z


@dataclass(frozen=True)
class NetworkFunction(Sized):
    """A network, or an ensemble of one architecture, as a pure function of its parameters.

    An ensemble's logits are the mean of its members', as in nnU-Net; its parameters have the
    members as their leading axis. With mirroring, a member's logits are the mean over all ways to
    mirror the image, the logits mirrored back. It is one network with parallel branches: an
    activation holds their channels side by side, (B, X', Y', Z', members · mirrored · C').

    Attributes:
        config: the architecture.
        precision: arithmetic, one of `jaxsal.settings.PRECISIONS`; logits are float32 in any case.
        members: number of networks; 1 for a single one, whose parameters have no leading axis.
        rematerialise: compute activations again rather than keep them for derivatives; for
            networks that `require_rematerialising` accepts.
        mirror_axes: spatial axes, 0 … 2, each of which images are mirrored along or not.
    """

    config: NetworkConfig
    precision: str = "float32"
    members: int = 1
    rematerialise: bool = False
    mirror_axes: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.config.kind

    def __call__(self, parameters: Parameters, batch: jax.Array) -> jax.Array:
        """Logits (B, X, Y, Z, K) of images (B, X, Y, Z, C)."""
        return self.with_activations(parameters, batch)[0]

    def with_activations(
        self,
        parameters: Parameters,
        batch: jax.Array,
        perturbations: Mapping[str, jax.Array] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Logits, and every named activation (B, X', Y', Z', C').

        Args:
            parameters: as `parameter_shapes` lists them.
            batch: images.
            perturbations: added to the activations of these names on the way.

        Raises:
            InputError: there is no layer of such a name.
        """
        if self.precision == "bfloat16":
            parameters = {k: v.astype(jnp.bfloat16) for k, v in parameters.items()}
            batch = batch.astype(jnp.bfloat16)
        perturbations = dict(perturbations or {})
        with jax.default_matmul_precision(MATMUL_PRECISION[self.precision]):
            logits, activations = self._ensemble(parameters, batch, perturbations)
        unknown = sorted(set(perturbations) - set(activations))
        if unknown:
            raise InputError(f"the network has no layer {', '.join(unknown)} to perturb")
        return logits.astype(jnp.float32), activations

    def _single(
        self, parameters: Parameters, batch: jax.Array, perturbations: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        options = {"rematerialise": True} if self.rematerialise else {}
        return merge(self.config, parameters)(batch, perturbations, **options)

    def _mirrored(
        self, parameters: Parameters, batch: jax.Array, perturbations: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        if not self.mirror_axes:
            return self._single(parameters, batch, perturbations)

        def one(along: jax.Array, own: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
            def mirror(x: jax.Array) -> jax.Array:
                for axis, flipped in zip(self.mirror_axes, along, strict=True):
                    x = jnp.where(flipped, jnp.flip(x, 1 + axis), x)
                return x

            return jax.tree.map(
                mirror, self._single(parameters, mirror(batch), jax.tree.map(mirror, own))
            )

        ways = jnp.array(list(product((False, True), repeat=len(self.mirror_axes))))
        return _mean_of_branches(one, ways, perturbations)

    def _ensemble(
        self, parameters: Parameters, batch: jax.Array, perturbations: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        if self.members == 1:
            return self._mirrored(parameters, batch, perturbations)

        def one(own: Parameters, perturbations: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
            return self._mirrored(own, batch, perturbations)

        return _mean_of_branches(one, dict(parameters), perturbations)


def _mean_of_branches(
    branch: Callable[[Any, dict[str, jax.Array]], tuple[jax.Array, Any]],
    arguments: Any,
    perturbations: dict[str, jax.Array],
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean of branches' logits, and their activations with their channels side by side.

    One branch after the other, so that the program and its memory are those of one.

    Args:
        branch: from its argument and its share of the perturbations to logits and activations.
        arguments: arrays whose leading axis is that of the branches.
        perturbations: of all branches, side by side.
    """
    count = len(jax.tree.leaves(arguments)[0])

    def split_channels(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(*x.shape[:-1], count, -1), -2, 0)

    def join_channels(x: jax.Array) -> jax.Array:
        y = jnp.moveaxis(x, 0, -2)
        return y.reshape(*y.shape[:-2], -1)

    separate = jax.tree.map(split_channels, perturbations)
    logits, activations = jax.lax.map(lambda own: branch(*own), (arguments, separate))
    return logits.astype(jnp.float32).mean(0), jax.tree.map(join_channels, activations)


def merge(config: NetworkConfig, parameters: Parameters) -> Any:
    """The Flax network of this architecture holding these parameters."""
    graph, variables = nnx.split(_abstract_network(config))
    values = [
        (path, variable.replace(parameters[_name(path)]))
        for path, variable in nnx.to_flat_state(variables)
    ]
    return nnx.merge(graph, nnx.from_flat_state(values))


def split(network: nnx.Module) -> dict[str, jax.Array]:
    """The inverse of `merge`: the parameters of a Flax network by name."""
    variables = nnx.to_flat_state(nnx.state(network))
    return {_name(path): variable.get_value() for path, variable in variables}


def parameter_shapes(config: NetworkConfig, members: int = 1) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of this architecture, or of an ensemble of it."""
    variables = nnx.to_flat_state(nnx.state(_abstract_network(config)))
    leading = (members,) if members > 1 else ()
    return {_name(path): (*leading, *variable.get_value().shape) for path, variable in variables}


@lru_cache(maxsize=64)
def statistics_names(config: NetworkConfig) -> frozenset[str]:
    """Names of the parameters that are measured in training rather than learnt."""
    statistics = nnx.to_flat_state(nnx.state(_abstract_network(config), nnx.BatchStat))
    return frozenset(_name(path) for path, _ in statistics)


def layer_names(config: NetworkConfig) -> tuple[str, ...]:
    """Names of all activations, in the order of the computation."""
    return tuple(layer_shapes(config))


@lru_cache(maxsize=64)
def layer_shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Shape (X, Y, Z, C) of every activation for the smallest input, in computation order."""
    parameters = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, shape in parameter_shapes(config).items()
    }
    size = NetworkFunction(config).smallest_size
    batch = jax.ShapeDtypeStruct((1, *size, config.in_channels), jnp.float32)
    shapes: dict[str, tuple[int, ...]] = {}

    def record(parameters: Parameters, batch: jax.Array) -> None:
        _, activations = NetworkFunction(config).with_activations(parameters, batch)
        shapes.update({name: value.shape[1:] for name, value in activations.items()})

    jax.eval_shape(record, parameters, batch)
    return shapes


@lru_cache(maxsize=64)
def _abstract_network(config: NetworkConfig) -> Any:
    return nnx.eval_shape(lambda: build(config, nnx.Rngs(0)))


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
