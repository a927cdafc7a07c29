"""Every form of convolution equals XLA's own, with its derivatives, and PyTorch's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax

from jaxsal.nets.convolution import convolution, transposed_convolution

# size, kernel, stride, padding: paper's U-Net, per-axis settings, even kernels, odd sizes
CASES = [
    ((6, 6, 6), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    ((8, 6, 4), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    ((7, 5, 9), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    ((6, 7, 5), (3, 1, 5), (1, 2, 1), (1, 0, 2)),
    ((9, 6, 7), (3, 3, 3), (3, 3, 3), (1, 1, 1)),
    ((6, 4, 8), (2, 2, 2), (2, 2, 2), (0, 0, 0)),
    ((5, 6, 4), (1, 1, 1), (1, 1, 1), (0, 0, 0)),
    ((8, 8, 8), (1, 1, 1), (2, 2, 2), (0, 0, 0)),
]
FORMS = ["columns", "taps", "xla", None]
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


@pytest.mark.parametrize("form", FORMS)
def test_convolution_equals_xla_with_its_jvp_and_vjp(case, form):
    x, kernel, stride, padding = case

    def ours(x, kernel):
        return convolution(x, kernel, stride=stride, padding=padding, form=form)

    def theirs(x, kernel):
        return reference(x, kernel, stride, padding)

    tangents = normal(2, x.shape), normal(3, kernel.shape)
    for a, b in zip(
        jax.jvp(ours, (x, kernel), tangents), jax.jvp(theirs, (x, kernel), tangents), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)
    y, pull = jax.vjp(ours, x, kernel)
    _, pull_reference = jax.vjp(theirs, x, kernel)
    cotangent = normal(4, y.shape)
    for a, b in zip(pull(cotangent), pull_reference(cotangent), strict=True):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=5 * TOLERANCE)


@pytest.mark.parametrize("form", FORMS)
def test_batched_pull_backs_equal_single_ones(case, form):
    x, kernel, stride, padding = case
    y, pull = jax.vjp(
        lambda x: convolution(x, kernel, stride=stride, padding=padding, form=form), x
    )
    cotangents = normal(5, (3, *y.shape))
    batched = jax.vmap(lambda c: pull(c)[0])(cotangents)
    for one, cotangent in zip(batched, cotangents, strict=True):
        np.testing.assert_allclose(one, pull(cotangent)[0], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding"),
    [
        ((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1)),
        ((3, 3, 3), (1, 1, 1), (1, 1, 1), (0, 0, 0)),
        ((3, 5, 1), (2, 3, 1), (1, 2, 0), (1, 2, 0)),
        ((2, 2, 1), (2, 2, 1), (0, 0, 0), (0, 0, 0)),
    ],
)
def test_transposed_convolution_equals_pytorch(kernel, stride, padding, output_padding, form):
    y, w = normal(0, (2, 3, 4, 5, 4)), normal(1, (*kernel, 3, 4))
    ours = transposed_convolution(
        y, w, stride=stride, padding=padding, output_padding=output_padding, form=form
    )
    theirs = torch.nn.functional.conv_transpose3d(
        torch.tensor(np.moveaxis(np.asarray(y), -1, 1)),
        torch.tensor(np.transpose(np.asarray(w), (4, 3, 0, 1, 2))),
        stride=stride,
        padding=padding,
        output_padding=output_padding,
    )
    np.testing.assert_allclose(
        ours, np.moveaxis(theirs.numpy(), 1, -1), rtol=TOLERANCE, atol=TOLERANCE
    )


@pytest.mark.parametrize("form", FORMS)
def test_transposed_convolution_is_differentiable_in_both_modes(form):
    y, w = normal(0, (1, 3, 2, 4, 4)), normal(1, (3, 3, 3, 2, 4))

    def apply(y, w):
        return transposed_convolution(
            y, w, stride=(2, 2, 2), padding=(1, 1, 1), output_padding=(1, 1, 1), form=form
        )

    def adjoint(y, w):  # <conv_T(y), z> = <y, conv(z)> gives the same scalar
        return (y * reference(z, w, (2, 2, 2), (1, 1, 1))).sum()

    z = normal(2, apply(y, w).shape)
    ours = jax.grad(lambda y, w: (apply(y, w) * z).sum(), argnums=(0, 1))(y, w)
    for a, b in zip(ours, jax.grad(adjoint, argnums=(0, 1))(y, w), strict=True):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=10 * TOLERANCE)
    tangent = jax.jvp(apply, (y, w), (y, w))[1]
    np.testing.assert_allclose(tangent, 2 * apply(y, w), rtol=TOLERANCE, atol=10 * TOLERANCE)


@pytest.mark.parametrize("form", ["columns", "taps"])
def test_forms_keep_the_dtype(form):
    x = jnp.ones((1, 4, 4, 4, 2), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 3, 2, 3), jnp.bfloat16)
    assert convolution(x, kernel, padding=(1, 1, 1), form=form).dtype == jnp.bfloat16
