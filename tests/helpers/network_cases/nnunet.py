"""nnU-Net v2's networks: every option in at least two of its values.

The source takes (Z, Y, X); in one case, moreover transposed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from helpers.network_cases.case import Case

from jaxsal.nets.nnunet_config import PLAIN, RESIDUAL, NNUNetConfig
from jaxsal_converters.nnunet import convert_entries
from jaxsal_converters.nnunet_keys import REVERSED, aliases
from jaxsal_converters.nnunet_source import torch_network

INSTANCE = ["instance", {"eps": 1e-5, "affine": True}]
BASE: dict[str, Any] = {
    "network": PLAIN,
    "in_channels": 2,
    "out_channels": 2,
    "features_per_stage": [3, 4, 5],
    "kernel_sizes": 3,
    "strides": [1, 2, 2],
    "encoder_units": 2,
    "decoder_units": 2,
    "conv_bias": True,
    "norm": INSTANCE,
    "act": ["leakyrelu", {"negative_slope": 0.01}],
}
RESIDUAL_BASE = {"network": RESIDUAL, "encoder_units": [1, 2, 2], "decoder_units": 1}
ARGUMENTS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "plain as planned": ({}, (8, 12, 8)),
    "plain, kernels and strides per axis": (
        {
            "kernel_sizes": [[3, 3, 1], [1, 3, 5], 3],
            "strides": [1, [2, 3, 1], [1, 2, 2]],
            "encoder_units": [1, 2, 3],
            "decoder_units": [1, 2],
            "in_channels": 1,
        },
        (4, 12, 8),
    ),
    "plain, batch, activation first, no bias": (
        {
            "norm": ["batch", {}],
            "activation_first": True,
            "conv_bias": False,
            "act": ["relu", {}],
            "out_channels": 3,
        },
        (8, 4, 8),
    ),
    "plain, slopes, two stages": (
        {
            "features_per_stage": [4, 4],
            "strides": [1, [1, 2, 2]],
            "act": ["prelu", {"num_parameters": 4}],
            "norm": ["instance", {}],
        },
        (4, 4, 8),
    ),
    "plain, no norm, one output": (
        {"norm": None, "act": ["gelu", {}], "out_channels": 1, "strides": [1, 1, 2]},
        (4, 4, 6),
    ),
    "residual as planned": (RESIDUAL_BASE, (8, 12, 8)),
    "residual, strides per axis, one width": (
        {
            **RESIDUAL_BASE,
            "features_per_stage": [4, 4, 4],
            "kernel_sizes": [[3, 3, 1], 3, [3, 1, 3]],
            "strides": [1, [2, 2, 1], [3, 1, 2]],
            "encoder_units": [1, 1, 2],
            "decoder_units": [2, 1],
        },
        (12, 6, 6),
    ),
    "residual, stem, bottlenecks, batch": (
        {
            **RESIDUAL_BASE,
            "stem_channels": 5,
            "bottleneck_channels": [6, 8, 8],
            "norm": ["batch", {"eps": 1e-2}],
            "act": ["relu", {}],
            "conv_bias": False,
        },
        (8, 8, 4),
    ),
    "residual, neither norm nor activation": (
        {**RESIDUAL_BASE, "norm": None, "act": None, "features_per_stage": [2, 2, 3]},
        (4, 8, 8),
    ),
    "residual, slope of its own, bottlenecks of one width": (
        {
            **RESIDUAL_BASE,
            "features_per_stage": [4, 4],
            "strides": [1, 2],
            "encoder_units": [2, 1],
            "bottleneck_channels": 2,
            "act": ["prelu", {"init": 0.1}],
        },
        (4, 8, 4),
    ),
}
TRANSPOSED = (1, 2, 0)  # for X, Y and Z, the axis of the source's arrays


def _case(
    changes: dict[str, Any],
    size: tuple[int, int, int],
    order: tuple[int, int, int] = REVERSED,
) -> Case:
    config = NNUNetConfig.from_arguments({**BASE, **changes})
    return Case(
        source=partial(torch_network, config, order),
        convert=lambda state: (config, convert_entries(config, state, order)),
        aliases=aliases,
        size=size,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        unused=r"^decoder\.encoder|all_modules\.",
        unnamed=r"joined$|sum$|refine$",
        axes=(order.index(0), order.index(1), order.index(2)),
    )


NNUNET = {f"nnunet, {name}": _case(*case) for name, case in ARGUMENTS.items()}
NNUNET["nnunet, transposed"] = _case(*ARGUMENTS["plain, kernels and strides per axis"], TRANSPOSED)
