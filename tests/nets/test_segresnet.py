"""SegResNet's architectures: MONAI's defaults and scales, and what is refused."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.nets import SegResNet, SegResNetDS
from monai.networks.nets.segresnet_ds import scales_for_resolution

from jaxsal.errors import InputError
from jaxsal.nets.segresnet_config import SegResNetConfig, SegResNetDSConfig, scales_of

sizes = st.one_of(st.floats(0.1, 20), st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0]))


@given(st.tuples(sizes, sizes, sizes), st.integers(1, 7))
def test_scales_are_monais(resolution: tuple[float, float, float], levels: int) -> None:
    expected = scales_for_resolution(resolution, n_stages=levels)
    assert scales_of(resolution, levels) == tuple(tuple(map(int, scale)) for scale in expected)


@pytest.mark.parametrize(
    ("config", "source"),
    [(SegResNetConfig, SegResNet), (SegResNetDSConfig, SegResNetDS)],
    ids=["segresnet", "segresnet-ds"],
)
def test_defaults_are_monais(config: Any, source: Any) -> None:
    parameters = inspect.signature(source).parameters.values()
    stated = {p.name: p.default for p in parameters}
    assert config.from_arguments({}) == config.from_arguments(stated)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (SegResNetConfig, {"blocks_up": [1, 1]}, "blocks_up needs one entry less"),
        (SegResNetConfig, {"blocks_down": [], "blocks_up": []}, "blocks_down needs one entry"),
        (SegResNetConfig, {"upsample_mode": "deconvgroup"}, "upsample_mode must be one of"),
        (SegResNetConfig, {"norm_name": "batch"}, "norm_name can only be group"),
        (SegResNetConfig, {"init_filters": 12}, "num_groups must divide"),
        (SegResNetConfig, {"norm": ["layer", {"normalized_shape": 3}]}, "got layer"),
        (SegResNetDSConfig, {"preprocess": "scale"}, "preprocess: .* not supported"),
        (SegResNetDSConfig, {"resolution": [1, 1, 0]}, "resolution must be three voxel sizes"),
        (SegResNetDSConfig, {"resolution": [1, 1]}, "resolution must be three voxel sizes"),
        (SegResNetDSConfig, {"norm": ""}, "norm must be batch, instance or group"),
        (SegResNetDSConfig, {"act": ""}, "needs an activation"),
        (
            SegResNetDSConfig,
            {"upsample_mode": "pixelshuffle", "resolution": [1, 1, 4]},
            "up-samples all axes alike",
        ),
    ],
    ids=str,
)
def test_what_monai_cannot_build_or_we_do_not_support_is_refused(
    config: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        config.from_arguments(changes)


def test_a_norm_of_segresnet_ds_is_affine_unless_it_says_otherwise() -> None:
    norm = {"norm": ["instance", {"track_running_stats": True}]}
    assert SegResNetDSConfig.from_arguments(norm).norm == ("batch", (("affine", True),))
    norm = {"norm": "INSTANCE_NVFUSER"}
    assert SegResNetDSConfig.from_arguments(norm).norm == ("instance", (("affine", True),))
