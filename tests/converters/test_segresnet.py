"""MONAI's SegResNet and SegResNetDS: architecture read from a checkpoint, mistakes named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.network_cases.case import arrays_of, randomised
from monai.networks.nets import SegResNet, SegResNetDS, SegResNetVAE
from monai.networks.nets.segresnet_ds import SegResNetDS2

from jaxsal.errors import InputError
from jaxsal_converters import segresnet, segresnet_ds
from jaxsal_converters.modules import model_from_module
from jaxsal_converters.monai import MonaiNetwork, convert_checkpoint, verify_checkpoint
from jaxsal_converters.segresnet import SEGRESNET
from jaxsal_converters.segresnet_ds import SEGRESNET_DS

pytestmark = pytest.mark.usefixtures("xla_convolutions")

PLAIN: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 2,
    "out_channels": 2,
    "init_filters": 2,
    "blocks_down": [1, 2],
    "blocks_up": [1],
    "norm": "batch",
}


def network(build: Any, changes: dict[str, Any] | None = None) -> torch.nn.Module:
    torch.manual_seed(0)
    return randomised(build(**{**PLAIN, **(changes or {})}))


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def named(value: Any) -> str:
    """A test's id, the same in every process: kinds of networks hold functions."""
    return getattr(value, "name", None) or getattr(value, "__name__", str(value))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (SEGRESNET, {}),
        (SEGRESNET, {"upsample_mode": "deconv", "blocks_down": [2, 1, 1], "blocks_up": [1, 2]}),
        (SEGRESNET, {"norm": ["group", {"num_groups": 8}], "init_filters": 8, "in_channels": 1}),
        (SEGRESNET, {"upsample_mode": "pixelshuffle", "act": ["prelu", {"num_parameters": 1}]}),
        (SEGRESNET, {"norm": ["instance", {"affine": False}], "blocks_down": [1], "blocks_up": []}),
        (SEGRESNET_DS, {}),
        (SEGRESNET_DS, {"upsample_mode": "nontrainable", "out_channels": 1}),
        (SEGRESNET_DS, {"norm": ["instance", {"affine": True}], "upsample_mode": "pixelshuffle"}),
        (SEGRESNET_DS, {"resolution": [1, 2, 4], "blocks_down": [1] * 4, "blocks_up": [2, 1, 1]}),
        (SEGRESNET_DS, {"resolution": [1, 1, 8], "act": ["prelu", {"num_parameters": 1}]}),
        (SEGRESNET_DS, {"blocks_down": [1], "blocks_up": []}),
    ],
    ids=named,
)
def test_the_architecture_is_read_from_the_entries(
    kind: MonaiNetwork, changes: dict[str, Any]
) -> None:
    build = SegResNet if kind is SEGRESNET else SegResNetDS
    state = arrays_of(network(build, changes))
    read, _, _ = kind.convert(state)
    stated, _, assumptions = kind.convert(state, {"act": "relu", **PLAIN, **changes})
    assert assumptions == []  # where all is given
    assert read.divisor == stated.divisor
    found, expected = read.to_arguments(), stated.to_arguments()
    for arguments in (found, expected):  # its parameters' default is spelt out in one of them
        arguments["norm"] = {"affine": True, **arguments["norm"][1]}, arguments["norm"][0]
        arguments.pop("resolution", None)  # several lead to the same kernels, which are compared
    assert found == expected
    assert read.kernels == stated.kernels


def test_what_shapes_cannot_show_is_said() -> None:
    *_, assumptions = segresnet.convert(arrays_of(network(SegResNet)))
    assert "act: ReLU" in "\n".join(assumptions)
    state = arrays_of(network(SegResNet, {"norm": ("group", {"num_groups": 2}), "init_filters": 8}))
    *_, assumptions = segresnet.convert(state)
    assert "group norm of 8 groups, MONAI's default; other numbers" in "\n".join(assumptions)
    *_, assumptions = segresnet_ds.convert(arrays_of(network(SegResNetDS, {"norm": "instance"})))
    assert "group norm looks the same" in "\n".join(assumptions)


def test_a_default_that_does_not_fit_is_not_assumed() -> None:
    state = arrays_of(network(SegResNet, {"norm": ("group", {"num_groups": 2})}))
    with pytest.raises(InputError, match=r"does not fit 2 channels.*--config"):
        segresnet.convert(state)


