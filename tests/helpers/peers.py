"""MONAI's networks and inference, as the peers that jaxsal is compared with."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet

from jaxsal.model import Model
from jaxsal_converters.unet import convert

# One network whose output voxels have a finite receptive field, and one where all of a window
# matters. Tiny: what is compared does not depend on the size, compilation time does.
# A third one reaches less than a window, so that boxes differ from windows at every edge and seam.
NETWORKS = {
    "local": {"channels": (3, 4, 5), "strides": (2, 2), "norm": "batch"},
    "short": {"channels": (3, 4), "strides": (2,), "norm": "batch", "kernel_size": 3},
    "global": {"channels": (3, 4), "strides": (2,), "norm": "instance", "num_res_units": 1},
}
ROI = (16, 16, 16)


@cache
def monai_network(name: str) -> UNet:
    """MONAI's U-Net of that name in evaluation mode, with random weights and statistics."""
    torch.manual_seed(0)
    arguments = {"spatial_dims": 3, "in_channels": 2, "out_channels": 2, **NETWORKS[name]}
    network = UNet(**arguments).eval()
    for key, tensor in network.state_dict().items():
        if key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.dtype == torch.float32 and tensor.ndim:
            tensor.add_(0.2 * torch.randn_like(tensor))
    return network.requires_grad_(False)


@cache
def converted(name: str) -> Model:
    """The same network as a jaxsal model."""
    state = {key: value.numpy() for key, value in monai_network(name).state_dict().items()}
    state = {key: value for key, value in state.items() if "num_batches" not in key}
    arguments = {"in_channels": 2, "out_channels": 2, **NETWORKS[name]}
    config, parameters, _ = convert(state, arguments)
    return Model(config, parameters, ("flair", "t1"), threshold=0.5)


def monai_logits(name: str, field: str, image: torch.Tensor) -> torch.Tensor:
    """Logits (X, Y, Z, K) of an image (X, Y, Z, C) by MONAI, differentiable.

    Args:
        name: of the network.
        field: "sliding" for `ROI` windows with Gaussian blending, "whole" for the whole volume,
            padded alike on both sides to a multiple of the network's stride.
        image: on which to compute them.
    """
    network, batch = monai_network(name), torch.movedim(image, -1, 0)[None]
    if field == "sliding":
        logits = sliding_window_inference(batch, ROI, 1, network, overlap=0.25, mode="gaussian")
    else:
        divisor = np.prod(NETWORKS[name]["strides"])
        missing = [int(-n % divisor) for n in image.shape[:3]]
        edges = [(m // 2, m - m // 2) for m in missing]
        padded = torch.nn.functional.pad(batch, [e for pair in reversed(edges) for e in pair])
        logits = network(padded)
        for axis, ((before, _), size) in enumerate(zip(edges, image.shape[:3], strict=True)):
            logits = logits.narrow(axis + 2, before, size)
    return torch.movedim(logits[0], 0, -1)


def autograd_rows(
    name: str, field: str, image: np.ndarray, voxels: np.ndarray, target: int = 1
) -> np.ndarray:
    """(V, X, Y, Z, C): gradient of each voxel's logit, one backward pass each."""
    x = torch.tensor(image, requires_grad=True)
    return gradients(monai_logits(name, field, x)[..., target], x, voxels)


def gradients(logits: torch.Tensor, x: torch.Tensor, voxels: np.ndarray) -> np.ndarray:
    """(V, …): gradient with respect to x of each voxel's logit, of logits (X, Y, Z)."""
    rows = [
        torch.autograd.grad(logits[tuple(voxel)], x, retain_graph=True)[0].numpy()
        for voxel in voxels.tolist()
    ]
    return np.stack(rows)


def aggregated(rows: np.ndarray, aggregate: str) -> np.ndarray:
    """Mean or signed maximum of gradients (V, …) over the voxels."""
    if aggregate == "mean":
        return rows.mean(0)
    return np.take_along_axis(rows, np.abs(rows).argmax(0)[None], 0)[0]
