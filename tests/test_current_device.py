"""Which device programs are traced for."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsal.current_device import current_device, tracing_for
from jaxsal.nets.convolution import convolution


@dataclass(frozen=True)
class Abstract:
    platform: str


TPU = Abstract("tpu")


def test_a_function_is_traced_for_each_device_and_found_again() -> None:
    traced = []

    @jax.jit
    def function(x: jax.Array) -> jax.Array:
        traced.append(current_device().platform)
        return x + 1

    own = current_device().platform
    x = jnp.zeros(2)
    function(x)
    with tracing_for(TPU):
        np.testing.assert_array_equal(function(x), 1)  # computed here all the same
        function(x)
        jax.make_jaxpr(function)(x)
    function(x)
    assert traced == [own, "tpu"]


def test_convolutions_take_the_form_of_the_device_that_is_named() -> None:
    x, kernel = jnp.zeros((1, 4, 4, 4, 2)), jnp.zeros((3, 3, 3, 2, 2))
    program = jax.jit(convolution)

    def forms() -> set[str]:
        (call,) = jax.make_jaxpr(program)(x, kernel).eqns
        return {equation.primitive.name for equation in call.params["jaxpr"].eqns}

    assert "conv_general_dilated" not in forms()
    with tracing_for(TPU):
        assert forms() == {"conv_general_dilated"}
    assert "conv_general_dilated" not in forms()


def test_the_device_is_what_it_was_after_an_error() -> None:
    before = current_device()
    with pytest.raises(KeyError), tracing_for(TPU):
        raise KeyError
    assert current_device() == before
