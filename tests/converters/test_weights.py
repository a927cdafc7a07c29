"""Raw weights and averaged ones (EMA) in one file: which are taken is said, and can be chosen."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from jaxsal.errors import InputError
from jaxsal_converters.monai import convert_checkpoint, verify, verify_checkpoint
from jaxsal_converters.state_dict import State
from jaxsal_converters.unet import UNET
from jaxsal_converters.weights import read_network

ARGUMENTS: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": (2, 3),
    "strides": (2,),
    "norm": "batch",
}
torch.manual_seed(0)
RAW = UNet(**ARGUMENTS)
AVERAGED = copy.deepcopy(RAW)
for parameter in AVERAGED.parameters():
    parameter.data.mul_(2.0)
raw, ema = RAW.state_dict(), AVERAGED.state_dict()
ema_parameters = dict(AVERAGED.named_parameters())


def under(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + key: value for key, value in state.items()}


# by program: what it saves, and which weights it reads
LAYOUTS: dict[str, tuple[dict[str, Any], str]] = {
    "timm": ({"state_dict": raw, "state_dict_ema": ema}, "raw"),
    "ema_state_dict": ({"model_state_dict": raw, "ema_state_dict": ema, "epoch": 1}, "raw"),
    "MONAI's CheckpointSaver": ({"model": raw, "ema": ema, "optimizer": {}}, "raw"),
    "averaged model of torch": (
        {"model": raw, "model_ema": {"n_averaged": torch.tensor(3), **under("module.", ema)}},
        "raw",
    ),
    "wrapped twice": ({"checkpoint": {"state_dict": raw, "ema_state_dict": ema}}, "raw"),
    "BasicSR": ({"params": raw, "params_ema": ema}, "raw"),
    "parameters alone": ({"model": raw, "ema": ema_parameters}, "raw"),
    "torch_ema": (
        {"model": raw, "ema": {"decay": 0.9, "shadow_params": list(ema_parameters.values())}},
        "raw",
    ),
    "Lightning callback": (
        {
            "state_dict": under("net.", raw),
            "callbacks": {"EMA": {"ema_weights": list(ema.values())}},
        },
        "raw",
    ),
    "Lightning module with a copy": (
        {"state_dict": {**under("model.", raw), **under("ema_model.module.", ema)}},
        "raw",
    ),
    "Lightning's WeightAveraging": (
        {"state_dict": ema, "current_model_state": raw, "averaging_state": {"n_averaged": 3}},
        "ema",
    ),
    "OpenMMLab": (
        {
            "meta": {"mmengine_version": "0.10"},
            "state_dict": ema,
            "ema_state_dict": {"steps": torch.tensor(3), **under("module.", raw)},
        },
        "ema",
    ),
}


def expected(kind: str) -> State:
    state = raw if kind == "raw" else ema
    return {key: value.numpy() for key, value in state.items() if "num_batches" not in key}


def assert_equal(found: State, kind: str) -> None:
    wanted = expected(kind)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize(("content", "usual"), LAYOUTS.values(), ids=LAYOUTS)
def test_raw_and_averaged_weights_are_distinguished(
    tmp_path: Path, content: dict[str, Any], usual: str
) -> None:
    path = tmp_path / "a.pth"
    torch.save(content, path)
    notes: list[str] = []
    found, _ = read_network(path, UNET.key_pattern, None, notes)
    assert_equal(found, usual)
    other = "ema" if usual == "raw" else "raw"
    assert any(f"--weights {other} takes the" in note for note in notes)
    for kind in ("raw", "ema"):
        assert_equal(read_network(path, UNET.key_pattern, kind)[0], kind)


def test_the_converted_network_is_monais_with_the_chosen_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": raw, "state_dict_ema": ema}, path)
    model, notes = convert_checkpoint(UNET, path, weights="ema")
    assert any("averaged (EMA) ones in state_dict_ema" in note for note in notes)
    assert verify_checkpoint(UNET, model, path, "ema") < 1e-5
    assert verify(UNET, model, ARGUMENTS, expected("raw")) > 0.1


def test_running_statistics_that_are_not_averaged_are_the_raw_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": raw, "ema": ema_parameters}, path)
    notes: list[str] = []
    read_network(path, UNET.key_pattern, "ema", notes)
    assert any("not averaged, so as in model: " in n and "running_mean" in n for n in notes)


def test_weights_that_are_alone_are_taken_and_others_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"ema_state_dict": ema, "optimizer": {"state": {0: {"m": torch.ones(1)}}}}, path)
    notes: list[str] = []
    assert_equal(read_network(path, UNET.key_pattern, None, notes)[0], "ema")
    assert notes == ["weights: the averaged (EMA) ones in ema_state_dict, the only ones"]
    with pytest.raises(InputError, match=r"no raw weights, only those in ema_state_dict"):
        read_network(path, UNET.key_pattern, "raw")
    torch.save({"state_dict": raw}, path)
    with pytest.raises(InputError, match=r"no averaged \(EMA\) weights.*leave --weights out"):
        read_network(path, UNET.key_pattern, "ema")


def test_averages_without_names_must_fit_the_network(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": raw, "ema": {"shadow_params": list(ema_parameters.values())[1:]}}, path)
    with pytest.raises(InputError, match="have no names, and are not in number and shapes"):
        read_network(path, UNET.key_pattern, "ema")


@pytest.mark.parametrize("name", ["SEMANTIC", "schema", "semantic_head", "emanation"])
def test_names_that_only_look_like_it_are_not_averages(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": raw, name: {"weight": torch.ones(2), "bias": torch.ones(2)}}, path)
    notes: list[str] = []
    read_network(path, UNET.key_pattern, None, notes)
    assert notes == []


def test_a_checkpoint_within_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    content: dict[str, Any] = {"epoch": 1}
    content["state_dict"] = content
    torch.save(content, path)
    with pytest.raises(InputError, match="no tensors"):
        read_network(path, UNET.key_pattern)
