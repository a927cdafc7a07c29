"""Which sizes and batches a graph takes: what its program does not say is tried."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.errors import InputError
from jaxsal.graph.config import GraphConfig
from jaxsal.graph.program import Graph
from jaxsal.nets.registry import NetworkFunction, Parameters
from jaxsal.types import Triple

_LARGEST_FACTOR = 256  # by which a divisor is tried
_MULTIPLES = (1, 2, 3)  # of the divisor, sizes that must be possible
_TOLERANCE = 1e-4  # of the peak; sums in another order differ by less, mixing by far more
# What runs three times is not worth optimising.
_COMPILED_SOON = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def with_divisor(graph: Graph, parameters: Parameters) -> Graph:
    """The graph with the smallest divisor for which logits have the image's size.

    A program's sizes may be free (``Dim.AUTO``) though its strides are not: the divisor that they
    state is doubled until sizes of one, two and three times it go through.

    Raises:
        InputError: no size does.
    """
    factor = 1
    while factor <= _LARGEST_FACTOR:
        axes = zip(graph.divisor, graph.size, strict=True)
        wider = replace(graph, divisor=tuple(d if size else factor * d for d, size in axes))
        if all(_keeps_size(wider, parameters, multiple) for multiple in _MULTIPLES):
            return wider
        factor = 2 * factor if None in graph.size else _LARGEST_FACTOR + 1
    raise InputError(
        "the logits do not have the image's size, whatever that is: jaxsal explains networks whose "
        "logits lie on the image's own grid"
    )


def with_batch(graph: Graph, parameters: Parameters, batch: int | None) -> Graph:
    """The graph, and whether it computes each example of a batch by itself.

    Args:
        graph: with its divisor.
        parameters: as stored.
        batch: number of examples that its program was exported for; None: any.

    Raises:
        InputError: it was exported for several, and computes no single one.
    """
    several = replace(graph, batch="any")
    if _separates_examples(several, parameters):
        return several
    if batch not in (None, 1):
        raise InputError(
            f"the program takes a batch of {batch} images, and not one by itself: export it with "
            "one image (1, C, …)"
        )
    return replace(graph, batch="one")


def _size(graph: Graph, multiple: int) -> Triple:
    config = GraphConfig(graph)
    x, y, z = (n or d * multiple for n, d in zip(config.fixed_size, config.divisor, strict=True))
    return x, y, z


def _shape(
    graph: Graph, parameters: Parameters, size: Triple, examples: int
) -> tuple[int, ...] | None:
    """The shape of the logits; None where the graph does not take this size or batch."""
    function = NetworkFunction(GraphConfig(graph))
    batch = jax.ShapeDtypeStruct((examples, *size, graph.channels_in), jnp.float32)
    try:
        return jax.eval_shape(function, parameters, batch).shape
    except Exception:  # shapes that do not go together raise errors of any kind
        return None


def _keeps_size(graph: Graph, parameters: Parameters, multiple: int) -> bool:
    size = _size(graph, multiple)
    return _shape(graph, parameters, size, 1) == (1, *size, graph.channels_out)


def _separates_examples(graph: Graph, parameters: Parameters) -> bool:
    """Whether the logits of an image are the same beside any other, and in any place."""
    size = _size(graph, 1)
    for examples in (1, 2):
        if _shape(graph, parameters, size, examples) != (examples, *size, graph.channels_out):
            return False
    function = jax.jit(NetworkFunction(GraphConfig(graph)), compiler_options=_COMPILED_SOON)
    shape = (3, *size, graph.channels_in)
    a, b, c = np.random.default_rng(0).standard_normal(shape, np.float32)
    first, second, third = (
        np.asarray(function(parameters, np.stack(pair))) for pair in ((a, b), (a, c), (b, a))
    )
    limit = _TOLERANCE * np.abs(first[0]).max()
    return all(np.abs(first[0] - other).max() <= limit for other in (second[0], third[1]))
