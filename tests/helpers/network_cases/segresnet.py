"""MONAI's SegResNet and SegResNetDS: every option in at least two of its values.

Sizes leave the norms something to normalise.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from helpers.network_cases.case import Case
from monai.networks.nets import SegResNet, SegResNetDS

from jaxsal_converters import segresnet, segresnet_ds

Size = tuple[int, int, int]
PLAIN: dict[str, Any] = {"in_channels": 2, "out_channels": 2}
SMALL = {"init_filters": 4, "blocks_down": (1, 2, 1), "blocks_up": (1, 2)}
TWO_GROUPS = ("group", {"num_groups": 2, "eps": 1e-3})
ARGUMENTS: dict[str, tuple[dict[str, Any], Size]] = {
    "norm, activation and up-sampling as by default": (
        {"blocks_down": (1, 1, 2), "blocks_up": (1, 1)},
        (8, 8, 4),
    ),
    "deconv, batch, dropout": (
        {**SMALL, "upsample_mode": "deconv", "norm": "batch", "dropout_prob": 0.2},
        (8, 4, 8),
    ),
    "pixelshuffle, a slope per block, one input": (
        {
            **SMALL,
            "upsample_mode": "pixelshuffle",
            "norm": TWO_GROUPS,
            "act": "prelu",
            "in_channels": 1,
        },
        (8, 8, 4),
    ),
    "no last convolution, instance, leaky relu": (
        {
            **SMALL,
            "use_conv_final": False,
            "norm": ("instance", {"affine": True}),
            "act": ("leakyrelu", {"negative_slope": 0.1}),
        },
        (8, 8, 12),
    ),
    "neither norm nor activation, one output": (
        {
            "init_filters": 3,
            "blocks_down": (1, 1),
            "blocks_up": (1,),
            "norm": "",
            "act": "",
            "out_channels": 1,
        },
        (4, 6, 2),
    ),
    "one level, norm_name": (
        {
            "init_filters": 4,
            "blocks_down": (2,),
            "blocks_up": (),
            "norm_name": "group",
            "num_groups": 4,
        },
        (4, 3, 5),
    ),
}
SMALL_DS = {"init_filters": 4, "blocks_down": (1, 2, 1)}
ARGUMENTS_DS: dict[str, tuple[dict[str, Any], Size]] = {
    "norm, activation and up-sampling as by default": (SMALL_DS, (4, 4, 8)),
    "Auto3DSeg's": (
        {
            "init_filters": 2,
            "blocks_down": (1, 1, 1, 1, 1),
            "norm": "instance",
            "dsdepth": 4,
            "resolution": (1.0, 1.0, 5.0),
        },
        (32, 32, 8),
    ),
    "nontrainable, voxels of three sizes": (
        {
            **SMALL_DS,
            "upsample_mode": "nontrainable",
            "resolution": (1, 2.1, 4.5),
            "norm": TWO_GROUPS,
        },
        (8, 4, 3),
    ),
    "nontrainable, tracked instance": (
        {
            **SMALL_DS,
            "upsample_mode": "nontrainable",
            "norm": ("instance", {"track_running_stats": True}),
            "blocks_up": (2, 1),
        },
        (4, 8, 4),
    ),
    "pixelshuffle, slopes, one output": (
        {**SMALL_DS, "upsample_mode": "pixelshuffle", "act": "prelu", "out_channels": 1},
        (8, 4, 4),
    ),
    "batch without parameters, elu, one input": (
        {
            **SMALL_DS,
            "norm": ("batch", {"affine": False, "eps": 1e-2}),
            "act": ("elu", {"alpha": 0.5}),
            "dsdepth": 2,
            "in_channels": 1,
        },
        (4, 4, 8),
    ),
    "one level": ({"init_filters": 3, "blocks_down": (2,), "norm": "instance"}, (5, 4, 3)),
}


def make_case(changes: dict[str, Any], size: Size) -> Case:
    """MONAI's SegResNet with these changes to `PLAIN`, tested on images of this size."""
    arguments = {**PLAIN, **changes}
    has_head = arguments.get("use_conv_final", True)
    return Case(
        source=partial(SegResNet, spatial_dims=3, **arguments),
        convert=lambda state: segresnet.convert(state, arguments)[:2],
        aliases=segresnet.aliases,
        size=size,
        in_channels=arguments["in_channels"],
        out_channels=arguments["out_channels"] if has_head else arguments["init_filters"],
        unused=r"pad_pool\.0$",
        unnamed=r"sum$|units\.0\.activation$",
    )


def make_ds_case(changes: dict[str, Any], size: Size) -> Case:
    """MONAI's SegResNetDS with these changes to `PLAIN`, tested on images of this size."""
    arguments = {**PLAIN, **changes}
    last = max(len(arguments.get("blocks_down", (1, 2, 2, 4))) - 2, 0)
    return Case(
        source=partial(SegResNetDS, spatial_dims=3, **arguments),
        convert=lambda state: segresnet_ds.convert(state, arguments)[:2],
        aliases=segresnet_ds.aliases,
        size=size,
        in_channels=arguments["in_channels"],
        out_channels=arguments["out_channels"],
        unused=rf"pad_pool\.0$|up_layers\.(?!{last}\.)\d+\.head",
        unnamed=r"sum$",
    )


SEGRESNET = {f"segresnet, {name}": make_case(*case) for name, case in ARGUMENTS.items()}
SEGRESNET_DS = {f"segresnet-ds, {name}": make_ds_case(*c) for name, c in ARGUMENTS_DS.items()}
