"""PyTorch's operations as JAX computes them, in files by kind, by name in `OPERATIONS`.

A function takes the arguments of the ATen schema by their names: tensors as
`jaxsal.graph.values.Value`, the others as Python has them, types as JAX has them. Arguments that
say where a tensor lies are left out.
"""

from jaxsal.graph.operations import (
    activations,
    arithmetic,
    attention,
    convolutions,
    creation,
    indexing,
    interpolation,
    norms,
    padding,
    pooling,
    products,
    reductions,
    shapes,
    sizes,
)
from jaxsal.graph.operations.table import OPERATIONS

__all__ = [
    "OPERATIONS",
    "activations",
    "arithmetic",
    "attention",
    "convolutions",
    "creation",
    "indexing",
    "interpolation",
    "norms",
    "padding",
    "pooling",
    "products",
    "reductions",
    "shapes",
    "sizes",
]
