"""A step of training by PyTorch and MONAI: forward, loss, gradients, AdamW."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from bench.case import TARGET
from bench.pytorch.network import synchronise, torch_device, torch_network
from jaxsal.losses import LESION_LOAD, WeightedLoss
from jaxsal.model import Model


def torch_steps(
    model: Model,
    loss: WeightedLoss,
    images: np.ndarray,
    labels: np.ndarray,
    rate: float,
    decay: float,
    memory_format: torch.memory_format,
) -> Callable[[], tuple[float, float]]:
    """A function that makes one step on the same patches and returns its loss and its seconds.

    Args:
        model: whose weights are trained, of two outputs.
        loss: of normalised Dice and focal loss.
        images: (B, X, Y, Z, C).
        labels: (B, X, Y, Z).
        rate: of learning.
        decay: of weights.
        memory_format: of images and weights.
    """
    network = torch_network(model).train().to(torch_device())
    network = network.to(memory_format=memory_format)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    batch = torch.from_numpy(np.moveaxis(images, -1, 1).copy()).to(torch_device())
    batch = batch.to(memory_format=memory_format)
    lesion = torch.from_numpy(labels > 0).to(torch_device())
    evaluate = _loss(loss)

    def step() -> tuple[float, float]:
        synchronise()
        before = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        value = evaluate(network(batch), lesion)
        value.backward()
        optimiser.step()
        synchronise()
        seconds = time.perf_counter() - before
        return float(value.detach()), seconds

    return step


def _loss(loss: WeightedLoss) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.losses import FocalLoss
    focal = FocalLoss(gamma=loss.gamma)

    def evaluate(logits: torch.Tensor, lesion: torch.Tensor) -> torch.Tensor:
        odds = logits[:, TARGET] - logits[:, 1 - TARGET]  # of a softmax over two
        chance = torch.sigmoid(odds)
        spatial = (1, 2, 3)
        true = (chance * lesion).sum(spatial)
        false = (chance * ~lesion).sum(spatial)
        positive = lesion.sum(spatial)
        voxels = lesion[0].numel()
        scale = (1 - LESION_LOAD) * positive / (LESION_LOAD * (voxels - positive))
        dice = (1 - 2 * true / (true + positive + scale * false)).mean()
        value: torch.Tensor = loss.focal * focal(odds[:, None], lesion[:, None].float())
        return value + loss.normalised_dice * dice

    return evaluate
