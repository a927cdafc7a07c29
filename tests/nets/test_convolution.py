"""Every form of convolution equals XLA's own, with its derivatives, and PyTorch's."""

from __future__ import annotations

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers.thorough import thorough_except
from jax import lax

import jaxsal.nets.by_products
from jaxsal.nets.convolution import convolution, transposed_convolution

# size, kernel, stride, padding: paper's U-Net, per-axis settings, even kernels, odd sizes
CASES = [
    ((8, 6, 4), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    ((7, 5, 9), (3, 1, 3), (2, 2, 1), (1, 0, 1)),
    ((6, 7, 5), (3, 1, 5), (1, 3, 1), (1, 0, 2)),
    ((6, 4, 8), (2, 2, 2), (2, 2, 2), (0, 0, 0)),
    ((5, 6, 4), (1, 1, 1), (1, 1, 1), (0, 0, 0)),
]
FORMS = ["columns", "separable", "rows", "planes", "stacked", "phases", "xla"]
BLOCKS = [  # size, kernel and stride, padding
    ((8, 6, 4), (2, 2, 2), (0, 0, 0)),
    ((7, 9, 5), (3, 4, 1), (0, 0, 0)),
    ((7, 9, 5), (3, 4, 2), (1, 2, 0)),
]
TOLERANCE = 2e-5  # float32 sums of at most 45 * 3 products of standard normal numbers


def reference(x, kernel, stride, padding):
    return lax.conv_general_dilated(
        x,
        kernel,
        stride,
        [(p, p) for p in padding],
        dimension_numbers=("NHWDC", "HWDIO", "NHWDC"),
        precision="highest",
    )


def normal(seed, shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.fixture(params=CASES, ids=str)
def case(request):
    size, kernel, stride, padding = request.param
    return normal(0, (2, *size, 3)), normal(1, (*kernel, 3, 4)), stride, padding


def derivatives(function, x, kernel, tangents, cotangent):
    """Value, jvp and vjp in one compiled program."""
    y, pull = jax.vjp(function, x, kernel)
    return y, jax.jvp(function, (x, kernel), tangents)[1], *pull(cotangent)


@pytest.mark.parametrize("form", FORMS)
def test_convolution_equals_xla_with_its_jvp_and_vjp(case, form):
    x, kernel, stride, padding = case
    tangents = normal(2, x.shape), normal(3, kernel.shape)
    shape = jax.eval_shape(lambda: reference(x, kernel, stride, padding)).shape
    cotangent = normal(4, shape)

    def ours(x, kernel):
        return convolution(x, kernel, stride=stride, padding=padding, form=form)

    def theirs(x, kernel):
        return reference(x, kernel, stride, padding)

    found, expected = (
        jax.jit(partial(derivatives, function))(x, kernel, tangents, cotangent)
        for function in (ours, theirs)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=5 * TOLERANCE)


@pytest.mark.parametrize(
    ("size", "kernel", "padding", "plane"),
    [
        ((7, 5, 4), (3, 3, 3), (1, 1, 1), 5 * 4 * 9),
        ((7, 5, 4), (3, 3, 3), (1, 1, 1), 5 * 4 * 3),
        ((5, 4, 6), (5, 1, 3), (2, 0, 1), 4 * 6 * 9),
        ((6, 3, 4), (4, 3, 2), (0, 1, 0), 3 * 4 * 6),
    ],
)
def test_slabs_equal_xla_with_second_derivatives(monkeypatch, size, kernel, padding, plane):
    monkeypatch.setattr(jaxsal.nets.by_products, "_SLAB_BYTES", 4 * plane)
    check_second_derivatives("rows", size, kernel, padding)


@pytest.mark.parametrize(
    ("size", "kernel", "padding"),
    [
        ((7, 5, 4), (3, 3, 3), (1, 1, 1)),
        ((5, 4, 6), (3, 1, 2), (0, 0, 1)),
        ((2, 3, 4), (3, 3, 1), (1, 1, 0)),
    ],
)
def test_winograd_equals_xla_with_second_derivatives(size, kernel, padding):
    check_second_derivatives("winograd", size, kernel, padding)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((7, 5, 4), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
        ((6, 7, 5), (2, 4, 3), (1, 3, 2), (0, 2, 1)),
    ],
)
@pytest.mark.parametrize("form", ["planes", "phases"])
def test_planes_equal_xla_with_second_derivatives(form, size, kernel, stride, padding):
    check_second_derivatives(form, size, kernel, padding, stride)


@pytest.mark.parametrize(("size", "kernel", "padding"), BLOCKS)
def test_blocks_equal_xla_with_second_derivatives(size, kernel, padding):
    check_second_derivatives("blocks", size, kernel, padding, kernel)


@pytest.mark.parametrize(("size", "kernel", "padding"), BLOCKS)
def test_transposed_blocks_equal_xla_with_their_derivatives(size, kernel, padding):
    y, w = normal(0, (2, *size, 4)), normal(1, (*kernel, 3, 4))
    found, expected = (
        jax.jit(
            jax.value_and_grad(
                lambda y, w, form=form: jnp.sum(
                    jnp.sin(transposed_convolution(y, w, stride=kernel, padding=padding, form=form))
                ),
                (0, 1),
            )
        )(y, w)
        for form in ("blocks", "xla")
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_blocks_refuse_kernels_of_another_size_than_their_stride():
    with pytest.raises(ValueError, match=r"stride's size, \(2, 2, 2\); got \(3, 3, 3\)"):
        convolution(
            jnp.ones((1, 6, 6, 6, 2)), jnp.ones((3, 3, 3, 2, 2)), stride=(2, 2, 2), form="blocks"
        )


@pytest.mark.parametrize(
    ("size", "channels", "kernel", "stride", "form"),
    [
        (32, 2, (16, 16, 16), (16, 16, 16), "blocks"),
        (16, 2, (2, 2, 2), (2, 2, 2), "rows"),
        (8, 20, (5, 5, 5), (1, 1, 1), "planes"),
        (8, 4, (5, 5, 5), (1, 1, 1), "stacked"),
        (16, 20, (7, 7, 7), (2, 2, 2), "planes"),
        (4, 20, (5, 5, 5), (1, 1, 1), "rows"),
        (8, 8, (3, 3, 3), (1, 1, 1), "stacked"),
        (8, 20, (3, 3, 3), (1, 1, 1), "winograd"),
        (4, 20, (3, 3, 3), (1, 1, 1), "columns"),
        (8, 4, (11, 11, 11), (1, 1, 1), "rows"),
        (16, 2, (3, 3, 3), (2, 2, 2), "stacked"),
        (16, 20, (3, 3, 3), (2, 2, 2), "columns"),
        (16, 31, (3, 3, 3), (2, 2, 2), "columns"),
        (16, 40, (3, 3, 3), (2, 2, 2), "phases"),
        (16, 40, (5, 5, 5), (2, 2, 2), "phases"),
        (16, 40, (7, 7, 7), (2, 2, 2), "planes"),
        (16, 40, (1, 3, 3), (1, 2, 2), "planes"),
        (32, 40, (5, 5, 5), (4, 4, 4), "planes"),
        (8, 30, (1, 3, 3), (1, 1, 1), "planes"),
    ],
)
def test_the_form_suits_the_sizes(size, channels, kernel, stride, form):
    x, w = jnp.ones((1, *(size,) * 3, channels)), jnp.ones((*kernel, channels, 4))

    def equations(form):
        padding = tuple(k // 2 if k > size else 0 for k in kernel)
        convolve = partial(convolution, stride=stride, padding=padding, form=form)
        return str(jax.make_jaxpr(convolve)(x, w))

    assert equations(None) == equations(form)


def test_patches_of_a_transformer_are_cut_in_few_operations():
    x, w = jnp.ones((1, 32, 32, 32, 2)), jnp.ones((16, 16, 16, 2, 4))
    convolve = partial(convolution, stride=(16, 16, 16))
    assert len(jax.make_jaxpr(convolve)(x, w).jaxpr.eqns) < 10


@pytest.mark.parametrize(
    ("form", "stride"),
    [("planes", (2, 2, 2)), ("phases", (2, 2, 2)), ("winograd", (1, 1, 1))],
    ids=str,
)
@pytest.mark.parametrize("convolve", [convolution, transposed_convolution])
def test_2d_convolutions_of_pull_backs_have_the_axes_that_are_fast_in_loops(form, stride, convolve):
    x, kernel = jnp.ones((1, 6, 6, 6, 3)), jnp.ones((3, 3, 3, 3, 3))

    def pulled(x, scale):
        y, pull = jax.vjp(partial(convolve, kernel=kernel, stride=stride, form=form), x)
        return pull(scale * y)

    equations = jax.make_jaxpr(pulled)(x, 2.0).jaxpr.eqns
    convolutions = [e for e in equations if e.primitive.name == "conv_general_dilated"]
    outputs_last = {tuple(e.params["dimension_numbers"].rhs_spec) for e in convolutions}
    assert outputs_last == {(3, 2, 0, 1)}


IN_A_ROW = [
    ("planes", (40, 41, 43), 3, 2, (1, 0, 1), convolution),
    ("planes", (41, 40, 43), 4, 2, (0, 0, 0), convolution),
    ("stacked", (20, 20, 22), 3, 1, (1, 0, 1), convolution),
    ("phases", (40, 41, 43), 3, 2, (1, 0, 1), convolution),
    ("phases", (41, 40, 43), 3, 2, (0, 0, 0), convolution),
    ("winograd", (33, 32, 33), 3, 1, (1, 0, 1), convolution),
    ("planes", (20, 21, 21), 3, 2, (1, 0, 1), transposed_convolution),
    ("planes", (20, 20, 21), 4, 2, (0, 0, 0), transposed_convolution),
    ("phases", (20, 21, 21), 3, 2, (1, 0, 1), transposed_convolution),
    ("phases", (20, 20, 21), 3, 2, (0, 0, 0), transposed_convolution),
    ("winograd", (33, 32, 33), 3, 1, (1, 0, 1), transposed_convolution),
]


# Quick: each form, with padding and without, and a transposed one.
@pytest.mark.parametrize(
    ("form", "size", "kernel", "stride", "padding", "convolve"),
    thorough_except(IN_A_ROW, *(IN_A_ROW[i] for i in (1, 2, 3, 5, 8))),
)
def test_planes_in_a_row_equal_xla_with_their_derivatives(
    form, size, kernel, stride, padding, convolve
):
    x, weights = normal(0, (2, *size, 2)), normal(1, (kernel,) * 3 + (2, 2))
    tangents = normal(2, x.shape), normal(3, weights.shape)
    of = partial(convolve, stride=(stride,) * 3, padding=padding)
    cotangent = normal(4, jax.eval_shape(of, x, weights).shape)
    assert set(planes_at_once(lambda x: of(x, weights, form=form), x)) == {2}
    found, expected = (
        jax.jit(partial(derivatives, partial(of, form=f)))(x, weights, tangents, cotangent)
        for f in (form, "xla")
    )
    *values, (by_weights, sums) = zip(found, expected, strict=True)
    for a, b in values:
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=10 * TOLERANCE)
    # a sum over some 60,000 positions
    np.testing.assert_allclose(by_weights, sums, rtol=TOLERANCE, atol=1e-5 * np.abs(sums).max())


@pytest.mark.parametrize(
    ("size", "outputs", "shared", "planes"),
    [
        ((32, 16, 16), 8, True, 1),
        ((32, 16, 16), 8, False, 32),
        ((32, 16, 16), 128, True, 32),
        ((31, 16, 16), 8, True, 31),
        ((32, 64, 4), 8, True, 32),
    ],
    ids=["large", "not shared", "many outputs", "small", "narrow"],
)
def test_planes_lie_in_a_row_where_cores_share_a_large_convolution(size, outputs, shared, planes):
    def convolve(x):
        kernel = jnp.ones((3, 3, 3, 2, outputs))
        return convolution(x, kernel, padding=(1, 1, 1), form="stacked", shared=shared)

    assert planes_at_once(convolve, jnp.ones((1, *size, 2))) == [planes]


def test_planes_of_a_derivative_lie_apart():
    def pull_back(x):
        kernel = jnp.ones((3, 3, 3, 2, 8))
        y, pull = jax.vjp(partial(convolution, kernel=kernel, padding=(1, 1, 1), form="stacked"), x)
        return pull(y)

    assert planes_at_once(pull_back, jnp.ones((1, 32, 16, 16, 2))) == [1, 32]


def planes_at_once(function, x):
    """The batch of each 2D convolution."""
    text = jax.jit(function).lower(x).as_text()
    return [int(batch) for batch in re.findall(r"stablehlo.convolution.*?: \(tensor<(\d+)x", text)]


def test_planes_in_a_row_are_the_same_on_two_devices_at_once():
    x, kernel = normal(0, (1, 32, 32, 32, 32)), normal(1, (3, 3, 3, 32, 32))
    program = jax.jit(partial(convolution, padding=(1, 1, 1), form="winograd"))
    expected = np.asarray(program(x, kernel))
    there = [jax.device_put((x, kernel), device) for device in jax.local_devices()[:2]]
    assert len(there) == 2
    found = [program(*each) for _ in range(8) for each in there]
    for each in found:
        np.testing.assert_array_equal(each, expected)


def test_winograd_errs_little_from_float64():
    x, w = normal(0, (1, 8, 6, 6, 64)), normal(1, (3, 3, 3, 64, 16))
    found, pull = jax.vjp(lambda x: convolution(x, w, padding=(1, 1, 1), form="winograd"), x)
    torch_x = torch.tensor(np.moveaxis(np.asarray(x, np.float64), -1, 1), requires_grad=True)
    torch_w = torch.tensor(np.transpose(np.asarray(w, np.float64), (4, 3, 0, 1, 2)))
    expected = torch.nn.functional.conv3d(torch_x, torch_w, padding=1)
    expected.square().sum().backward()
    exact = np.moveaxis(expected.detach().numpy(), 1, -1)
    gradient = np.moveaxis(torch_x.grad.numpy(), 1, -1)
    cotangent = jnp.asarray(2 * exact, jnp.float32)
    for a, b in ((found, exact), (pull(cotangent)[0], gradient)):
        assert np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)) < 1e-6