@pytest.mark.thorough
def test_a_checkpoint_of_auto3dseg_converts(tmp_path: Path) -> None:
    changes = {"norm": "instance", "dsdepth": 2, "blocks_down": [1, 1, 1], "blocks_up": None}
    trained = network(SegResNetDS, {**changes, "resolution": [1.0, 1.0, 5.0]})
    described = {"_target_": "SegResNetDS", **PLAIN, **changes, "norm": "INSTANCE_NVFUSER"}
    described["resolution"] = [1.0, 1.0, 5.0]
    content = {
        "state_dict": trained.state_dict(),
        "config": {"network": described, "roi_size": [16, 16, 8], "sigmoid": False},
        "epoch": 3,
        "best_metric": np.float64(0.5),
    }
    path = written(tmp_path / "model.pt", content)
    (tmp_path / "hyper_parameters.yaml").write_text(json.dumps({"network": described}))
    for config in (None, tmp_path / "hyper_parameters.yaml"):
        model, _ = convert_checkpoint(SEGRESNET_DS, path, config)
        assert model.config.divisor == (4, 4, 1)
        assert verify_checkpoint(SEGRESNET_DS, model, path) < 1e-5


@pytest.mark.parametrize("channels", [2, 3])
def test_features_are_logits_where_there_is_no_last_convolution(
    tmp_path: Path, channels: int
) -> None:
    changes = {"use_conv_final": False, "out_channels": channels}
    path = written(tmp_path / "a.pt", network(SegResNet, changes).state_dict())
    (tmp_path / "config.json").write_text(json.dumps({"use_conv_final": False}))
    model, _ = convert_checkpoint(SEGRESNET, path, tmp_path / "config.json")
    assert model.config.out_channels == PLAIN["init_filters"]
    assert verify_checkpoint(SEGRESNET, model, path) < 1e-5


def test_the_autoencoder_of_a_vae_is_left_out_with_a_note() -> None:
    vae = network(SegResNetVAE, {"input_image_size": (8, 8, 8)})
    config, _, assumptions = segresnet.convert(arrays_of(vae))
    assert "left out: the autoencoder" in "\n".join(assumptions)
    assert model_from_module(vae).config.kind == config.kind  # compares the logits


@pytest.mark.parametrize(
    ("build", "changes"),
    [
        (SegResNet, {"act": ("LEAKYRELU", {"inplace": True}), "upsample_mode": "deconv"}),
        (SegResNet, {"norm": ("GROUP", {"num_groups": 1}), "dropout_prob": 0.2}),
        (SegResNetDS, {"resolution": (1, 1, 3), "act": "elu", "dsdepth": 2}),
        (SegResNetDS, {"norm": ("group", {"num_groups": 2}), "upsample_mode": "nontrainable"}),
    ],
    ids=named,
)
def test_a_network_in_memory_converts_by_its_own_account(
    build: Any, changes: dict[str, Any]
) -> None:
    model_from_module(network(build, changes))  # compares the logits


@pytest.mark.parametrize(
    ("kind", "build", "changes", "message"),
    [
        (SEGRESNET, SegResNetDS, {}, "holds a SegResNetDS, which `jaxsal convert segresnet-ds`"),
        (SEGRESNET_DS, SegResNet, {}, "holds a SegResNet, which `jaxsal convert segresnet`"),
        (SEGRESNET_DS, SegResNetDS2, {}, "SegResNetDS2, VISTA3D"),
        (SEGRESNET, SegResNet, {"spatial_dims": 2}, "only 3D networks"),
        (SEGRESNET_DS, SegResNetDS, {"spatial_dims": 2}, "only 3D networks"),
        (SEGRESNET, SegResNet, {"upsample_mode": "deconvgroup"}, "got 'deconvgroup'"),
    ],
    ids=named,
)
def test_other_networks_are_refused(
    kind: MonaiNetwork, build: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        kind.convert(arrays_of(network(build, changes)))


def test_kernels_that_no_resolution_leads_to_are_refused() -> None:
    state = arrays_of(network(SegResNetDS, {"blocks_down": [1, 1, 1], "blocks_up": [1, 1]}))
    key = "encoder.layers.1.blocks.0.conv1.weight"
    state[key] = state[key][..., :1]
    with pytest.raises(InputError, match="are none of a SegResNetDS"):
        segresnet_ds.convert(state)
