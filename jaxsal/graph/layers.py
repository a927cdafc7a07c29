"""Which values of a graph are the outputs of the modules that it was exported from.

A layer is a PyTorch module, by its path, and its activation the last tensor of the image's rank
that it hands on: to what is outside of it, or to the logits.

PyTorch does not say which axis of a tensor holds the channels, and transformers have them last.
Two places are possible; it is the one that leaves spatial sizes which divide the image's, by one
factor if only one of the two has that. Where both do, it is PyTorch's own, the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsal.graph.evaluation import evaluate
from jaxsal.graph.program import Graph, Node, references
from jaxsal.graph.values import Axes, Value, is_floating


class Layer(NamedTuple):
    """The output of a module.

    Attributes:
        names: of the module, and of those around it whose output it is too, from the inside out.
        axes: the order of axes that is channels-last: (B, X', Y', Z', C').
    """

    names: tuple[str, ...]
    axes: Axes


@lru_cache(maxsize=64)
def layers_of(graph: Graph) -> dict[str, Layer]:
    """The layers by the name of their value."""
    shapes = _shapes(graph)
    image = shapes[graph.image][2:]
    found: dict[str, list[str]] = {}
    for module, value in _outputs(graph, shapes):
        found.setdefault(value, []).append(module)
    return {
        value: Layer(tuple(modules), _channels_last(shapes[value], image))
        for value, modules in found.items()
    }


def smallest_size(graph: Graph) -> tuple[int, ...]:
    """The smallest spatial size of an image."""
    return tuple(n or d for n, d in zip(graph.size, graph.divisor, strict=True))


def _shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """PyTorch's shapes of floating-point tensors of the image's rank, for the smallest image."""
    shape = (1, graph.channels_in, *smallest_size(graph))
    found = {graph.image: shape}

    def tap(name: str, value: Value) -> Value:
        if is_floating(value) and value.rank == len(shape) and value.shape[0] == 1:
            found[name] = value.shape
        return value

    def run(image: jax.Array, parameters: dict[str, jax.Array]) -> jax.Array:
        return evaluate(graph, parameters, Value.of(image), tap).plain

    parameters = {p.name: jax.ShapeDtypeStruct(p.shape, jnp.float32) for p in graph.parameters}
    jax.eval_shape(run, jax.ShapeDtypeStruct(shape, jnp.float32), parameters)
    return found


def _outputs(graph: Graph, known: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each module, inner ones first, and the value that is its output."""
    known, users = set(known), _users(graph)
    modules: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for module in _around(node.module):
            modules.setdefault(module, []).append(node)
    for module in sorted(modules, key=lambda path: -path.count(".")):
        spatial = [name for node in modules[module] for name in node.results if name in known]
        inside = {id(node) for node in modules[module]}
        handed_on = [
            name
            for name in spatial
            if name == graph.logits or any(id(user) not in inside for user in users.get(name, ()))
        ]
        if spatial:
            yield module, (handed_on or spatial)[-1]


def _users(graph: Graph) -> dict[str, list[Node]]:
    """The nodes that use each value."""
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in references(tuple(value for _, value in node.arguments)):
            users.setdefault(name, []).append(node)
    return users


def _around(module: str) -> Iterator[str]:
    """The module and all modules that it is part of, but the root."""
    parts = module.split(".") if module else []
    for count in range(len(parts), 0, -1):
        yield ".".join(parts[:count])


def _channels_last(shape: Sequence[int], image: Sequence[int]) -> Axes:
    rank = len(shape)
    first: Axes = (0, *range(2, rank), 1)
    last: Axes = tuple(range(rank))
    return max(first, last, key=lambda axes: _fitness([shape[a] for a in axes[1:-1]], image))


def _fitness(sizes: Sequence[int], image: Sequence[int]) -> int:
    """Whether spatial sizes divide the image's (1), and by one factor (2)."""
    factors = [n // m if m and n % m == 0 else 0 for n, m in zip(image, sizes, strict=True)]
    return bool(all(factors)) + (all(factors) and len(set(factors)) == 1)
