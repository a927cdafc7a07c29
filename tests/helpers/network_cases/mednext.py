"""MONAI's MedNeXt: every option in at least two of its values."""

from __future__ import annotations

from functools import partial
from typing import Any

from helpers.network_cases.case import Case
from monai.networks.nets import MedNeXt

from jaxsal_converters import mednext

Size = tuple[int, int, int]
SMALL = {"in_channels": 2, "init_filters": 4, "blocks_down": (1, 2), "blocks_up": (2, 1)}
ARGUMENTS: dict[str, tuple[dict[str, Any], Size]] = {
    "without residual connections": ({**SMALL, "kernel_size": 3}, (8, 4, 12)),
    "residual, response norm, ratios per level": (
        {
            **SMALL,
            "kernel_size": 5,
            "use_residual_connection": True,
            "global_resp_norm": True,
            "encoder_expansion_ratio": (1, 2),
            "decoder_expansion_ratio": (3, 1),
            "bottleneck_expansion_ratio": 3,
            "blocks_bottleneck": 1,
        },
        (8, 8, 8),
    ),
    "kernel as by default, deep supervision, one level": (
        {
            "in_channels": 1,
            "out_channels": 3,
            "init_filters": 3,
            "use_residual_connection": True,
            "deep_supervision": True,
            "blocks_down": (1,),
            "blocks_bottleneck": 1,
            "blocks_up": (1,),
        },
        (6, 4, 8),
    ),
}


def make_case(arguments: dict[str, Any], size: Size) -> Case:
    """MONAI's MedNeXt with these arguments, tested on images of this size."""
    return Case(
        source=partial(MedNeXt, spatial_dims=3, **arguments),
        convert=lambda state: mednext.convert(state, arguments)[:2],
        aliases=mednext.aliases,
        size=size,
        in_channels=arguments["in_channels"],
        out_channels=arguments.get("out_channels", 2),
        unused=r"out_blocks",
        unnamed=r"sum$|response$",
    )


MEDNEXT = {f"mednext, {name}": make_case(*case) for name, case in ARGUMENTS.items()}
