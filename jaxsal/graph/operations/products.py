"""Matrix products and linear layers, whichever way the tensors are held."""

from __future__ import annotations

import string
from collections.abc import Sequence

import jax.numpy as jnp

from jaxsal.graph.operations.table import operation
from jaxsal.graph.values import Value, elementwise


def contracted(
    letters: Sequence[str], values: Sequence[Value], result: str, exact: bool = False
) -> Value:
    """A sum of products, in the letters of Einstein's notation.

    Args:
        letters: one per axis of each value, in PyTorch's order. An axis of size one broadcasts.
        values: two or more tensors.
        result: letters of the result.
        exact: in float32 at least.
    """
    sizes: dict[str, int] = {}
    for names, value in zip(letters, values, strict=True):
        for name, size in zip(names, value.shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
    terms, arrays = [], []
    for names, value in zip(letters, values, strict=True):
        held = "".join(names[axis] for axis in value.axes)
        narrow = [i for i, n in enumerate(held) if value.array.shape[i] < sizes[n]]
        arrays.append(jnp.squeeze(jnp.asarray(value.array), narrow))
        terms.append("".join(n for i, n in enumerate(held) if i not in narrow))
    dtype = jnp.result_type(*arrays)
    wide = jnp.promote_types(dtype, jnp.float32) if exact else None
    order = _order_of_product(terms, result)
    array = jnp.einsum(f"{','.join(terms)}->{order}", *arrays, preferred_element_type=wide)
    return Value(array, tuple(result.index(n) for n in order))


def _order_of_product(terms: Sequence[str], result: str) -> str:
    """The result's letters as a product of matrices leaves them, which no transposition follows."""
    shared = [name for name in result if all(name in term for term in terms)]
    alone = [name for term in terms for name in term if name in result]
    return "".join(dict.fromkeys([*shared, *alone, *result]))


@operation("einsum")
def einsum(equation: str, tensors: Sequence[Value]) -> Value:
    """A sum of products in Einstein's notation."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = _without_dots(left.split(","), tensors)
    dots = max((t[1] for t in terms), key=len, default="")
    names = [t[0] for t in terms]
    if arrow:
        result = right.replace("...", dots)
    else:
        joined = "".join(names)
        result = dots + "".join(sorted(n for n in set(joined) - set(dots) if joined.count(n) == 1))
    if any(len(set(term)) < len(term) for term in names):  # a diagonal
        plain = [tensor.plain for tensor in tensors]
        return Value.of(jnp.einsum(f"{','.join(names)}->{result}", *plain))
    return contracted(names, tensors, result)


def _without_dots(terms: Sequence[str], tensors: Sequence[Value]) -> list[tuple[str, str]]:
    """Each term with letters in place of an ellipsis, and these letters."""
    free = [n for n in string.ascii_letters if n not in "".join(terms)]
    found = []
    for term, tensor in zip(terms, tensors, strict=True):
        count = tensor.rank - len(term.replace("...", "")) if "..." in term else 0
        dots = "".join(free[:count][::-1])  # aligned at the last of them
        found.append((term.replace("...", dots), dots))
    return found


@operation("matmul")
def matmul(self: Value, other: Value) -> Value:
    """The matrix product of the last two axes; the others broadcast."""
    return product_of_matrices(self, other)


def product_of_matrices(self: Value, other: Value, exact: bool = False) -> Value:
    """As `matmul`, but in float32 at least where it is to be exact."""
    outer = max(self.rank, other.rank, 2) - 2
    batch = string.ascii_lowercase[:outer]
    left = "K" if self.rank == 1 else batch[outer - (self.rank - 2) :] + "MK"
    right = "K" if other.rank == 1 else batch[outer - (other.rank - 2) :] + "KN"
    result = batch + ("M" if self.rank > 1 else "") + ("N" if other.rank > 1 else "")
    return contracted([left, right], [self, other], result, exact)


@operation("mm")
def mm(self: Value, mat2: Value) -> Value:
    """The product of two matrices."""
    return matmul(self, mat2)


@operation("bmm")
def bmm(self: Value, mat2: Value) -> Value:
    """The products of two batches of matrices."""
    return matmul(self, mat2)


@operation("mv")
def mv(self: Value, vec: Value) -> Value:
    """The product of a matrix and a vector."""
    return matmul(self, vec)


@operation("dot")
def dot(self: Value, tensor: Value) -> Value:
    """The product of two vectors."""
    return matmul(self, tensor)


@operation("outer")
def outer(self: Value, vec2: Value) -> Value:
    """All products of two vectors' entries."""
    return contracted(["M", "N"], [self, vec2], "MN")


@operation("addmm")
def addmm(self: Value, mat1: Value, mat2: Value, beta: float = 1, alpha: float = 1) -> Value:
    """``beta self + alpha mat1 mat2``."""
    return _added(self, matmul(mat1, mat2), beta, alpha)


@operation("baddbmm")
def baddbmm(self: Value, batch1: Value, batch2: Value, beta: float = 1, alpha: float = 1) -> Value:
    """``beta self + alpha batch1 batch2``."""
    return _added(self, matmul(batch1, batch2), beta, alpha)


def _added(value: Value, product: Value, beta: float, alpha: float) -> Value:
    """Without the value where it does not count: it may hold anything then."""
    scaled = product if alpha == 1 else elementwise(lambda x: alpha * x, product)
    if beta == 0:
        return scaled
    return elementwise(lambda x, y: x + (y if beta == 1 else beta * y), scaled, value)


@operation("linear")
def linear(input: Value, weight: Value, bias: Value | None = None) -> Value:
    """The product of the last axis and a matrix (outputs, inputs), and a bias."""
    outer = string.ascii_lowercase[: input.rank - 1]
    outputs = "N" if weight.rank == 2 else ""
    y = contracted([f"{outer}K", f"{outputs}K"], [input, weight], outer + outputs)
    return y if bias is None else elementwise(lambda x, b: x + b, y, bias)
