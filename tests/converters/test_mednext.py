"""MONAI's MedNeXt and MIC-DKFZ's: architecture read from a checkpoint, mistakes named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.network_cases.case import arrays_of, randomised
from monai.networks.blocks.mednext_block import MedNeXtDownBlock
from monai.networks.nets import DynUNet, MedNeXt, SegResNet, UNet
from monai.networks.nets.mednext import create_mednext

from jaxsal.errors import InputError
from jaxsal_converters import mednext
from jaxsal_converters.mednext import MEDNEXT
from jaxsal_converters.modules import model_from_module
from jaxsal_converters.monai import MONAI_NETWORKS, convert_checkpoint, verify_checkpoint

pytestmark = pytest.mark.usefixtures("xla_convolutions")

PLAIN: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 2,
    "out_channels": 2,
    "init_filters": 2,
    "kernel_size": 3,
    "blocks_down": [1, 2],
    "blocks_bottleneck": 1,
    "blocks_up": [2, 1],
}
EVERYWHERE = {"use_residual_connection": True, "global_resp_norm": True}
TOLERANCE = 1e-5  # of the logits' peak, in float32

# MONAI's modules -> MIC-DKFZ's, for two levels
NAMES = {
    "stem": "stem",
    "enc_stages.0": "enc_block_0",
    "down_blocks.0": "down_0",
    "enc_stages.1": "enc_block_1",
    "down_blocks.1": "down_1",
    "bottleneck": "bottleneck",
    "up_blocks.0": "up_1",
    "dec_stages.0": "dec_block_1",
    "up_blocks.1": "up_0",
    "dec_stages.1": "dec_block_0",
    "out_0": "out_0",
    "out_blocks.0": "out_2",
    "out_blocks.1": "out_1",
}
ENTRIES = {"global_resp_gamma": "grn_gamma", "global_resp_beta": "grn_beta"}


def network(changes: dict[str, Any] | None = None) -> torch.nn.Module:
    torch.manual_seed(0)
    built = randomised(MedNeXt(**{**PLAIN, **(changes or {})}))
    for key, tensor in built.state_dict().items():
        if "global_resp" in key:
            tensor.normal_()
    return built


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def by_their_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """MONAI's entries by MIC-DKFZ's keys, with the one that MIC-DKFZ's has besides."""
    found = {"dummy_tensor": torch.ones(1)}
    for key, value in state.items():
        module = next(name for name in NAMES if key.startswith(f"{name}."))
        *inner, entry = key.removeprefix(f"{module}.").split(".")
        found[".".join([NAMES[module], *inner, ENTRIES.get(entry, entry)])] = value
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kernel_size": 5, "in_channels": 1, "out_channels": 3, "init_filters": 3},
        {"kernel_size": 7, **EVERYWHERE},
        {"use_residual_connection": True, "blocks_down": [1], "blocks_up": [3]},
        {
            "encoder_expansion_ratio": [1, 3],
            "decoder_expansion_ratio": [4, 2],
            "bottleneck_expansion_ratio": 5,
            "blocks_bottleneck": 2,
        },
        {"global_resp_norm": True, "deep_supervision": True},
    ],
    ids=str,
)
def test_the_architecture_is_read_from_the_entries(changes: dict[str, Any]) -> None:
    state, given = arrays_of(network(changes)), {**PLAIN, **changes}
    read, _, _ = mednext.convert(state)
    assert read == MEDNEXT.config.from_arguments(given)
    stated = {"norm_type": "group", "use_residual_connection": False, **given}
    assert mednext.convert(state, stated)[2] == []  # nothing is assumed where all is given


def test_what_shapes_cannot_show_is_said() -> None:
    *_, assumptions = mednext.convert(arrays_of(network()))
    said = "\n".join(assumptions)
    assert "norm_type: group" in said
    assert "use_residual_connection: false" in said
    *_, assumptions = mednext.convert(arrays_of(network(EVERYWHERE)))
    assert "use_residual_connection" not in "\n".join(assumptions)


@pytest.mark.parametrize("changes", [{"deep_supervision": True}, EVERYWHERE], ids=str)
def test_a_checkpoint_converts_and_is_verified(tmp_path: Path, changes: dict[str, Any]) -> None:
    trained = network(changes)
    state = {f"net.{key}": value for key, value in trained.state_dict().items()}
    path = written(tmp_path / "a.pt", {"state_dict": state, "epoch": 3})
    (tmp_path / "network.json").write_text(json.dumps({**PLAIN, **changes}))
    for config in (None, tmp_path / "network.json"):
        model, _ = convert_checkpoint(MEDNEXT, path, config)
        assert model.config.divisor == (4, 4, 4)
        assert verify_checkpoint(MEDNEXT, model, path) < TOLERANCE


@pytest.mark.parametrize("changes", [{"deep_supervision": True}, EVERYWHERE], ids=str)
def test_a_checkpoint_of_mic_dkfz_has_other_keys(tmp_path: Path, changes: dict[str, Any]) -> None:
    trained = network(changes)
    path = written(tmp_path / "theirs.model", {"state_dict": by_their_names(trained.state_dict())})
    model, _ = convert_checkpoint(MEDNEXT, path)
    expected, parameters, _ = mednext.convert(arrays_of(trained))
    assert model.config == expected
    for name, value in parameters.items():
        np.testing.assert_array_equal(model.parameters[name], value)
    assert verify_checkpoint(MEDNEXT, model, path) < TOLERANCE


