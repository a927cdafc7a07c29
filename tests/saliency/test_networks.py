"""SmoothGrad equals PyTorch's autograd through MONAI's sliding window for all kinds of networks.

The networks in `peers` are U-Nets; these have what U-Nets have not.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.network_cases import CASES
from helpers.network_cases.case import arrays_of, randomised
from helpers.peers import aggregated, gradients
from helpers.thorough import thorough_except
from monai.inferers import sliding_window_inference

from jaxsal import Model, sliding_window, smoothgrad

pytestmark = pytest.mark.usefixtures("xla_convolutions", "one_device")

TOLERANCE = 1e-5  # float32 rounding relative to the map's peak; measured below 1e-6
LESION = np.array([[3, 4, 5], [3, 4, 6], [4, 4, 5], [8, 4, 5]])


def maps(name: str, aggregate: str) -> tuple[np.ndarray, np.ndarray]:
    """Ours, (X, Y, Z, C), and PyTorch's gradient of each voxel, for two windows."""
    case = CASES[name]
    torch.manual_seed(0)
    network = randomised(case.source()).requires_grad_(False)
    x, y, z = case.size
    image, noise = np.random.default_rng(0).standard_normal((2, x + 5, y, z, 2), "f4")
    labels = np.zeros(image.shape[:3], np.int32)
    labels[tuple(LESION.T)] = 1
    model = Model(*case.convert(arrays_of(network)), ("flair", "t1"))
    field = sliding_window(model, roi=case.size)
    ours = smoothgrad(field, image, labels, aggregate=aggregate, noise_samples=noise[None])

    def predictor(window: torch.Tensor) -> torch.Tensor:  # (B, C, X, Y, Z); not all take it so
        logits = network(window.permute(0, 1, *(2 + axis for axis in case.axes)))
        return logits.permute(0, 1, *(2 + case.axes.index(axis) for axis in range(3)))

    given = torch.tensor(image + noise, requires_grad=True)
    batch = torch.movedim(given, -1, 0)[None]
    logits = sliding_window_inference(
        batch, case.size, 1, predictor, overlap=field.overlap, mode="gaussian"
    )
    return ours.dense(1), gradients(logits[0, 1], given, LESION)


@pytest.mark.parametrize(
    ("name", "aggregate"),
    thorough_except(
        [
            ("dynunet, paper's", "max"),
            ("nnunet, residual as planned", "mean"),
            ("swin-unetr, v2, windows of three sizes that do not divide", "max"),
        ],
        # the engine takes the same way for all that have a norm over the window; one gradient
        # takes the least time, and that networks' derivatives are right is their own tests' matter
        ("nnunet, residual as planned", "mean"),
    ),
)
def test_maps_equal_autograd(name: str, aggregate: str) -> None:
    ours, rows = maps(name, aggregate)
    expected = aggregated(rows, aggregate)
    assert np.abs(ours - expected).max() < TOLERANCE * np.abs(expected).max()
