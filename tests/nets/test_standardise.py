"""Standardised arrays and their derivatives equal those of the formula written out in PyTorch."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxsal.nets.standardise import standardise

EPSILON = 1e-3
SHAPE = (2, 3, 4, 3, 2)  # (B, X, Y, Z, C)
# The axes and the number of groups that are given, and the axes over which means are taken.
CASES: dict[str, tuple[tuple[int, ...], int | None, tuple[int, ...]]] = {
    "instance": ((1, 2, 3), None, (1, 2, 3)),
    "from the end": ((-4, -3, -2), None, (1, 2, 3)),
    "layer": ((4,), None, (4,)),
    "channels, from the end": ((-1,), None, (4,)),
    "trailing": ((4, 1, 2, 3), None, (4, 1, 2, 3)),
    "one group": ((1, 2, 3), 1, (1, 2, 3, 4)),
}
# of x, a cotangent and two tangents
ARRAYS = [3 + np.random.default_rng(seed).standard_normal(SHAPE) for seed in range(4)]


def written_out(x: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(axes, keepdim=True) + EPSILON)


def derivatives(f: Any, jvp: Any, vjp: Any, arrays: Any) -> dict[str, Any]:
    """Derivatives of f up to the third order, in the modes that their names say."""
    x, cotangent, first, second = arrays

    def pull_back(x: Any) -> Any:
        return vjp(f, x)[1](cotangent)[0]

    def push(x: Any) -> Any:
        return jvp(f, (x,), (first,))[1]

    def push_pull_back(x: Any) -> Any:
        return jvp(pull_back, (x,), (first,))[1]

    return {
        "value": f(x),
        "vjp": pull_back(x),
        "jvp": push(x),
        "jvp of vjp": push_pull_back(x),
        "vjp of jvp": vjp(push, x)[1](cotangent)[0],
        "vjp of vjp": vjp(pull_back, x)[1](first)[0],
        "jvp of jvp": jvp(push, (x,), (second,))[1],
        "jvp of jvp of vjp": jvp(push_pull_back, (x,), (second,))[1],
        "vjp of jvp of vjp": vjp(push_pull_back, x)[1](second)[0],
    }


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize(("axes", "groups", "means"), CASES.values(), ids=CASES)
def test_derivatives_of_orders_one_to_three(
    axes: tuple[int, ...], groups: int | None, means: tuple[int, ...]
) -> None:
    tensors = [torch.from_numpy(array) for array in ARRAYS]
    expected = derivatives(lambda x: written_out(x, means), torch.func.jvp, torch.func.vjp, tensors)
    with jax.enable_x64(True):

        def ours(arrays: list[jax.Array]) -> dict[str, jax.Array]:
            standard = partial(standardise, axes=axes, epsilon=EPSILON, groups=groups)
            return derivatives(standard, jax.jvp, jax.vjp, arrays)

        found = jax.jit(ours)([jnp.asarray(array) for array in ARRAYS])
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.parametrize(("axes", "groups", "means"), CASES.values(), ids=CASES)
def test_many_cotangents_at_once(
    axes: tuple[int, ...], groups: int | None, means: tuple[int, ...]
) -> None:
    x, *cotangents = (torch.from_numpy(array) for array in ARRAYS)
    pull_back = torch.func.vjp(lambda x: written_out(x, means), x)[1]
    expected = [pull_back(cotangent)[0] for cotangent in cotangents]
    with jax.enable_x64(True):
        standard = partial(standardise, axes=axes, epsilon=EPSILON, groups=groups)
        linear = jax.vjp(standard, jnp.asarray(ARRAYS[0]))[1]
        (found,) = jax.vmap(linear)(jnp.stack(ARRAYS[1:]))
    np.testing.assert_allclose(found, torch.stack(expected), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_only_the_result_and_a_number_per_mean_are_kept(dtype: Any) -> None:
    def linear(x: jax.Array) -> Any:
        return jax.vjp(lambda x: standardise(x, (1, 2, 3), EPSILON), x)[1]

    x = jax.ShapeDtypeStruct(SHAPE, dtype)
    kept = jax.tree.leaves(jax.eval_shape(linear, x))
    means = SHAPE[0] * SHAPE[-1]
    # beside them single numbers may be kept, such as how many values a mean is taken over
    assert sum(_bytes(leaf) for leaf in kept if leaf.size > 1) <= _bytes(x) + 4 * means


def _bytes(array: jax.ShapeDtypeStruct) -> int:
    return array.size * array.dtype.itemsize


def test_means_of_bfloat16_are_taken_in_float32() -> None:
    x = jnp.asarray(30 * ARRAYS[0], jnp.bfloat16)  # a mean of 90 would be rounded by up to 0.25
    expected = written_out(torch.from_numpy(np.asarray(x, np.float64)), (1, 2, 3))
    found = standardise(x, (1, 2, 3), EPSILON)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=2**-8, atol=2**-10)