@pytest.mark.thorough
def test_blocks_of_mic_dkfz_that_halve_the_size_have_ratios_of_their_own(tmp_path: Path) -> None:
    """That of the level below, where MONAI's have that of the level above."""
    trained = network({"encoder_expansion_ratio": [1, 2], "bottleneck_expansion_ratio": 3})
    for level, ratio in enumerate((2, 3)):
        width = PLAIN["init_filters"] * 2**level
        trained.down_blocks[level] = MedNeXtDownBlock(width, 2 * width, ratio, 3)
    trained = randomised(trained)
    path = written(tmp_path / "theirs.model", by_their_names(trained.state_dict()))
    model, _ = convert_checkpoint(MEDNEXT, path)
    assert model.config.down_expansion_ratio == (2, 3)
    image = np.random.default_rng(1).standard_normal((1, 8, 8, 4, 2), np.float32)
    with torch.no_grad():
        expected = trained(torch.from_numpy(np.moveaxis(image, -1, 1).copy())).numpy()
    difference = np.abs(np.moveaxis(np.asarray(model(image)), -1, 1) - expected).max()
    assert difference < TOLERANCE * np.abs(expected).max()
    with pytest.raises(InputError, match=r"MONAI cannot build .* these expansion ratios"):
        verify_checkpoint(MEDNEXT, model, path)


def test_monai_cannot_verify_the_layer_norm_of_mic_dkfz(tmp_path: Path) -> None:
    path = written(tmp_path / "theirs.model", by_their_names(network().state_dict()))
    (tmp_path / "network.json").write_text('{"norm_type": "layer"}')
    model, _ = convert_checkpoint(MEDNEXT, path, tmp_path / "network.json")
    assert model.config.norm_type == "layer"
    with pytest.raises(InputError, match=r"MONAI cannot build .* with layer norm"):
        verify_checkpoint(MEDNEXT, model, path)


@pytest.mark.parametrize(
    "changes", [{"deep_supervision": True}, {"kernel_size": 5, **EVERYWHERE}], ids=str
)
def test_a_network_in_memory_converts_by_its_own_account(changes: dict[str, Any]) -> None:
    model_from_module(network(changes))  # compares the logits


@pytest.mark.thorough
def test_a_network_in_memory_that_was_changed_is_noticed() -> None:
    changed = network({"use_residual_connection": True})
    changed.bottleneck[0].do_res = False
    with pytest.raises(InputError, match="logits differ"):
        model_from_module(changed)


IO = {"spatial_dims": 3, "in_channels": 2, "out_channels": 2}
OTHERS = {
    "unet": lambda: UNet(**IO, channels=(2, 2), strides=(2,)),
    "dynunet": lambda: DynUNet(
        **IO, kernel_size=[3] * 3, strides=[1, 2, 1], upsample_kernel_size=[2, 1], filters=[2] * 3
    ),
    "segresnet": lambda: SegResNet(**IO, init_filters=8, blocks_down=[1, 1], blocks_up=[1]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_refused_and_theirs_refuse_this_one(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / "other.pt", OTHERS[name]().state_dict())
    with pytest.raises(InputError, match="it holds another network"):
        convert_checkpoint(MEDNEXT, path)
    path = written(tmp_path / "mednext.pt", network().state_dict())
    with pytest.raises(InputError):
        convert_checkpoint(MONAI_NETWORKS[name], path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spatial_dims": 2}, "only 3D networks"),
        ({"norm_type": "layer"}, "layer norm is over a grid of 3 × 3 × 3 voxels"),
        ({"blocks_bottleneck": 0}, "bottleneck.0.conv2.weight is missing"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
    ],
    ids=str,
)
def test_networks_that_are_not_supported_are_refused(changes: dict[str, Any], message: str) -> None:
    unsupported = network(changes)
    with pytest.raises(InputError, match=message):
        mednext.convert(arrays_of(unsupported))
    with pytest.raises(InputError, match=message):
        model_from_module(unsupported)


def test_kernels_of_several_sizes_are_refused() -> None:
    state = arrays_of(network())
    state["bottleneck.0.conv1.weight"] = np.zeros((8, 1, 5, 5, 5), np.float32)
    with pytest.raises(InputError, match=r"one size along all axes; got \[3, 3, 3\], \[5, 5, 5\]"):
        mednext.convert(state)


def test_weights_that_a_stated_architecture_needs_are_asked_for() -> None:
    state = arrays_of(network({"blocks_down": [1], "blocks_up": [1]}))
    with pytest.raises(InputError, match=r"4 missing .*res_conv"):
        mednext.convert(state, {"use_residual_connection": True})


@pytest.mark.thorough
@pytest.mark.parametrize(("variant", "size"), [("S", 5), ("B", 3)])
def test_the_published_networks_convert(tmp_path: Path, variant: str, size: int) -> None:
    trained = randomised(create_mednext(variant, in_channels=2, kernel_size=size))
    path = written(tmp_path / "published.pt", trained.state_dict())
    model, _ = convert_checkpoint(MEDNEXT, path)
    assert verify_checkpoint(MEDNEXT, model, path) < TOLERANCE
