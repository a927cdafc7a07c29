"""The formulas of Grad-CAM++ at their edges, where no network is needed."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsal.saliency.gradcam.alpha import Derivatives, alpha
from jaxsal.saliency.gradcam.weights import instance_map

GRID = (2, 3, 2, 4)


def arrays(seed, *scales):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(scale * rng.normal(size=GRID), jnp.float32) for scale in scales]


def sums_of(activations):
    return activations.sum((0, 1, 2))


@pytest.mark.parametrize("denominator", ["paper", "monai"])
def test_alpha_is_the_quotient_of_the_derivatives_of_exp(denominator):
    """Eq. 7 with the derivatives of exp(y') by numerical differentiation in float64."""
    g, h, t, a = (np.asarray(x, np.float64) for x in arrays(0, 0.7, 0.5, 0.4, 0.6))

    def score(step):
        return np.exp(g * step + h * step**2 / 2 + t * step**3 / 6)

    e = 1e-3
    second = (score(e) - 2 * score(0) + score(-e)) / e**2
    third = (score(2 * e) - 2 * score(e) + 2 * score(-e) - score(-2 * e)) / (2 * e**3)
    over = (0, 1, 2)
    last = a.sum(over) * third if denominator == "paper" else (a * third).sum(over)
    found = alpha(
        Derivatives(*(jnp.asarray(x, jnp.float32) for x in (g, h, t))),
        jnp.asarray(a, jnp.float32),
        jnp.asarray(a.sum(over), jnp.float32),
        denominator,
    )
    np.testing.assert_allclose(found, second / (2 * second + last), rtol=1e-3)


def test_zero_higher_derivatives_are_the_closed_form():
    g, a = arrays(1, 1.0, 1.0)
    zeros = jnp.zeros_like(g)
    closed = alpha(Derivatives(g), a, sums_of(a))
    np.testing.assert_array_equal(closed, alpha(Derivatives(g, zeros, zeros), a, sums_of(a)))


def test_a_denominator_that_cancels_gives_no_weight():
    """2 g² + S g³ = 0 for S = -2 / g; a little off, α is enormous, and not noise."""
    g = jnp.full((1, 1, 1, 2), 0.5)
    a = jnp.asarray([-4.0, -4.04]).reshape(1, 1, 1, 2)
    found = alpha(Derivatives(g), a, sums_of(a))[0, 0, 0]
    assert found[0] == 0
    assert found[1] == pytest.approx(1 / (2 - 0.5 * 4.04), rel=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12])
def test_tiny_and_huge_gradients_neither_vanish_nor_overflow(scale):
    """α depends on g · S only: gradients and activations that scale inversely give the same α."""
    g, a = arrays(2, 1.0, 1.0)
    plain = alpha(Derivatives(g), a, sums_of(a))
    scaled = alpha(Derivatives(g * scale), a / scale, sums_of(a) / scale)
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(scaled, plain, rtol=1e-3)


def test_without_any_gradient_the_map_is_zero():
    g, a = arrays(3, 0.0, 1.0)
    assert not instance_map(Derivatives(g), a, sums_of(a)).any()


def test_without_any_activation_the_map_is_zero():
    g, a = arrays(4, 1.0, 0.0)
    assert not instance_map(Derivatives(g), a, sums_of(a)).any()


@pytest.mark.parametrize(
    ("method", "expected"),
    [("hirescam", [1 * 2 - 3 * 0.5, 0]), ("layercam", [1 * 2, 3 * 1])],
)
def test_maps_of_position_weights_by_hand(method, expected):
    """Two cells of two channels: what speaks against is subtracted, or left out."""
    g = jnp.asarray([[1.0, -3.0], [-2.0, 3.0]]).reshape(2, 1, 1, 2)
    a = jnp.asarray([[2.0, 0.5], [4.0, 1.0]]).reshape(2, 1, 1, 2)
    found = instance_map(Derivatives(g), a, sums_of(a), method=method)
    assert found.ravel().tolist() == expected
