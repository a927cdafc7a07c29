"""MONAI's UNet: every option in at least two of its values.

Sizes leave instance norm something to normalise.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from helpers.network_cases.case import Case
from monai.networks.nets import UNet

from jaxsal_converters.unet import aliases, convert

PLAIN: dict[str, Any] = {"in_channels": 2, "out_channels": 2, "channels": (4, 6), "strides": (2,)}
DEEP = {"channels": (4, 6, 8), "strides": (2, 2)}
ARGUMENTS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "paper's": ({**DEEP, "norm": "batch"}, (8, 8, 12)),
    "strides per axis, instance": ({**DEEP, "strides": ((1, 2, 2), 1)}, (4, 6, 8)),
    "kernels per axis, affine instance": (
        {
            "kernel_size": (1, 3, 5),
            "up_kernel_size": (3, 5, 1),
            "norm": ("instance", {"affine": True}),
            "strides": ((3, 2, 1),),
        },
        (6, 8, 6),
    ),
    "1 residual unit, group": (
        {**DEEP, "num_res_units": 1, "norm": ("group", {"num_groups": 2, "eps": 1e-3})},
        (8, 8, 8),
    ),
    "2 residual units, batch, relu, no bias": (
        {"num_res_units": 2, "norm": "batch", "act": "relu", "bias": False, "kernel_size": 1},
        (4, 8, 8),
    ),
    "3 residual units, same width, leaky relu, dropout": (
        {
            "num_res_units": 3,
            "in_channels": 4,
            "channels": (4, 4, 5),
            "strides": (1, (2, 1, 2)),
            "act": ("leakyrelu", {"negative_slope": 0.2}),
            "norm": ("batch", {"affine": False, "eps": 1e-2}),
            "dropout": 0.2,
            "adn_ordering": "ADN",
        },
        (4, 5, 6),
    ),
    "layer norm, elu": (
        {"strides": (1,), "norm": ("layer", {"normalized_shape": (4, 5, 6)}), "act": "elu"},
        (4, 5, 6),
    ),
    "layer norm of two axes, celu": (
        {"strides": (1,), "norm": ("layer", {"normalized_shape": (5, 6)}), "act": "celu"},
        (4, 5, 6),
    ),
    "a slope per channel, tracked instance": (
        {
            "channels": (3, 3),
            "strides": (2,),
            "act": ("prelu", {"num_parameters": 3}),
            "norm": ("instance", {"affine": True, "track_running_stats": True}),
        },
        (4, 6, 4),
    ),
    "gelu, one output, no dropout letter": (
        {"act": "gelu", "out_channels": 1, "adn_ordering": "NA", "norm": "batch"},
        (4, 8, 4),
    ),
    "swish before norm, one input": (
        {"act": ("swish", {"alpha": 1.5}), "adn_ordering": "AN", "in_channels": 1},
        (8, 8, 8),
    ),
    "mish without norm": ({"act": "mish", "norm": None, "dropout": 0.2}, (4, 4, 8)),
    "tanh, four levels": (
        {"act": "tanh", "channels": (2, 3, 4, 5), "strides": (2, 1, 2), "norm": "batch"},
        (4, 8, 4),
    ),
}


def make_case(changes: dict[str, Any], size: tuple[int, int, int]) -> Case:
    """MONAI's UNet with these changes to `PLAIN`, tested on images of this size."""
    arguments = {**PLAIN, **changes}
    return Case(
        source=partial(UNet, spatial_dims=3, **arguments),
        convert=lambda state: convert(state, arguments)[:2],
        aliases=aliases,
        size=size,
        in_channels=arguments["in_channels"],
        out_channels=arguments["out_channels"],
    )


UNET = {f"unet, {name}": make_case(*case) for name, case in ARGUMENTS.items()}
