"""Networks whose dropout stays active at inference."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxsal.model import Model
from jaxsal.nets.dropout import DropoutFunction, has_dropout
from jaxsal.nets.registry import config_from_arguments

pytestmark = pytest.mark.usefixtures("xla_convolutions")
ROI = (16, 16, 16)
DYNUNET = {
    **{"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "kernel_size": [3, 3, 3]},
    **{"strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [3, 4, 5]},
}
UNET = {"in_channels": 1, "out_channels": 2, "channels": [3, 4], "strides": [2], "norm": "batch"}


def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, *ROI, 1)).astype(np.float32)


@pytest.mark.thorough
def test_the_share_that_is_dropped_is_the_rate() -> None:
    """A DynUNet's last dropout is that of its logits, as in MONAI: they become 0."""
    model = Model.initialise(config_from_arguments("dynunet", {**DYNUNET, "dropout": 0.4}), ("a",))
    function = DropoutFunction(model.config)
    one, two = (
        np.asarray(function((model.parameters, jax.random.key(seed)), image())) for seed in (1, 2)
    )
    for logits in (one, two):
        assert np.mean(logits == 0) == pytest.approx(0.4, abs=0.03)  # 8192 draws: 5 errors
    both = np.mean((one == 0) & (two == 0))
    assert both == pytest.approx(0.4**2, abs=0.03)  # seeds draw on their own
    assert not (np.asarray(model(image())) == 0).any()


@pytest.mark.thorough
def test_all_but_dropout_is_as_at_inference() -> None:
    rates = {rate: config_from_arguments("unet", {**UNET, "dropout": rate}) for rate in (0.0, 0.3)}
    model = Model.initialise(rates[0.0], ("a",))
    parameters = {name: value + 0.1 for name, value in model.parameters.items()}  # of norms, too
    model = Model(rates[0.0], parameters, ("a",))
    expected = np.asarray(model(image()))
    key = jax.random.key(0)
    same = DropoutFunction(rates[0.0])((model.parameters, key), image())
    np.testing.assert_allclose(same, expected, atol=1e-5 * np.abs(expected).max())
    other = DropoutFunction(rates[0.3])((model.parameters, key), image())
    assert np.abs(np.asarray(other) - expected).max() > 0.01
    assert [has_dropout(config) for config in rates.values()] == [False, True]
