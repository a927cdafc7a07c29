"""Maps from exact derivatives equal those from brute force, where the closed form does not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from helpers.small_networks import brute_force, small

from jaxsal import gradcam_plus_plus

TOLERANCE = 1e-3  # of the map's peak: float32 rounding of three derivatives and their quotient


class NamedLayers:
    """As a `jaxsal.Model`: a function whose layers have names."""

    threshold = 0.5

    def __init__(self, function, parameters):
        self.function, self.parameters = function, parameters

    def resolve_layer(self, name):
        return name


def lesion(image):
    labels = np.zeros(image.shape[:3], np.int32)
    labels[1:3, 1:3, 1:3] = 1
    return labels


def maps(name, **options):
    network = small(name)
    model = NamedLayers(network.function, network.parameters)
    options = {"layer": network.layer, **options}
    return gradcam_plus_plus(model, network.image, lesion(network.image), **options)


@cache
def derivatives(name):
    """(3, x, y, z, K) in float64, one unit vector at a time."""
    network = small(name)
    shape = maps(name, keep_derivatives=True).windows(1)[0].derivatives.first.shape
    domain = lesion(network.image).astype(np.float32)
    found = brute_force(network, domain, np.arange(np.prod(shape)), shape)
    return found.reshape(*shape, 3).transpose(4, 0, 1, 2, 3)


def by_hand(name, denominator):
    """Eqs. 7, 8 and 10 written out."""
    network = small(name)
    g, h, t = derivatives(name)
    _, activations = network.function.with_activations(network.parameters, network.image[None])
    a = np.asarray(activations[network.layer][0], np.float64)
    second, third = g**2 + h, g**3 + 3 * g * h + t
    over = (0, 1, 2)
    last = a.sum(over) * third if denominator == "paper" else (a * third).sum(over)
    total = 2 * second + last
    sound = np.abs(total) > 1e-3 * (2 * np.abs(second) + np.abs(last))
    alpha = np.where(sound, second / np.where(sound, total, 1), 0)
    return np.maximum((alpha * np.maximum(g, 0) * a).sum(-1), 0)


@pytest.mark.thorough  # quick: test_diagonals.py compares the derivatives, or a few of them
@pytest.mark.parametrize("denominator", ["paper", "monai"])
@pytest.mark.parametrize("name", ["attention", "global"])
def test_exact_maps_equal_brute_force(name, denominator):
    expected = by_hand(name, denominator)
    found = maps(name, derivatives="exact", denominator=denominator).native(1)
    closed = maps(name, denominator=denominator).native(1)
    assert np.abs(found - expected).max() <= TOLERANCE * expected.max()
    assert np.abs(closed - expected).max() > 10 * TOLERANCE * expected.max()


@pytest.mark.thorough
def test_estimated_derivatives_come_with_their_standard_errors():
    kept = maps("attention", derivatives="stochastic", probes=64, keep_derivatives=True)
    h, t, h_error, t_error = kept.windows(1)[0].derivatives.diagonals
    _, true_h, true_t = derivatives("attention")
    for found, true, error in ((h, true_h, h_error), (t, true_t, t_error)):
        normalised = np.sqrt(np.mean(((found - true) / error) ** 2))
        assert 0.6 < normalised < 1.6
