"""Networks of many families, exported and converted: logits and maps are PyTorch's in float64."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch

from bench.families import agreement, make_peers
from bench.pytorch.families import CHANNELS, FAMILIES, random_network
from jaxsal.model import Model
from jaxsal_converters import from_torch
from jaxsal_converters.modules import model_from_module

pytestmark = pytest.mark.usefixtures("xla_convolutions")


@pytest.mark.thorough
@pytest.mark.parametrize("name", FAMILIES)
def test_logits_and_maps_are_those_of_autograd(name: str) -> None:
    """1e-9 of the peak in float64.

    In float32 an activation with a kink may have either slope where its input is zero within
    rounding, and Grad-CAM++ divides by what may be a small difference: a map is within 1e-5, or as
    far off as PyTorch's own in float32.
    """
    row = agreement(make_peers(name))
    assert row["logits"] <= 1e-5
    for what in ("logits", "gradient", "maximum", "grad-cam++"):
        assert row[f"float64_{what}"] <= 1e-9, what
        assert row[what] <= max(1e-5, 10 * row[f"torch_{what}"]), what


def gradient(model: Model, batch: np.ndarray) -> np.ndarray:
    """Of the logit in the middle."""
    middle = tuple(n // 2 for n in batch.shape[1:4])
    logit = jax.jit(lambda x: model.function(model.parameters, x)[(0, *middle, 1)])
    return np.asarray(jax.jit(jax.grad(logit))(batch))


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["UNet", "DynUNet", "SwinUNETR"])
def test_both_ways_to_convert_a_network_agree(name: str) -> None:
    network, size = random_network(FAMILIES[name]), FAMILIES[name].size
    image = torch.randn(1, CHANNELS, *size, generator=torch.Generator().manual_seed(0))
    native = model_from_module(network, verify=False)
    exported = from_torch(network, image, verify=False)
    assert exported.parameter_count == native.parameter_count
    batch = image.movedim(1, -1).numpy()
    for compute in (Model.__call__, gradient):
        expected = np.asarray(compute(native, batch))
        difference = np.abs(compute(exported, batch) - expected).max()
        assert difference <= 1e-5 * np.abs(expected).max()
