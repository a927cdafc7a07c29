"""The U-Net's configuration is checked; `test_contract` compares the network with MONAI's."""

from __future__ import annotations

from typing import Any

import pytest

from jaxsal.errors import InputError
from jaxsal.nets.unet_config import UNetConfig

PLAIN = {"in_channels": 2, "out_channels": 2, "channels": (4, 6), "strides": (2,)}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"channels": [4]}, "channels"),
        ({"channels": 4}, "channels"),
        ({"strides": []}, "strides"),
        ({"strides": [0]}, "strides"),
        ({"strides": [[2, 2]]}, "strides"),
        ({"kernel_size": 4}, "kernel_size"),
        ({"up_kernel_size": [3, 3]}, "up_kernel_size"),
        ({"num_res_units": -1}, "num_res_units"),
        ({"in_channels": 1.5}, "in_channels"),
        ({"act": "sine"}, "act"),
        ({"act": ["relu", {"slope": 1}]}, "slope"),
        ({"act": ["leakyrelu", {"negative_slope": {"a": 1}}]}, "negative_slope"),
        ({"act": 3}, "act"),
        ({"norm": []}, "norm"),
        ({"norm": "group"}, "num_groups"),
        ({"norm": ["group", {"num_groups": 4}]}, "num_groups"),
        ({"norm": ["group", {"num_groups": 0}]}, "num_groups"),
        ({"norm": ["layer", {"normalized_shape": [4, "a"]}]}, "normalized_shape"),
        ({"act": ["prelu", {"num_parameters": 4}]}, "num_parameters"),
        ({"norm": "spectral"}, "norm"),
        ({"norm": ["batch", {"track_running_stats": False}]}, "norm"),
        ({"dropout": 1}, "dropout"),
        ({"dropout": ["dropout"], "norm": 2}, "norm"),
        ({"dropout": [0.2, 0.3]}, "dropout"),
        ({"bias": "no"}, "bias"),
        ({"adn_ordering": "NDX"}, "adn_ordering"),
        ({"spatial_dims": 2}, "spatial_dims"),
        ({"depth": 5}, "depth"),
    ],
    ids=str,
)
def test_unsupported_arguments_are_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        UNetConfig.from_arguments({**PLAIN, **changes})


def test_missing_arguments_are_named() -> None:
    with pytest.raises(InputError, match="strides"):
        UNetConfig.from_arguments({"in_channels": 1, "out_channels": 2, "channels": [2, 3]})
