"""Higher derivatives: exact ones against brute force, estimated ones against exact ones."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.small_networks import brute_force, small

from jaxsal.saliency.gradcam.diagonals import (
    Diagonals,
    UpperAtWindow,
    draw_probes,
    exact,
    stochastic,
)
from jaxsal.saliency.gradcam.upper_network import UpperNetwork

CURVED = ("attention", "global")  # softmax, layer norm and GELU; instance norm


def at_window(name):
    network = small(name)
    upper = UpperNetwork(network.function, network.layer, 1)
    return network, UpperAtWindow(upper, network.parameters, jnp.asarray(network.image))


def two_domains(image):
    """Two lesions, the second weighted, as where windows blend: (2, X, Y, Z)."""
    domains = np.zeros((2, *image.shape[:3]), np.float32)
    domains[0, 1:3, 1:3, 1:3] = 1
    domains[1, -2:, 0, 0:2] = 0.4
    return domains


def layer_shape(at):
    grid, channels = at.upper.shape(at.parameters, at.window.shape)
    return (*grid, channels)


@pytest.mark.parametrize("name", CURVED)
def test_exact_derivatives_equal_brute_force(name):
    """One unit vector at a time in float64; within rounding of the network's float32."""
    network, at = at_window(name)
    shape, domains = layer_shape(at), two_domains(network.image)
    entries = np.random.default_rng(3).choice(np.prod(shape), 16, replace=False)
    wanted = np.zeros((2, *shape), bool)
    wanted.reshape(2, -1)[:, entries] = True
    found = exact(at, domains, wanted, batch=5)
    for domain, diagonals in zip(domains, found, strict=True):
        expected = brute_force(network, domain, entries, shape)[:, 1:]
        for values, exact_values in zip(diagonals[:2], expected.T, strict=True):
            error = np.abs(values.reshape(-1)[entries] - exact_values).max()
            assert error <= 1e-4 * np.abs(exact_values).max()
            assert not values[~wanted[0]].any()


@pytest.mark.parametrize(("name", "straight"), [("local", True), ("attention", False)])
def test_it_is_known_where_the_network_is_piecewise_linear(name, straight):
    _, at = at_window(name)
    assert at.upper.is_piecewise_linear(at.parameters, at.window.shape) is straight


def test_higher_derivatives_of_a_piecewise_linear_network_come_out_as_zero():
    """Computed, not assumed: the same program that gives the curved networks' derivatives."""
    network, at = at_window("local")
    shape, domains = layer_shape(at), two_domains(network.image)
    wanted = np.zeros((2, *shape), bool)
    wanted.reshape(2, -1)[:, :4] = True
    for diagonals in exact(at, domains, wanted, batch=4):
        assert not diagonals.second.any()
        assert not diagonals.third.any()


def test_probes_have_the_moments_that_make_the_estimates_unbiased():
    probes = np.asarray(draw_probes((20, 20, 20, 5), 0, jnp.arange(10)), np.float64)
    error = 5 / np.sqrt(probes.size)
    assert probes.mean() == pytest.approx(0, abs=error)
    assert (probes**2).mean() == pytest.approx(1, abs=error)
    assert (probes**3).mean() == pytest.approx(1, abs=3 * error)


def test_probes_are_the_same_in_any_batch():
    together = draw_probes((3, 2, 2, 4), 7, jnp.arange(4))
    alone = draw_probes((3, 2, 2, 4), 7, jnp.arange(2, 3))
    np.testing.assert_array_equal(together[2], alone[0])


@pytest.mark.thorough  # quick: in test_exact.py, the errors of estimates against brute force
def test_estimates_converge_to_the_exact_derivatives_as_their_standard_errors_say():
    """The root mean square of (estimate - exact) / error is about one, and errors fall as 1/√n."""
    network, at = at_window("attention")
    shape, domains = layer_shape(at), two_domains(network.image)
    true = exact(at, domains, np.ones((2, *shape), bool), batch=32)
    for domain, t in zip(domains, true, strict=True):
        many = stochastic(at, domain, shape, 256, seed=1, batch=32)
        few = stochastic(at, domain, shape, 16, seed=2, batch=32)
        for order in (0, 1):
            error = many[order + 2]
            assert (error > 0).all()
            normalised = np.sqrt(np.mean(((many[order] - t[order]) / error) ** 2))
            assert 0.7 < normalised < 1.4
            rate = np.sqrt(np.mean(few[order + 2] ** 2) / np.mean(error**2))
            assert 2.5 < rate < 6  # 4 = √16


def test_estimates_do_not_depend_on_the_batch():
    network, at = at_window("attention")
    shape, domain = layer_shape(at), two_domains(network.image)[0]
    one, other = (stochastic(at, domain, shape, 6, seed=0, batch=b) for b in (6, 4))
    for x, y in zip(one, other, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5 * np.abs(x).max())


def test_of_estimates_what_is_noise_is_taken_for_zero_and_what_is_certain_kept():
    values, errors = np.float32([3.0, -3.0, 1.0, 0.0]), np.float32([0.0, 0.3, 1.5, 0.0])
    for found in Diagonals(values, values, errors, errors).trusted():
        np.testing.assert_allclose(found, [3.0, -2.97, 0.0, 0.0], rtol=1e-6)
    assert Diagonals(values, values).trusted()[0] is values
