"""Networks whose layers' parameters are permuted, from the logits towards the input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.nets.registry import layer_names, parameter_shapes

if TYPE_CHECKING:
    from jaxsal.model import Model
    from jaxsal.nets.registry import NetworkConfig


@dataclass(frozen=True)
class Stage:
    """A layer with weights, and what follows it before the next one, such as its norm.

    Attributes:
        layer: its name.
        parameters: their names.
    """

    layer: str
    parameters: tuple[str, ...]


def stages_of(config: NetworkConfig) -> list[Stage]:
    """The layers of a network with their parameters, from the logits to the input.

    Layers come in the order of the computation, in which `jaxsal.nets.registry.layer_names` lists
    them. A module that is not listed belongs to the listed one around it. A stage begins at a
    module with weights, that is an array of two or more axes; modules with scales, biases or
    slopes only join the one before them.
    """
    shapes = parameter_shapes(config)
    order = {name: place for place, name in enumerate(layer_names(config))}
    modules: dict[int, list[str]] = {}
    for name in shapes:
        modules.setdefault(_place(name, order), []).append(name)
    stages: list[list[str]] = []
    for place in sorted(modules):
        weighted = any(len(shapes[name]) > 1 for name in modules[place])
        begun = any(len(shapes[name]) > 1 for stage in stages[-1:] for name in stage)
        if not stages or (weighted and begun):
            stages.append([])
        stages[-1] += modules[place]
    return [Stage(_title(names, shapes), tuple(names)) for names in reversed(stages)]


def _place(parameter: str, order: Mapping[str, int]) -> int:
    """Where in the computation the listed module of a parameter is; -1: before all."""
    name = parameter
    while name and name not in order:
        name = name.rpartition(".")[0]
    return order.get(name, -1)


def _title(names: list[str], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The module of the first weights, or of the first parameter if there are none."""
    weights = [name for name in names if len(shapes[name]) > 1] or names
    return weights[0].rpartition(".")[0] or weights[0]


def cascade(model: Model, rng: np.random.Generator) -> Iterator[tuple[Stage, Model]]:
    """Each stage with the network in which it and all stages before it are randomised.

    Every array is permuted within itself, of an ensemble each member's, so that its values have the
    same distribution. An array of one value, such as the slope of a PReLU, stays as it is. Source:
    cascading randomisation of J. Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.
    """
    parameters = dict(model.parameters)
    for stage in stages_of(model.config):
        for name in stage.parameters:
            parameters[name] = _permuted(parameters[name], model.members, rng)
        yield stage, replace(model, parameters=dict(parameters))


def _permuted(values: jax.Array, members: int, rng: np.random.Generator) -> jax.Array:
    array = np.asarray(values)
    rows = array.reshape(members, -1)
    return jnp.asarray(np.stack([rng.permutation(row) for row in rows]).reshape(array.shape))
