"""Attention by head equals attention at once, with its derivatives of three orders, and batched."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxsal.current_device import current_device
from jaxsal.nets.dot_product_attention import dot_product_attention
from jaxsal.nets.tracing import as_traced

WINDOWS, POSITIONS, HEADS, WIDTH = 3, 5, 2, 4
REGIONS = np.array([[0, 0, 0, 0, 0], [0, 1, 0, 1, 2], [2, 2, 0, 0, 0]], np.int32)
ROUNDING = {"float32": 1e-5, "float64": 1e-13}  # of sums of a few numbers, of the largest result

masked = pytest.mark.parametrize("regions", [None, REGIONS], ids=["whole", "shifted"])
forms = pytest.mark.parametrize("form", ["at once", "by head"])


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def inputs(seed: int, batch: int = 2) -> list[np.ndarray]:
    """Query, key, value and bias."""
    shape = (batch, WINDOWS, POSITIONS, HEADS, WIDTH)
    parts = [normal(seed + number, *shape) for number in range(3)]
    return [*parts, normal(seed + 3, HEADS, POSITIONS, POSITIONS)]


def assert_same(ours: Any, theirs: Any, tolerance: float) -> None:
    for our, their in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        their = np.asarray(their)
        np.testing.assert_allclose(our, their, rtol=0, atol=tolerance * np.abs(their).max())


def pytorch(arguments: list[np.ndarray], regions: np.ndarray | None, cotangent: np.ndarray) -> Any:
    """Attention as Swin's authors define it, in float64, and its pull-back."""
    query, key, value, bias = tensors = [
        torch.tensor(each, requires_grad=True) for each in arguments
    ]
    scores = torch.einsum("bwphc,bwqhc->bwhpq", query, key) + bias
    if regions is not None:
        apart = regions[:, None, :, None] != regions[:, None, None, :]
        scores = scores + torch.tensor(np.where(apart, -100.0, 0.0))
    attended = torch.einsum("bwhpq,bwqhc->bwphc", scores.softmax(-1), value)
    attended.backward(torch.tensor(cotangent))
    return attended.detach().numpy(), [each.grad.numpy() for each in tensors]


@forms
@masked
@pytest.mark.parametrize("dtype", ROUNDING)
def test_attention_and_its_pull_back_equal_pytorch(form: Any, regions: Any, dtype: str) -> None:
    arguments, cotangent = inputs(0), normal(9, 2, WINDOWS, POSITIONS, HEADS, WIDTH)
    expected = pytorch(arguments, regions, cotangent)
    with jax.enable_x64(dtype == "float64"):

        @jax.jit
        def evaluate(arguments: Any, cotangent: Any) -> Any:
            y, pull = jax.vjp(
                partial(dot_product_attention, regions=regions, form=form), *arguments
            )
            return y, list(pull(cotangent))

        ours = evaluate([each.astype(dtype) for each in arguments], cotangent.astype(dtype))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(ours)} == {dtype}
    assert_same(ours, expected, ROUNDING[dtype])


def derivatives(form: Any, arguments: Any, tangents: Any, cotangents: Any) -> Any:
    """Of three orders forward, pulled back from each, and Hessians forward over reverse."""

    def value(*arguments: jax.Array) -> jax.Array:
        return dot_product_attention(*arguments, regions=REGIONS, form=form)

    def along(function: Any) -> Any:
        return lambda *arguments: jax.jvp(function, arguments, tangents)[1]

    def pulled(function: Any) -> Any:
        return lambda *arguments: jax.vjp(function, *arguments)[1](cotangents[0])

    first, second = along(value), along(along(value))
    third = along(second)
    several = jax.vmap(jax.vjp(value, *arguments)[1])(cotangents)
    again = jax.vjp(jax.checkpoint(value), *arguments)[1](cotangents[0])
    return (
        [function(*arguments) for function in (value, first, second, third)],
        [pulled(function)(*arguments) for function in (value, first, second)],
        along(pulled(value))(*arguments),
        again,
        several,
    )


def test_derivatives_of_three_orders_are_the_same_in_both_forms() -> None:
    arguments, tangents = tuple(inputs(0)), tuple(inputs(10))
    cotangents = normal(20, 3, 2, WINDOWS, POSITIONS, HEADS, WIDTH)
    with jax.enable_x64(True):
        run = jax.jit(derivatives, static_argnums=0)
        ours = run("by head", arguments, tangents, cotangents)
        theirs = run("at once", arguments, tangents, cotangents)
    assert_same(ours, theirs, 1e-12)


def test_members_of_an_ensemble_have_their_own_biases() -> None:
    *parts, _ = (jnp.asarray(each, jnp.float32) for each in inputs(0))
    biases = jnp.asarray(normal(5, 3, HEADS, POSITIONS, POSITIONS), jnp.float32)

    @partial(jax.jit, static_argnums=0)
    def members(form: Any) -> jax.Array:
        attend = partial(dot_product_attention, *parts, regions=REGIONS, form=form)
        return jax.vmap(attend)(biases)

    assert_same(members("by head"), members("at once"), ROUNDING["float32"])


def test_in_bfloat16_scores_and_sums_are_exact() -> None:
    arguments = [jnp.asarray(each, jnp.bfloat16) for each in inputs(0)]
    exact = dot_product_attention(*(each.astype(jnp.float32) for each in arguments), form="at once")
    rounded = dot_product_attention(*arguments, form="by head")
    assert rounded.dtype == jnp.bfloat16
    # weights, values and results have 8 bits
    assert_same(rounded.astype(jnp.float32), exact, 2**-7)


def test_large_scores_do_not_overflow() -> None:
    query, key, value, bias = (jnp.asarray(each, jnp.float32) for each in inputs(0))
    found = dot_product_attention(query, key, value, bias + 1000.0, form="by head")
    expected = dot_product_attention(query, key, value, bias, form="by head")
    assert_same(found, expected, 1e-3)  # the bias is rounded to 2**-14


@pytest.mark.skipif(current_device().platform != "cpu", reason="the form of a CPU")
def test_what_is_only_traced_has_no_loops() -> None:
    arguments = [jnp.asarray(each, jnp.float32) for each in inputs(0)]

    def operations() -> set[str]:
        jaxpr = jax.make_jaxpr(lambda *a: dot_product_attention(*a, regions=REGIONS))(*arguments)
        return {equation.primitive.name for equation in jaxpr.eqns}

    assert "scan" in operations()
    with as_traced():
        assert "scan" not in operations()