def test_winograd_refuses_other_kernels():
    x = jnp.ones((1, 6, 6, 6, 2))
    for size, stride in (((2, 3, 3), (1, 1, 1)), ((3, 3, 3), (1, 2, 1))):
        with pytest.raises(ValueError, match="unstrided kernel of 3 along the first axis"):
            convolution(x, jnp.ones((*size, 2, 2)), stride=stride, form="winograd")


def check_second_derivatives(form, size, kernel, padding, stride=(1, 1, 1)):
    """Values, gradients one by one under vmap, and forward over reverse."""
    x, w = normal(0, (2, *size, 3)), normal(1, (*kernel, 3, 4))
    tangents = normal(2, x.shape), normal(3, w.shape)

    def results(function):
        def gradients(x, w):
            return jax.grad(lambda x, w: jnp.sum(jnp.sin(function(x, w))), (0, 1))(x, w)

        def evaluate(x, w):
            batched = jax.vmap(lambda x: gradients(x[None], w))(x)
            return function(x, w), batched, jax.jvp(gradients, (x, w), tangents)

        return jax.tree.leaves(jax.jit(evaluate)(x, w))

    found = results(partial(convolution, stride=stride, padding=padding, form=form))
    expected = results(lambda x, w: reference(x, w, stride, padding))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("form", FORMS)
