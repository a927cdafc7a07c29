"""Small networks of every kind, and patches with something to learn."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import numpy as np

from jaxsal.losses import WeightedLoss
from jaxsal.model import Model
from jaxsal.nets.registry import NetworkConfig, config_from_arguments
from jaxsal.nets.training import TrainingFunction
from jaxsal.training.settings import OptimiserSettings
from jaxsal.training.step import (
    Placement,
    Update,
    initial_state,
    learning_rate,
    make_optimiser,
    make_update,
)

CHANNELS = ("flair", "t1")
ARGUMENTS: dict[str, dict[str, Any]] = {
    # Without biases: before a batch norm their gradient is rounding alone, which Adam scales up.
    "unet": {"channels": [4, 6], "strides": [2], "norm": "batch", "bias": False},
    "dynunet": {
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [3, 4, 4],
        "dropout": 0.1,
        "res_block": True,
        "norm_name": "instance",
        "act_name": "leakyrelu",
    },
    "nnunet": {
        "network": "PlainConvUNet",
        "features_per_stage": [3, 4],
        "kernel_sizes": 3,
        "strides": [1, 2],
        "encoder_units": 1,
        "decoder_units": 1,
        "conv_bias": True,
        "norm": ["instance", {"eps": 1e-5, "affine": True}],
        "act": ["leakyrelu", {"negative_slope": 0.01}],
    },
    "swin-unetr": {
        "feature_size": 12,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 1, 1],
        "window_size": 4,
    },
}
LOSS = WeightedLoss(lesion_load=0.03)  # as in these patches
QUICK = OptimiserSettings(rate=1e-2, warm_up=0, clip=0.0, weight_decay=0.0, momentum=0.9)


def config(kind: str, **changes: Any) -> NetworkConfig:
    """A small network of a kind."""
    return config_from_arguments(
        kind, {"in_channels": 2, "out_channels": 2, **ARGUMENTS[kind], **changes}
    )


def patches(count: int = 2, size: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    """Noise with two bright cubes in each patch, which are the lesions."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(count, size, size, size, 2)).astype(np.float32)
    labels = np.zeros(image.shape[:-1], np.int32)
    for b in range(count):
        first = rng.integers(0, size // 2 - 1, 3)
        for label, corner in ((1, first), (2, first + size // 2)):
            labels[(b, *(slice(c, c + 2) for c in corner))] = label
    image[..., 0] += 3 * (labels > 0)
    return {"image": image, "labels": labels}


@cache
def _compiled(
    network: TrainingFunction, settings: OptimiserSettings, batch: int, devices: int, loss: Any
) -> tuple[Any, Placement, Update]:
    """The optimiser and the step, compiled once for all tests."""
    # so long a training that the rate stays what it is
    optimiser = make_optimiser(settings, learning_rate(settings, 10**6))
    placement = Placement(jax.devices()[:devices], batch)
    return optimiser, placement, make_update(network, loss, optimiser, placement)


class Trainer:
    """A state and its step, for the tests that need no run."""

    def __init__(
        self,
        network: TrainingFunction,
        settings: OptimiserSettings = QUICK,
        *,
        batch: int = 2,
        devices: int = 1,
        loss: Any = LOSS,
        parameters: Any = None,
    ) -> None:
        if parameters is None:
            parameters = Model.initialise(network.config, CHANNELS).parameters
        compiled = _compiled(network, settings, batch, devices, loss)
        optimiser, self.placement, self.update = compiled
        self.state = self.placement.put_state(initial_state(network.config, parameters, optimiser))

    def step(self, batch: dict[str, np.ndarray]) -> dict[str, float]:
        """The figures of one more step."""
        self.state, figures = self.update(self.state, *self.placement.put_batch(batch))
        return {name: float(value) for name, value in figures.items()}


training = partial(TrainingFunction, momentum=QUICK.momentum)
