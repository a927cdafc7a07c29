"""Tensors held in any order of axes behave as if they were held in PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsal.graph.operations import OPERATIONS
from jaxsal.graph.values import Value, elementwise

SHAPES = st.lists(st.sampled_from([1, 1, 2, 3, 4]), min_size=1, max_size=5)


def numbered(shape: Sequence[int], seed: int = 0) -> tuple[np.ndarray, Value]:
    """An array of different numbers, and a value that holds its axes in some order."""
    array = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    axes = tuple(np.random.default_rng(seed).permutation(len(shape)).tolist())
    return array, Value(array.transpose(axes), axes)


@given(SHAPES, st.integers(0, 5), st.randoms())
def test_a_view_is_a_reshape_however_the_tensor_is_held(shape, seed, random) -> None:
    array, value = numbered(shape, seed)
    factors = [p for n in shape for p in ([2, 2] if n == 4 else [n])]
    random.shuffle(factors)
    new = [math.prod(factors[i : i + 2]) for i in range(0, len(factors), 2)]
    np.testing.assert_array_equal(value.viewed(new).plain, array.reshape(new))


@given(SHAPES, st.integers(0, 5), st.randoms())
def test_axes_are_permuted_added_and_dropped_as_in_pytorch(shape, seed, random) -> None:
    array, value = numbered(shape, seed)
    order = list(range(len(shape)))
    random.shuffle(order)
    np.testing.assert_array_equal(value.permuted(order).plain, array.transpose(order))
    place = random.randint(0, len(shape))
    wider = value.unsqueezed(place)
    np.testing.assert_array_equal(wider.plain, np.expand_dims(array, place))
    back = wider.dropped(jnp.squeeze(wider.array, wider.held(place)), [place])
    np.testing.assert_array_equal(back.plain, array)


@given(SHAPES, st.integers(0, 5), st.integers(0, 4))
def test_operands_broadcast_however_they_are_held(shape, seed, fewer) -> None:
    array, value = numbered(shape, seed)
    smaller = [1 if i % 2 else n for i, n in enumerate(shape)][fewer:]
    other, held = numbered(smaller, seed + 1)
    found = elementwise(lambda a, b: a + 2 * b, held, value)
    np.testing.assert_array_equal(found.plain, other + 2 * array)


def test_permuting_and_viewing_channels_last_tensors_moves_no_number() -> None:
    def tokens(x: jax.Array) -> jax.Array:
        image = Value(x, (0, 2, 3, 4, 1))
        last = image.permuted([0, 2, 3, 4, 1]).viewed([2, 60, 6])
        return last.viewed([2, 3, 4, 5, 6]).permuted([0, 4, 1, 2, 3]).array

    jaxpr = jax.make_jaxpr(tokens)(jnp.zeros((2, 3, 4, 5, 6)))
    assert {equation.primitive.name for equation in jaxpr.eqns} <= {"reshape"}


def test_a_tensor_without_axes_counts_as_a_number() -> None:
    half, single = Value.of(jnp.ones(3, jnp.bfloat16)), Value.of(jnp.ones((), jnp.float32))
    assert elementwise(jnp.add, half, single).dtype == jnp.bfloat16
    whole = Value.of(jnp.ones(3, jnp.int32))
    assert elementwise(jnp.add, whole, single).dtype == jnp.float32


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("operator.floordiv", {"a": 7, "b": 2}, 3),
        ("operator.add", {"a": 7, "b": 2}, 9),
        ("operator.neg", {"a": 7}, -7),
        ("math.ceil", {"x": 2.5}, 3),
        ("torch.sym_max", {"a": 7, "b": 2}, 7),
        ("torch.sym_float", {"a": 7}, 7.0),
        ("aten.sym_size.int", {"self": Value(np.zeros((2, 3, 4)), (0, 2, 1)), "dim": 1}, 4),
        ("aten.sym_numel.default", {"self": Value.of(np.zeros((2, 3)))}, 6),
    ],
)
def test_sizes_are_worked_out_as_numbers(name, arguments, expected) -> None:
    assert OPERATIONS[name](**arguments) == expected
