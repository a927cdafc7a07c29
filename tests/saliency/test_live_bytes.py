"""How much memory a program takes, beside counts by hand and what the compiler takes."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxsal.current_device import tracing_for
from jaxsal.saliency.lending import lent
from jaxsal.saliency.live_bytes import live_bytes, stored_bytes

N = 1000
BYTES = 4 * N


@dataclass(frozen=True)
class Abstract:
    platform: str


@pytest.fixture(autouse=True)
def _for_a_gpu():
    with tracing_for(Abstract("gpu")):
        yield


def test_what_is_between_pointwise_functions_takes_nothing():
    def chain(x):
        for _ in range(10):
            x = jnp.sin(x) + 1
        return x

    assert live_bytes(chain, jnp.zeros(N)) == (0, BYTES)


def test_what_products_read_and_return_is_alive_until_it_was_read():
    matrix = jnp.zeros((20, 20))

    def products(x):
        for _ in range(9):
            x = jnp.sin(x @ matrix)
        return x

    # a product and its sine; the last sine is the result
    assert live_bytes(products, matrix) == (2 * 1600, 1600)


def test_values_needed_later_stay():
    def fan(x):
        sums = [jnp.cumsum(x + i) for i in range(5)]
        return jnp.stack([jnp.cumsum(s * sums[-1]) for s in sums])

    # the last sum with the four others and, of these, what replaces them one by one
    assert live_bytes(fan, jnp.zeros(N)) == (6 * BYTES, 5 * BYTES)


def test_what_no_result_depends_on_is_not_counted():
    def function(x):
        jnp.cumsum(x)
        return x + 1

    assert live_bytes(function, jnp.zeros(N))[0] == 0


def test_products_along_different_axes_read_copies():
    def function(x, y):
        z = jnp.sin(x)
        return z @ y, z.T @ y

    x = jnp.zeros((20, 20))
    # the sine; what of it the second product reads lies where the first one's result will
    assert live_bytes(function, x, x) == (1600, 2 * 1600)


def test_a_result_that_needs_nothing_more_is_made_at_once():
    matrix = jnp.zeros((20, 20))

    def slopes(x):
        y = x @ matrix
        z = jnp.sin(y) @ matrix
        w = jnp.sin(z) @ matrix
        return w, jnp.cos(y), jnp.cos(z)

    # The first product lies where the last one will, its sine where the second cosine will, the
    # second product like the first; the second sine finds both taken.
    assert live_bytes(slopes, matrix) == (1600, 3 * 1600)


def test_memory_of_results_that_are_not_yet_written_is_lent():
    spans = {"a": (0, 1), "b": (1, 2), "c": (3, 4), "d": (3, 4), "last": (4, 9), "early": (2, 9)}
    sizes = {"a": 6, "b": 6, "c": 7, "d": 9, "last": 8, "early": 6}
    # d is larger than either result; c would fit the last one, which is written as c is read; a
    # goes to the early one's memory and b, which touches a there, to the last one's
    assert lent(spans, sizes, {"last", "early"}) == {"a", "b"}
    assert lent(spans, {**sizes, "last": 5}, {"last", "early"}) == {"a"}
    assert lent({**spans, "c": (2, 3)}, sizes, {"last", "early"}) == {"a", "c"}
    assert lent(spans, sizes, set()) == set()


def test_an_argument_that_is_returned_lends_the_memory_of_its_copy():
    matrix, large = jnp.zeros((20, 20)), jnp.zeros(N)

    def products(x, y):
        return jnp.sin(jnp.sin(x @ x) @ x), y

    # both products and the sine fit beside each other: one in what the sine of the second will
    # take, and one in the copy
    alone, beside = (
        live_bytes(f, matrix, large) for f in (lambda x, y: products(x, y)[0], products)
    )
    assert beside[1] - alone[1] == BYTES
    assert beside[0] < alone[0]


def test_a_loop_takes_what_its_body_takes():
    def function(x):
        return lax.fori_loop(0, 3, lambda _, y: jnp.cumsum(jnp.cumsum(y)), x)

    body = BYTES + BYTES  # a sum and the result; the counter's four bytes besides
    assert live_bytes(function, jnp.zeros(N))[0] == pytest.approx(body, abs=16)


def test_calls_are_looked_into():
    inner = jax.jit(lambda x: jnp.cumsum(jnp.cumsum(x)))
    assert live_bytes(lambda x: inner(inner(x)), jnp.zeros(N)) == (2 * BYTES, BYTES)


def test_a_tpu_holds_arrays_in_tiles():
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((8, 9, 9, 9, 100), (8, 9, 9, 9, 2))]
    assert stored_bytes(shapes) == 4 * 8 * 9**3 * 102
    with tracing_for(Abstract("tpu")):
        # 100 channels fill most lanes and the batch eight rows; beside two channels as rows the
        # lanes are of an axis in space
        assert stored_bytes(shapes) == 4 * 9**2 * (9 * 8 * 128 + 8 * 2 * 128)


def test_on_a_tpu_a_convolution_and_what_follows_are_one():
    kernels = [jnp.zeros((3, 3, 3, 128, 128))] * 2
    layout = ("NHWDC", "HWDIO", "NHWDC")

    def function(x):
        x = jnp.sin(x)
        first, second = (
            lax.conv_general_dilated(x, k, (1, 1, 1), "SAME", dimension_numbers=layout)
            for k in kernels
        )
        return first + second

    x = jnp.zeros((1, 8, 8, 8, 128))
    # what the convolutions read, the first one's result; the second lies where the sum will
    assert live_bytes(function, x) == (2 * x.nbytes, x.nbytes)
    with tracing_for(Abstract("tpu")):
        assert live_bytes(function, x) == (x.nbytes, x.nbytes)


SIDE = 96**3


@pytest.mark.parametrize(
    ("shape", "spec", "tiles"),
    [
        ((32, 96, 96, 96, 100), "NHWDC", SIDE * 32 * 128),  # rows of examples, lanes of channels
        ((32, 96, 96, 96, 16), "NHWDC", SIDE * 128 * 16),  # lanes of examples, rows of channels
        ((32, 16, 96, 96, 96), "NCHWD", SIDE * 128 * 16),
        ((8, 96, 96, 96, 16), "NHWDC", SIDE * 8 * 128),
        ((7, 96, 96, 96, 16), "NHWDC", SIDE * 7 * 128),  # parts of the images are examples
        ((1, 96, 96, 96, 16), "NHWDC", SIDE * 128),
        # small, or of few channels: an axis in space makes the lanes
        ((1, 48, 48, 48, 16), "NHWDC", 48**2 * 128 * 16),
        ((1, 96, 96, 96, 2), "NHWDC", 96**2 * 128 * 2),
        ((0, 96, 96, 96, 16), "NHWDC", 0),
    ],
    ids=str,
)
def test_on_a_tpu_convolutions_read_tiles_of_channels_and_examples(shape, spec, tiles):
    channels = shape[spec.index("C")]
    kernel = jnp.zeros((3, 3, 3, channels, channels), jnp.bfloat16)

    def function(x):
        x, layout = jnp.sin(x), (spec, "HWDIO", spec)
        return lax.conv_general_dilated(x, kernel, (1, 1, 1), "SAME", dimension_numbers=layout)

    x = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    with tracing_for(Abstract("tpu")):
        assert live_bytes(function, x) == (2 * tiles, stored_bytes(x))


def test_on_a_tpu_a_kernel_is_no_image():
    x = jax.ShapeDtypeStruct((1, 8, 8, 8, 16), jnp.float32)

    def function(kernel, x):
        kernel = jnp.sin(kernel)
        layout = ("NHWDC", "IHWDO", "NHWDC")
        return lax.conv_general_dilated(x, kernel, (1, 1, 1), "SAME", dimension_numbers=layout)

    # its longest axis makes the lanes; of an image the channels, 16, would take 128
    kernel = jax.ShapeDtypeStruct((16, 128, 1, 1, 16), jnp.float32)
    with tracing_for(Abstract("tpu")):
        assert live_bytes(function, kernel, x)[0] == 4 * 16 * 128 * 16


def test_on_a_tpu_products_along_different_axes_read_no_copies():
    def function(x):
        y = jnp.sin(x)
        return lax.dot(y, y) + lax.dot_general(y, y, (((0,), (0,)), ((), ())))

    x = jnp.zeros((256, 256))
    # the sine in two ways, and both products
    assert live_bytes(function, x) == (4 * x.nbytes, x.nbytes)
    with tracing_for(Abstract("tpu")):  # the second product lies where the sum will
        assert live_bytes(function, x) == (2 * x.nbytes, x.nbytes)
