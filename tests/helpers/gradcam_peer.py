"""Grad-CAM++ and its relatives by PyTorch: hooks, autograd, formulas written out."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from helpers.peers import NETWORKS, ROI, converted, monai_logits, monai_network
from monai.inferers import sliding_window_inference

from jaxsal_converters.unet import aliases


def module_path(network: str, layer: str) -> str:
    """MONAI's path of a layer of ours."""
    return next(path for path, ours in aliases(converted(network).config).items() if ours == layer)


def activations_and_gradients(
    network: str, field: str, image: np.ndarray, domain: np.ndarray, layer: str
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Per window (or once), A and the gradient of the domain's summed logits: (K, x, y, z)."""
    found: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        output.retain_grad()
        found.append(output)

    module = monai_network(network).get_submodule(module_path(network, layer))
    handle = module.register_forward_hook(keep)
    try:
        logits = monai_logits(network, field, torch.tensor(image, requires_grad=True))
        logits[torch.tensor(domain)][:, 1].sum().backward()
    finally:
        handle.remove()
    activations = [a.detach()[0].double() for a in found]
    zeros = (torch.zeros_like(a) for a in activations)
    gradients = [
        zero if a.grad is None else a.grad[0].double() for a, zero in zip(found, zeros, strict=True)
    ]
    return activations, gradients


def heat_map(
    a: torch.Tensor, g: torch.Tensor, kind: str, denominator: str = "paper"
) -> torch.Tensor:
    """The map on the layer's grid; kind is "instance" or "class" of Grad-CAM++, or a method."""
    over = (1, 2, 3)
    if kind == "gradcam":
        return torch.relu((g.mean(over, keepdim=True) * a).sum(0))
    if kind == "hirescam":
        return torch.relu((g * a).sum(0))
    if kind == "layercam":
        return torch.relu((torch.relu(g) * a).sum(0))
    if denominator == "paper":
        second = a.sum(over, keepdim=True) * g**3
    else:
        second = (a * g**3).sum(over, keepdim=True)
    first = 2 * g**2
    total = first + second
    sound = total.abs() > 1e-3 * (first + second.abs())
    alpha = torch.where(sound, g**2 / torch.where(sound, total, 1), 0)
    weights = alpha * torch.relu(g)
    if kind == "class":
        weights = weights.sum(over, keepdim=True)
    return torch.relu((weights * a).sum(0))


def on_image(
    maps: list[torch.Tensor], network: str, field: str, shape: tuple[int, ...]
) -> np.ndarray:
    """The maps of all windows, interpolated and blended as MONAI blends logits: (X, Y, Z)."""
    resize = partial(torch.nn.functional.interpolate, mode="trilinear", align_corners=False)
    if field == "sliding":
        remaining = iter(maps)
        blended = sliding_window_inference(
            torch.zeros(1, 1, *shape, dtype=torch.float64),
            ROI,
            1,
            lambda window: resize(next(remaining)[None, None], ROI),
            overlap=0.25,
            mode="gaussian",
        )
        return blended[0, 0].numpy()
    (only,) = maps
    divisor = int(np.prod(NETWORKS[network]["strides"]))
    padded = tuple(-(-n // divisor) * divisor for n in shape)
    full = resize(only[None, None], padded)[0, 0]
    before = [(p - n) // 2 for p, n in zip(padded, shape, strict=True)]
    box = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
    return full[box].numpy()
