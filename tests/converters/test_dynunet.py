"""MONAI's DynUNet: architecture read from a checkpoint, old and new layouts, mistakes named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import DynUNet

from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal_converters.dynunet import DYNUNET, convert
from jaxsal_converters.monai import convert_checkpoint, verify, verify_checkpoint

pytestmark = pytest.mark.usefixtures("xla_convolutions")

PLAIN: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 2,
    "out_channels": 2,
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [2, 3, 4],
}


def tensors(changes: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return DynUNet(**{**PLAIN, **(changes or {})}).state_dict()


def arrays(changes: dict[str, Any] | None = None) -> dict[str, np.ndarray]:
    return {k: v.numpy() for k, v in tensors(changes).items() if "num_batches" not in k}


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"res_block": True, "norm_name": "instance", "trans_bias": True},
        {
            "kernel_size": [[1, 3, 5], 3, 3, 1],
            "strides": [1, [2, 1, 3], 1, 1],
            "upsample_kernel_size": [[2, 1, 3], 1, 1],
            "filters": None,
            "norm_name": "batch",
        },
        {"act_name": "prelu", "deep_supervision": True, "out_channels": 1},
        {"norm_name": ("batch", {"affine": False}), "in_channels": 3},
    ],
    ids=str,
)
def test_the_architecture_is_read_from_the_entries(changes: dict[str, Any]) -> None:
    config, _, _ = convert(arrays(changes))
    stated, _, assumptions = convert(
        arrays(changes),
        {
            "norm_name": ["instance", {"affine": True}],
            "act_name": ["leakyrelu", {"negative_slope": 0.01}],
            **PLAIN,
            **changes,
        },
    )
    assert assumptions == []  # where all is given
    read, expected = config.to_arguments(), stated.to_arguments()
    for name in ("norm_name", "act_name"):  # one has its default arguments spelt out
        assert read.pop(name)[0] == expected.pop(name)[0]
    assert read == expected


def test_what_shapes_cannot_show_is_said() -> None:
    _, _, assumptions = convert(arrays())
    text = "\n".join(assumptions)
    assert "group norm looks the same" in text
    assert "leaky ReLU" in text
    _, _, assumptions = convert(arrays({"norm_name": "batch", "act_name": "prelu"}))
    assert assumptions == []


LAYOUTS = {
    "old, without skip_layers": lambda key: not key.startswith("skip_layers"),
    "skip_layers only": lambda key: key.startswith(("skip_layers", "output_block")),
    "shared entries stored once": lambda key: not key.startswith(("downsamples", "bottleneck")),
}


@pytest.mark.parametrize("keeps", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_of_the_entries_gives_the_same_network(keeps: Any) -> None:
    changes = {"deep_supervision": True, "res_block": True}
    complete = arrays(changes)
    config, parameters, _ = convert(complete)
    kept = {key: value for key, value in complete.items() if keeps(key)}
    assert len(kept) < len(complete)
    other_config, others, _ = convert(kept)
    assert other_config == config
    for name, value in parameters.items():
        np.testing.assert_array_equal(others[name], value)


@pytest.mark.parametrize("keeps", LAYOUTS.values(), ids=LAYOUTS)
def test_verify_needs_no_duplicates(tmp_path: Path, keeps: Any) -> None:
    kept = {key: value for key, value in tensors().items() if keeps(key)}
    path = written(tmp_path / "a.pth", kept)
    model, _ = convert_checkpoint(DYNUNET, path)
    assert verify_checkpoint(DYNUNET, model, path) < 1e-5
    assert verify(DYNUNET, model, PLAIN, arrays()) < 1e-5


def test_verify_still_misses_what_is_stored_nowhere() -> None:
    config, parameters, _ = convert(arrays())
    state = {key: value for key, value in arrays().items() if "bottleneck.conv1" not in key}
    lost = "skip_layers.next_layer.next_layer.conv1.conv.weight"
    del state[lost]
    with pytest.raises(
        InputError, match=r"lacks: \['bottleneck\.conv1\.conv\.weight', 'skip_layers"
    ):
        verify(DYNUNET, Model(config, parameters, ("a", "b")), PLAIN, state)


def test_duplicates_that_differ_are_refused() -> None:
    state = arrays()
    key = "skip_layers.next_layer.upsample.transp_conv.conv.weight"
    state[key] = state[key] + 1
    with pytest.raises(InputError, match=r"next_layer.*upsamples\.0\.transp_conv"):
        convert(state)


def test_shortcuts_that_older_versions_did_not_use_are_left_out() -> None:
    changes = {"res_block": True, "in_channels": 2, "filters": [2, 2, 4]}
    state = arrays(changes)
    assert "input_block.conv3.conv.weight" not in state
    state["input_block.conv3.conv.weight"] = np.ones((2, 2, 1, 1, 1), "f4")
    state["input_block.norm3.weight"] = np.ones(2, "f4")
    _, parameters, _ = convert(state)
    assert "encoder.0.shortcut.conv.kernel" not in parameters


@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({"act_name": "relu"}, {"act_name": "relu"}),
        (
            {"norm_name": ("group", {"num_groups": 1})},
            {"norm_name": ["group", {"num_groups": 1}]},
        ),
    ],
    ids=["activation", "group norm"],
)
def test_the_configuration_takes_precedence(
    tmp_path: Path, changes: dict[str, Any], given: dict[str, Any]
) -> None:
    path = written(tmp_path / "a.pth", tensors(changes))
    (tmp_path / "config.json").write_text(json.dumps(given))
    model, _ = convert_checkpoint(DYNUNET, path, tmp_path / "config.json", channels=["a", "b"])
    assert verify_checkpoint(DYNUNET, model, path) < 1e-5
    assumed, _ = convert_checkpoint(DYNUNET, path, channels=["a", "b"])
    arguments = {**PLAIN, **changes}
    assert verify(DYNUNET, assumed, arguments, arrays(changes)) > 1e-3


@pytest.mark.parametrize("prefix", ["module.", "model.", "network.module."])
def test_wrapped_networks_convert_to_the_same_model(tmp_path: Path, prefix: str) -> None:
    config, parameters, _ = convert(arrays())
    wrapped = {prefix + key: value for key, value in tensors().items()}
    path = written(tmp_path / "a.ckpt", {"state_dict": {**wrapped, "loss.w": torch.ones(1)}})
    model, assumptions = convert_checkpoint(DYNUNET, path)
    assert model.config == config
    for name, value in parameters.items():
        np.testing.assert_array_equal(model.parameters[name], value)
    assert any("loss.w" in assumption for assumption in assumptions)


def test_layers_answer_to_every_path_of_the_source() -> None:
    config, parameters, _ = convert(arrays())
    model = Model(config, parameters, ("a", "b"), aliases=DYNUNET.aliases(config))
    for path in ("upsamples.1.transp_conv.conv", "skip_layers.upsample.transp_conv"):
        assert model.resolve_layer(path) == "decoder.0.upsample"
    assert model.resolve_layer("skip_layers.next_layer.next_layer") == "bottleneck"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("output_block.conv.conv.weight"), r"output_block.*is missing"),
        (lambda s: s.update({"input_block.extra": np.ones(1)}), r"1 extra \(input_block\.extra"),
        (
            lambda s: s.update({"upsamples.0.transp_conv.conv.weight": np.ones((4, 3, 3, 3, 3))}),
            "duplicate",
        ),
        (
            lambda s: s.update({"output_block.conv.conv.bias": np.ones(5)}),
            r"output_block\.conv\.conv\.bias \(5,\) instead of \(2,\)",
        ),
    ],
    ids=["missing", "extra", "changed", "misshapen"],
)
def test_entries_that_do_not_fit_are_named(change: Any, message: str) -> None:
    state = arrays()
    change(state)
    with pytest.raises(InputError, match=message):
        convert(state)


def test_flat_networks_and_other_networks_are_refused(tmp_path: Path) -> None:
    flat = arrays({"spatial_dims": 2})
    with pytest.raises(InputError, match="3D"):
        convert(flat)
    path = written(tmp_path / "a.pth", torch.nn.Linear(2, 2).state_dict())
    with pytest.raises(InputError, match="another network"):
        convert_checkpoint(DYNUNET, path)
