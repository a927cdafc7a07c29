"""MONAI's SwinUNETR: the paper's, the model zoo's, and every option in at least two of its values.

Features have a twelfth to a half of their usual number. Sizes are the least that the norm takes:
PyTorch's instance norm refuses the single voxel that is left of 32 in the bottleneck.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from helpers.network_cases.case import Case
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import PatchMergingV2

from jaxsal_converters.swin_unetr import aliases, convert


class MergingUntil14(PatchMergingV2):
    """MONAI's "merging" until version 1.4; x3 is x6 and x2 is x5 (issue 8284 of MONAI)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x0, x1 = x[:, 0::2, 0::2, 0::2], x[:, 1::2, 0::2, 0::2]
        x2, x3 = x[:, 0::2, 1::2, 0::2], x[:, 0::2, 0::2, 1::2]
        x4, x7 = x[:, 1::2, 0::2, 1::2], x[:, 1::2, 1::2, 1::2]
        return self.reduction(self.norm(torch.cat([x0, x1, x2, x3, x4, x2, x3, x7], -1)))


Size = tuple[int, int, int]
PLAIN: dict[str, Any] = {
    "in_channels": 2,
    "out_channels": 2,
    "feature_size": 12,
    "depths": (1, 1, 1, 1),
    "num_heads": (3, 6, 12, 24),
}
ARGUMENTS: dict[str, tuple[dict[str, Any], Size]] = {
    "v2, windows of three sizes that do not divide": (
        {"use_v2": True, "window_size": (3, 5, 7), "depths": (1, 2, 1, 1), "norm_name": "batch"},
        (32, 32, 32),
    ),
    "paper's": ({"depths": (2, 2, 2, 2)}, (32, 32, 64)),
    "model zoo's": ({"feature_size": 48, "in_channels": 1, "out_channels": 14}, (32, 64, 32)),
    "windows that divide, few heads, group": (
        {
            "window_size": 4,
            "num_heads": (1, 2, 3, 4),
            "normalize": False,
            "depths": (2, 3, 1, 2),
            "norm_name": ("group", {"num_groups": 3}),
        },
        (32, 32, 32),
    ),
    "windows as long as the grid, no bias, one output": (
        {
            "window_size": (16, 3, 2),
            "qkv_bias": False,
            "depths": (2, 1, 2, 1),
            "out_channels": 1,
            "norm_name": ("instance", {"affine": True, "eps": 1e-3}),
        },
        (32, 64, 32),
    ),
    "narrow perceptrons, normalised patches, many inputs": (
        {
            "mlp_ratio": 1.5,
            "patch_norm": True,
            "in_channels": 12,
            "window_size": 5,
            "depths": (2, 1, 1, 2),
            "norm_name": ("batch", {"affine": False}),
        },
        (32, 32, 32),
    ),
    "dropout, no norm, windows of one voxel": (
        {
            "drop_rate": 0.1,
            "attn_drop_rate": 0.2,
            "dropout_path_rate": 0.3,
            "norm_name": "",
            "window_size": (1, 2, 6),
            "depths": (2, 2, 1, 1),
        },
        (32, 32, 32),
    ),
    "older than 1.5, v2, no perceptrons' ratio": (
        {
            "downsample": MergingUntil14,
            "use_v2": True,
            "mlp_ratio": 0,
            "depths": (1, 2, 1, 1),
            "num_heads": (4, 4, 4, 4),
        },
        (32, 64, 64),
    ),
    "mergingv2 in several stages, normalised": (
        {"downsample": "mergingv2", "window_size": 3, "depths": (1, 1, 2, 2), "norm_name": "batch"},
        (64, 32, 32),
    ),
}


def make_case(changes: dict[str, Any], size: Size) -> Case:
    """MONAI's SwinUNETR with these changes to `PLAIN`, tested on images of this size."""
    arguments = {**PLAIN, **changes}
    stated = dict(arguments)
    if stated.get("downsample") is MergingUntil14:
        stated.update(downsample="merging", img_size=96)  # what its constructor was given
    return Case(
        source=partial(SwinUNETR, spatial_dims=3, **arguments),
        convert=lambda state: convert(state, stated)[:2],
        aliases=aliases,
        size=size,
        in_channels=arguments["in_channels"],
        out_channels=arguments["out_channels"],
        # channels-last in MONAI, or windows: compared apart
        unused=r"\.blocks\.|\.downsample|patch_embed\.norm",
        dtype="float64",
        unnamed=r"joined$|sum$|units\.[01](\.activation)?$|shortcut$|features\.|\.attended$",
    )


SWIN_UNETR = {f"swin-unetr, {name}": make_case(*case) for name, case in ARGUMENTS.items()}
