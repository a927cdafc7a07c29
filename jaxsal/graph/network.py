"""A network that is a graph of operations: any that PyTorch can export.

Layer names are the paths of the PyTorch modules that the graph was exported from, such as
``model.0.conv``; see `jaxsal.graph.layers`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from jaxsal.errors import InputError
from jaxsal.graph.config import GraphConfig
from jaxsal.graph.evaluation import evaluate
from jaxsal.graph.layers import layers_of
from jaxsal.graph.program import Graph, Parameter, references
from jaxsal.graph.values import Value
from jaxsal.nets.blocks import Tap

Results = tuple[jax.Array, dict[str, jax.Array]]  # logits, and activations by name

_PRELU = ("aten.prelu.default", "aten._prelu_kernel.default")


class GraphNetwork(nnx.Module):
    """The network; see `jaxsal.nets.registry.NetworkClass`.

    Its attributes are the parameters, by PyTorch's names.
    """

    Config = GraphConfig

    def __init__(self, config: GraphConfig, rngs: nnx.Rngs) -> None:
        self.config = config
        slopes = _slopes(config.graph)
        for parameter in config.graph.parameters:
            kind = nnx.Param if parameter.learnt else nnx.BatchStat
            initial = 0.25 if parameter.value in slopes else None
            setattr(self, parameter.name, kind(_initial(parameter, initial, rngs)))

    def __call__(
        self, batch: jax.Array, perturbations: Mapping[str, jax.Array] | None = None
    ) -> Results:
        """Logits (B, X, Y, Z, K) and the activations (B, X', Y', Z', C') by name.

        Raises:
            InputError: the graph cannot be computed for images of this size.
        """
        _check_size(self.config, batch.shape[1:4])
        graph, own = self.config.graph, dict(perturbations or {})
        if graph.rank == 3:
            return self._examples(batch, own)
        axis, examples = 1 + graph.slice_axis, batch.shape[0]
        slices = jax.tree.map(lambda x: _as_examples(x, axis), (batch, own))
        return jax.tree.map(lambda x: _as_volumes(x, axis, examples), self._examples(*slices))

    def _examples(self, batch: jax.Array, own: dict[str, jax.Array]) -> Results:
        """All at once, or one by one where the graph takes one only."""
        if self.config.graph.batch == "any" or batch.shape[0] == 1:
            return self._run(batch, own)

        def one(image: jax.Array, own: dict[str, jax.Array]) -> Results:
            results = self._run(image[None], {name: x[None] for name, x in own.items()})
            return jax.tree.map(lambda x: x[0], results)

        return jax.vmap(one)(batch, own)

    def _run(self, batch: jax.Array, perturbations: dict[str, jax.Array]) -> Results:
        graph, tap = self.config.graph, Tap(perturbations)
        parameters = {p.name: getattr(self, p.name)[...] for p in graph.parameters}
        layers = layers_of(graph)

        def at_layer(name: str, value: Value) -> Value:
            layer = layers.get(name)
            if layer is None:
                return value
            array = value.as_held(layer.axes)
            for module in layer.names:
                array = tap(module, array)
            perturbed = not perturbations.keys().isdisjoint(layer.names)
            return Value(array, layer.axes) if perturbed else value

        channels_last = (0, *range(2, batch.ndim), 1)
        logits = evaluate(graph, parameters, Value(batch, channels_last), at_layer)
        return logits.as_held(channels_last), tap.activations


def _check_size(config: GraphConfig, size: tuple[int, ...]) -> None:
    wrong = [n for n, only in zip(size, config.fixed_size, strict=True) if only not in (None, n)]
    if wrong:
        allowed = " × ".join(str(only or "any") for only in config.fixed_size)
        raise InputError(
            f"the network takes images of {allowed} voxels only, as it was exported for that size; "
            f"got {' × '.join(map(str, size))}: choose windows of that size, or export it with "
            "dynamic shapes"
        )


def _as_examples(x: jax.Array, axis: int) -> jax.Array:
    """Volumes -> their slices as a batch."""
    slices = jnp.moveaxis(x, axis, 1)
    return slices.reshape(-1, *slices.shape[2:])


def _as_volumes(x: jax.Array, axis: int, examples: int) -> jax.Array:
    """The inverse of `_as_examples`."""
    return jnp.moveaxis(x.reshape(examples, -1, *x.shape[1:]), 1, axis)


def _slopes(graph: Graph) -> set[str]:
    """Values that are slopes of PReLUs."""
    return {
        name
        for node in graph.nodes
        if node.operation in _PRELU
        for name in references(dict(node.arguments)["weight"])
    }


def _initial(parameter: Parameter, value: float | None, rngs: nnx.Rngs) -> jax.Array:
    """A fresh value: of kernels and matrices uniform as PyTorch's, of vectors neutral."""
    shape, name = parameter.shape, parameter.name.rpartition(".")[2]
    if value is not None:
        return jnp.full(shape, value, jnp.float32)
    if len(shape) > 1:
        outputs = shape[parameter.axes.index(0)]
        bound = 1 / math.sqrt(max(math.prod(shape) // max(outputs, 1), 1))
        return jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound)
    zero = "bias" in name or (not parameter.learnt and "var" not in name)
    return jnp.zeros(shape) if zero else jnp.ones(shape)
