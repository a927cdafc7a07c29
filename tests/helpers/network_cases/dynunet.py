"""MONAI's DynUNet: the paper's, the model zoo's, and every option in at least two of its values."""

from __future__ import annotations

from functools import partial
from typing import Any

from helpers.network_cases.case import Case
from monai.networks.nets import DynUNet

from jaxsal_converters.dynunet import aliases, convert

PLAIN: dict[str, Any] = {
    "in_channels": 2,
    "out_channels": 2,
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [3, 4, 5],
    "act_name": ("leakyrelu", {"inplace": False, "negative_slope": 0.01}),
}
ARGUMENTS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "paper's": (
        {"dropout": 0.1, "res_block": True, "norm_name": "instance", "act_name": "leakyrelu"},
        (8, 12, 8),
    ),
    "model zoo's": (
        {
            "kernel_size": [[3, 3, 3]] * 6,
            "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 1]],
            "upsample_kernel_size": [[2, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 1]],
            "filters": [1, 2, 2, 3, 3, 4],
            "norm_name": "instance",
            "res_block": True,
            "deep_supervision": False,
        },
        (64, 32, 32),
    ),
    "no residuals, affine instance, bias above, one output": (
        {"trans_bias": True, "out_channels": 1, "in_channels": 1},
        (8, 8, 12),
    ),
    "kernels and strides per axis, batch": (
        {
            "kernel_size": [[1, 3, 5], [3, 1, 3], 3],
            "strides": [1, [2, 1, 3], [1, 2, 2]],
            "upsample_kernel_size": [[2, 1, 3], [1, 2, 2]],
            "norm_name": "batch",
        },
        (4, 4, 12),
    ),
    "stride three, group, deep supervision": (
        {
            "strides": [1, 3, 2],
            "upsample_kernel_size": [3, 2],
            "filters": [4, 6, 8],
            "norm_name": ("group", {"num_groups": 2, "eps": 1e-3}),
            "deep_supervision": True,
        },
        (12, 6, 6),
    ),
    "residuals with one width, slopes per channel, two heads": (
        {
            "kernel_size": [3, 1, 3, 3],
            "strides": [1, 1, 2, [1, 2, 2]],
            "upsample_kernel_size": [1, 2, [1, 2, 2]],
            "in_channels": 4,
            "filters": [4, 4, 4, 4],
            "res_block": True,
            "act_name": ("prelu", {"num_parameters": 4}),
            "norm_name": ("batch", {"affine": False, "eps": 1e-2}),
            "deep_supervision": True,
            "deep_supr_num": 2,
        },
        (4, 8, 8),
    ),
    "one slope, tracked instance, dropout of a kind": (
        {
            "act_name": "prelu",
            "norm_name": ("instance", {"affine": True, "track_running_stats": True}),
            "dropout": ("dropout", {"p": 0.3}),
            "strides": [1, [1, 2, 2], 2],
            "upsample_kernel_size": [[1, 2, 2], 2],
            "trans_bias": True,
            "res_block": True,
        },
        (4, 8, 8),
    ),
    "mish, neither norm nor residuals": (
        {"act_name": "mish", "norm_name": "", "kernel_size": [5, 3, 1], "strides": [1, 2, 1]}
        | {"upsample_kernel_size": [2, 1]},
        (6, 4, 4),
    ),
    "gelu, four levels, more filters than levels": (
        {
            "act_name": "gelu",
            "kernel_size": [3, 3, 3, 1],
            "strides": [1, 2, [2, 1, 1], 1],
            "upsample_kernel_size": [2, [2, 1, 1], 1],
            "filters": [2, 3, 4, 5, 6],
            "norm_name": ("instance", {"eps": 0.1, "affine": True}),
        },
        (8, 4, 6),
    ),
}


def make_case(changes: dict[str, Any], size: tuple[int, int, int]) -> Case:
    """MONAI's DynUNet with these changes to `PLAIN`, tested on images of this size."""
    arguments = {**PLAIN, **changes}
    return Case(
        source=partial(DynUNet, spatial_dims=3, **arguments),
        convert=lambda state: convert(state, arguments)[:2],
        aliases=aliases,
        size=size,
        in_channels=arguments["in_channels"],
        out_channels=arguments["out_channels"],
        unused=r"deep_supervision_heads|super_head",
        unnamed=r"joined$|sum$|units\.[01](\.activation)?$|shortcut$",
    )


DYNUNET = {f"dynunet, {name}": make_case(*case) for name, case in ARGUMENTS.items()}
