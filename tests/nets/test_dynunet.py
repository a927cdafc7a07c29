"""The DynUNet's configuration; `test_contract` compares the network with MONAI's."""

from __future__ import annotations

from typing import Any

import pytest

from jaxsal.errors import InputError
from jaxsal.nets.dynunet_config import DynUNetConfig

PLAIN: dict[str, Any] = {
    "in_channels": 2,
    "out_channels": 2,
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
}


@pytest.mark.parametrize(
    ("levels", "filters"),
    [(3, (32, 64, 128)), (6, (32, 64, 128, 256, 320, 320))],
)
def test_filters_default_to_those_of_nnunet(levels: int, filters: tuple[int, ...]) -> None:
    config = DynUNetConfig.from_arguments(
        {
            **PLAIN,
            "kernel_size": [3] * levels,
            "strides": [1] + [2] * (levels - 1),
            "upsample_kernel_size": [2] * (levels - 1),
        }
    )
    assert config.filters == filters
    assert config.divisor == (2 ** (levels - 1),) * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel_size": [3, 3]}, "one entry per level"),
        ({"kernel_size": [3, 3], "strides": [1, 2], "upsample_kernel_size": [2]}, "at least three"),
        ({"kernel_size": 3}, "kernel_size"),
        ({"kernel_size": [3, 2, 3]}, "odd"),
        ({"strides": [2, 2, 2]}, "begin with 1"),
        ({"strides": [1, 2, 0]}, "strides"),
        ({"upsample_kernel_size": [2, 1]}, "upsample_kernel_size must equal strides"),
        ({"strides": [1, 2, 5], "upsample_kernel_size": [2, 5]}, "at most one more"),
        (
            {"strides": [1, 2, 3], "upsample_kernel_size": [2, 3], "res_block": True},
            "at most one more",
        ),
        ({"filters": [4, 5]}, "filters"),
        ({"filters": 4}, "filters"),
        ({"norm_name": ["group", {"num_groups": 5}], "filters": [5, 5, 6]}, "num_groups"),
        ({"norm_name": ["layer", {"normalized_shape": [4]}]}, "norm_name"),
        ({"act_name": ["prelu", {"num_parameters": 4}]}, "num_parameters"),
        ({"act_name": "sine"}, "act_name"),
        ({"dropout": 2}, "dropout"),
        ({"deep_supervision": 1}, "deep_supervision"),
        ({"deep_supr_num": 0}, "deep_supr_num"),
        ({"res_block": "yes"}, "res_block"),
        ({"spatial_dims": 2}, "spatial_dims"),
        ({"depth": 2}, "unknown: depth"),
    ],
    ids=str,
)
def test_unsupported_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DynUNetConfig.from_arguments({**PLAIN, **changes})


def test_missing_arguments_are_named() -> None:
    with pytest.raises(InputError, match="missing: out_channels, upsample_kernel_size"):
        DynUNetConfig.from_arguments({"in_channels": 1, "kernel_size": [3], "strides": [1]})