def test_batched_pull_backs_equal_single_ones(form):
    x, kernel = normal(0, (2, 6, 5, 4, 3)), normal(1, (3, 3, 3, 3, 4))

    @jax.jit
    def pull_backs(cotangents):
        _, pull = jax.vjp(
            lambda x: convolution(x, kernel, stride=(2, 2, 2), padding=(1, 1, 1), form=form), x
        )
        single = [pull(cotangent)[0] for cotangent in cotangents]
        return jax.vmap(lambda c: pull(c)[0])(cotangents), jnp.stack(single)

    batched, single = pull_backs(normal(5, (3, 2, 3, 3, 2, 4)))
    np.testing.assert_allclose(batched, single, rtol=TOLERANCE, atol=TOLERANCE)


def test_transposed_winograd_equals_xla_with_its_derivatives():
    y, kernel = normal(0, (2, 7, 5, 4, 4)), normal(1, (3, 3, 3, 3, 4))
    tangents, cotangent = (normal(2, y.shape), normal(3, kernel.shape)), normal(4, (2, 7, 5, 4, 3))

    def of(form):
        transposed = partial(transposed_convolution, padding=(1, 1, 1), form=form)
        return jax.jit(partial(derivatives, transposed))(y, kernel, tangents, cotangent)

    for a, b in zip(of("winograd"), of("xla"), strict=True):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=10 * TOLERANCE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding"),
    [
        ((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1)),
        ((3, 3, 3), (1, 1, 1), (1, 1, 1), (0, 0, 0)),
        ((3, 5, 1), (2, 3, 1), (1, 2, 0), (1, 2, 0)),
        ((2, 2, 1), (2, 2, 1), (0, 0, 0), (0, 0, 0)),
        ((1, 3, 2), (2, 2, 3), (0, 1, 0), (1, 0, 2)),
    ],
)
def test_transposed_convolution_equals_pytorch_with_its_derivatives(
    kernel, stride, padding, output_padding, form
):
    y, w = normal(0, (2, 3, 4, 5, 4)), normal(1, (*kernel, 3, 4))
    settings = {"stride": stride, "padding": padding, "output_padding": output_padding}

    def apply(y, w):
        return transposed_convolution(y, w, **settings, form=form)

    torch_y = torch.tensor(np.moveaxis(np.asarray(y), -1, 1), requires_grad=True)
    torch_w = torch.tensor(np.transpose(np.asarray(w), (4, 3, 0, 1, 2)), requires_grad=True)
    expected = torch.nn.functional.conv_transpose3d(torch_y, torch_w, **settings)
    expected.backward(torch.cos(expected.detach()))

    @jax.jit
    def value_and_gradients(y, w):
        value, pull = jax.vjp(apply, y, w)
        return value, jax.jvp(apply, (y, w), (y, w))[1], *pull(jnp.cos(value))

    value, tangent, y_gradient, w_gradient = value_and_gradients(y, w)
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    close(value, np.moveaxis(expected.detach().numpy(), 1, -1))
    close(tangent, 2 * value)  # bilinear: the derivative along itself is twice the value
    close(y_gradient, np.moveaxis(torch_y.grad.numpy(), 1, -1))
    close(w_gradient, np.transpose(torch_w.grad.numpy(), (2, 3, 4, 1, 0)))


@pytest.mark.parametrize("convolve", [convolution, transposed_convolution])
@pytest.mark.parametrize("form", ["columns", "separable", "rows", "phases"])
def test_forms_keep_the_dtype(form, convolve):
    x = jnp.ones((1, 4, 4, 4, 3), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 3, 3, 3), jnp.bfloat16)
    assert convolve(x, kernel, padding=(1, 1, 1), form=form).dtype == jnp.bfloat16
