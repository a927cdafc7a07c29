"""Sums over space for each channel, their transpose, and batches of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsal.nets.standardise import standardise
from jaxsal.nets.sums_over_space import spread_over_space, sums_over_space

AXES = (1, 2, 3)
SIZES = [(4, 2, 1), (3, 1, 2), (1, 2, 5), (2, 3, 6)]  # (X, Y, Z); one array is halved along Z


def arrays(size: tuple[int, ...], count: int, examples: int = 2) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal((examples, *size, 3), np.float32) for _ in range(count)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("axes", [AXES, (2, 3), (3,)])
def test_sums_are_numpys(size: tuple[int, ...], count: int, axes: tuple[int, ...]) -> None:
    given = arrays(size, count)
    found = sums_over_space([jnp.asarray(each) for each in given], axes)
    for sums, each in zip(found, given, strict=True):
        expected = each.sum(axes, dtype=np.float64, keepdims=True)
        np.testing.assert_allclose(sums, expected, rtol=1e-6, atol=1e-6)  # of 36 numbers at most


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("transform", [jax.jit, lambda f: f], ids=["compiled", "one by one"])
def test_sums_and_spreading_are_each_others_transpose(
    count: int, transform: Callable[[Any], Any]
) -> None:
    given = [jnp.asarray(each) for each in arrays((3, 2, 5), count)]
    numbers = [each[:, :1, :1, :1] for each in given]

    def sums(values: list[jax.Array]) -> tuple[jax.Array, ...]:
        return sums_over_space(values, AXES)

    def spread(values: list[jax.Array]) -> tuple[jax.Array, ...]:
        return tuple(spread_over_space(values, given[0], AXES))

    (spread_back,) = transform(jax.linear_transpose(sums, given))(tuple(numbers))
    for found, number in zip(spread_back, numbers, strict=True):
        np.testing.assert_array_equal(found, np.broadcast_to(number, found.shape))
    (summed_back,) = transform(jax.linear_transpose(spread, numbers))(tuple(given))
    for found, expected in zip(summed_back, sums(given), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_sum_that_nothing_depends_on_has_no_derivative() -> None:
    first, second = (jnp.asarray(each) for each in arrays((3, 2, 5), 2))

    def of_first(values: list[jax.Array]) -> jax.Array:
        return jnp.square(sums_over_space(values, AXES)[0]).sum()

    by_first, by_second = jax.grad(of_first)([first, second])
    expected = np.broadcast_to(2 * first.sum(AXES, keepdims=True), first.shape)
    np.testing.assert_allclose(by_first, expected, rtol=1e-5)
    np.testing.assert_array_equal(by_second, np.zeros_like(second))


@pytest.mark.parametrize("batch", [(0, None), (None, 1), (2, 0)], ids=str)
def test_batches_equal_single_examples(batch: tuple[int | None, int | None]) -> None:
    given = [jnp.asarray(each) for each in arrays((2, 3, 4), 2, examples=5)]
    moved = [
        each if axis is None else jnp.moveaxis(jnp.stack([each, 2 * each]), 0, axis)
        for each, axis in zip(given, batch, strict=True)
    ]

    def both(*values: jax.Array) -> list[jax.Array]:
        return spread_over_space(sums_over_space(values, AXES), given[0], AXES)

    found = jax.vmap(both, in_axes=batch)(*moved)
    for example in range(2):
        chosen = [
            each if axis is None else jnp.take(each, example, axis)
            for each, axis in zip(moved, batch, strict=True)
        ]
        for batched, single in zip(found, both(*chosen), strict=True):
            np.testing.assert_allclose(batched[example], single, rtol=1e-6, atol=1e-6)


def test_the_derivative_by_one_of_two_arrays_whose_sums_meet() -> None:
    first, second = (jnp.asarray(each) for each in arrays((3, 2, 5), 2))

    def product(first: jax.Array) -> jax.Array:
        one, other = sums_over_space([first, second], AXES)
        return (one * other).sum()

    expected = np.broadcast_to(second.sum(AXES, keepdims=True), first.shape)
    np.testing.assert_allclose(jax.grad(product)(first), expected, rtol=1e-5, atol=1e-5)


def test_sums_of_many_numbers_err_little_from_float64() -> None:
    x = 3 + np.random.default_rng(0).standard_normal((1, 64, 64, 64, 2), np.float32)
    (found,) = jax.jit(lambda x: sums_over_space([x], AXES))(x)
    np.testing.assert_allclose(found, x.sum(AXES, np.float64, keepdims=True), rtol=1e-6)


def test_a_norms_pull_back_takes_both_of_its_sums_in_one_pass() -> None:
    (x,) = (jnp.asarray(each) for each in arrays((4, 4, 4), 1))
    pull_back = jax.vjp(lambda x: standardise(x, AXES, 1e-5), x)[1]
    operations = within(jax.make_jaxpr(pull_back)(x).jaxpr)
    (sums,) = (each for each in operations if each.primitive.name == "sums_over_space")
    assert len(sums.invars) == 2


def within(jaxpr: Any) -> Iterator[Any]:
    """All operations, those of inner programs too."""
    for operation in jaxpr.eqns:
        yield operation
        for parameter in operation.params.values():
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from within(inner)
