"""What is no number in a layer stays where it is, and is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsal import gradcam, gradcam_plus_plus, hirescam, layercam
from jaxsal.saliency.gradcam.alpha import Derivatives, finite_sum
from jaxsal.saliency.gradcam.weights import channel_weights, instance_map

SHAPE = (12, 8, 8)
CELL = (3, 2, 1)  # whose derivative is no number
SPREAD = np.zeros(SHAPE, bool)  # the voxels that it takes part in
SPREAD[5:8, 3:6, 1:4] = True

EVERYWHERE = np.ones(SHAPE, np.int32)
IMAGE = np.random.default_rng(0).uniform(1, 2, (*SHAPE, 1)).astype(np.float32)
DAMAGED = IMAGE.copy()
DAMAGED[tuple(2 * cell for cell in CELL)] = 0


@dataclass(frozen=True)
class RootFunction:
    """Every other voxel is a cell A of the layer "cells"; A √A, its logit, has no slope at 0."""

    divisor = (2, 2, 2)
    channels = 1
    smallest_size = (2, 2, 2)

    def __call__(self, parameters: Any, batch: jax.Array) -> jax.Array:
        return self.with_activations(parameters, batch)[0]

    def with_activations(
        self,
        parameters: Any,
        batch: jax.Array,
        perturbations: Mapping[str, jax.Array] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        cells = batch[:, ::2, ::2, ::2] + (perturbations or {}).get("cells", 0)
        logits = cells * jnp.sqrt(cells)
        for axis in (1, 2, 3):
            logits = jnp.repeat(logits, 2, axis)
        return jnp.concatenate([-logits, logits], -1), {"cells": cells}


class Model:
    function, parameters, threshold = RootFunction(), (), 0.5

    def resolve_layer(self, name: str) -> str:
        return name


@pytest.mark.parametrize("explain", [gradcam_plus_plus, gradcam, hirescam, layercam])
@pytest.mark.parametrize("labels", [EVERYWHERE, None], ids=["instance", "class"])
def test_a_derivative_that_is_no_number_stays_in_its_place_with_a_warning(
    explain: Any, labels: np.ndarray | None
) -> None:
    label = 0 if labels is None else 1
    with pytest.warns(UserWarning, match=rf"lesion {label} has .* not numbers"):
        damaged = explain(Model(), DAMAGED, labels, layer="cells").dense(label)
    np.testing.assert_array_equal(np.isnan(damaged), SPREAD)
    sound = explain(Model(), IMAGE, labels, layer="cells").dense(label)
    # One cell less in the sums of derivatives and activations, of 96.
    np.testing.assert_allclose(damaged[~SPREAD], sound[~SPREAD], rtol=0.03)


def arrays(**places: float) -> tuple[Derivatives, jax.Array, jax.Array]:
    rng = np.random.default_rng(1)
    g, h, t, a = rng.uniform(0.1, 1, (4, 3, 2, 2, 4)).astype(np.float32)
    for name, value in places.items():
        {"g": g, "h": h, "t": t, "a": a}[name][0, 0, 0, 1] = value
    return Derivatives(*map(jnp.asarray, (g, h, t))), jnp.asarray(a), finite_sum(a)


@pytest.mark.parametrize("denominator", ["paper", "monai"])
@pytest.mark.parametrize(
    "place", [{"g": np.nan}, {"g": np.inf}, {"h": np.nan}, {"t": np.nan}, {"a": np.nan}], ids=str
)
def test_a_map_is_no_number_only_where_something_in_it_is_none(
    place: dict[str, float], denominator: Any
) -> None:
    found = np.asarray(instance_map(*arrays(**place), denominator))
    assert np.argwhere(~np.isfinite(found)).tolist() == [[0, 0, 0]]


def test_where_the_weight_is_zero_nothing_is_lost() -> None:
    """A negative derivative speaks against the lesion, whatever is beside it."""
    derivatives, a, sums = arrays(h=np.nan)
    first = derivatives.first.at[0, 0, 0, 1].set(-1)
    assert np.isfinite(instance_map(derivatives._replace(first=first), a, sums)).all()


def test_positions_left_out_of_sums_are_told() -> None:
    weights, left_out = channel_weights("gradcam", *arrays(g=np.nan), positions=12)
    assert np.isfinite(weights).all()
    assert np.argwhere(left_out).tolist() == [[0, 0, 0]]
