"""MONAI's SwinUNETR: architecture read from a checkpoint, what it cannot show, mistakes named."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.network_cases.swin_unetr import MergingUntil14
from monai.networks.nets import SwinUNETR

from jaxsal.errors import InputError
from jaxsal_converters.monai import convert_checkpoint
from jaxsal_converters.swin_unetr import SWIN_UNETR, convert, restate

PLAIN: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 2,
    "out_channels": 2,
    "feature_size": 12,
    "depths": [1, 1, 1, 1],
    "window_size": 2,
}


def tensors(changes: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return SwinUNETR(**{**PLAIN, **(changes or {})}).state_dict()


def arrays(changes: dict[str, Any] | None = None) -> dict[str, np.ndarray]:
    found = tensors(changes).items()
    return {k: v.numpy().astype("f4") for k, v in found if "num_batches" not in k}


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_v2": True, "depths": [1, 2, 3, 1], "window_size": 3, "in_channels": 12},
        {"num_heads": [1, 2, 4, 8], "mlp_ratio": 1.5, "qkv_bias": False, "out_channels": 1},
        pytest.param(
            {"patch_norm": True, "norm_name": "batch", "window_size": 7}, marks=pytest.mark.thorough
        ),
        {"norm_name": ["batch", {"affine": False}], "feature_size": 24},
    ],
    ids=str,
)
def test_the_architecture_is_read_from_the_entries(changes: dict[str, Any]) -> None:
    config, _, _ = convert(arrays(changes))
    stated, _, assumptions = convert(
        arrays(changes),
        {"norm_name": "instance", "normalize": True, "downsample": "merging", **PLAIN, **changes},
    )
    assert assumptions == []  # where all is given
    read, expected = config.to_arguments(), stated.to_arguments()
    assert read.pop("norm_name")[0] == expected.pop("norm_name")[0]
    assert read == expected


def test_what_shapes_cannot_show_is_said() -> None:
    _, _, assumptions = convert(arrays())
    text = "\n".join(assumptions)
    assert "normalize: true" in text
    assert "merging-1.4" in text
    assert "instance norm" in text


def test_an_image_size_tells_which_merging_it_was() -> None:
    config, _, assumptions = convert(arrays(), {"img_size": 96})
    assert config.downsample == "merging-1.4"
    assert not any("downsample" in assumption for assumption in assumptions)


def test_affine_norms_are_taken_for_instance_norm_unless_told() -> None:
    group = {"norm_name": ["group", {"num_groups": 3}]}
    config, _, assumptions = convert(arrays(group))
    assert config.norm_name == ("instance", (("affine", True),))
    assert any("group norm" in assumption for assumption in assumptions)
    config, _, _ = convert(arrays(group), group)
    assert config.norm_name == ("group", (("num_groups", 3),))


def test_windows_that_are_no_cubes_have_to_be_given() -> None:
    changes = {"window_size": [3, 2, 4]}
    with pytest.raises(InputError, match=r"no cubes.*--config"):
        convert(arrays(changes))
    config, _, _ = convert(arrays(changes), changes)
    assert config.window_size == (3, 2, 4)


def test_relative_positions_are_rebuilt_rather_than_read() -> None:
    state = arrays()
    kept = {key: value for key, value in state.items() if "position_index" not in key}
    assert len(kept) < len(state)
    config, parameters, _ = convert(kept)
    expected_config, expected, _ = convert(state)
    assert config == expected_config
    assert parameters.keys() == expected.keys()


def test_data_parallel_and_plain_networks_convert_alike(tmp_path: Path) -> None:
    wrapped = {f"module.{key}": value for key, value in tensors().items()}
    parallel = written(tmp_path / "parallel.pth", {"state_dict": wrapped, "epoch": 3})
    plain = written(tmp_path / "plain.pth", tensors())
    model, _ = convert_checkpoint(SWIN_UNETR, parallel)
    other, _ = convert_checkpoint(SWIN_UNETR, plain, channels=["flair", "t1"], threshold=0.4)
    assert model.config == other.config
    for name, value in other.parameters.items():
        np.testing.assert_array_equal(model.parameters[name], value)
    assert (other.channels, other.threshold) == (("flair", "t1"), 0.4)
    for path, layer in {
        "decoder1.transp_conv": "decoder.0.upsample",
        "swinViT.layers3.0.blocks.0.attn": "stages.2.blocks.0.attention",
        "encoder10": "bottleneck",
        "out": "head",
    }.items():
        assert other.resolve_layer(path) == layer


@pytest.mark.thorough
def test_the_configuration_takes_precedence(tmp_path: Path) -> None:
    source = written(tmp_path / "swin.pth", tensors())
    config_file = tmp_path / "config.json"
    config_file.write_text(json.dumps({"normalize": False, "downsample": "mergingv2"}))
    model, _ = convert_checkpoint(SWIN_UNETR, source, config_file)
    assert (model.config.normalize, model.config.downsample) == (False, "mergingv2")
    config_file.write_text(json.dumps({"num_heads": [1, 2, 3, 4]}))
    with pytest.raises(InputError, match=r"of another shape.*relative_position_bias_table"):
        convert_checkpoint(SWIN_UNETR, source, config_file)


def pretrained(prefix: str, *, heads: bool) -> dict[str, torch.Tensor]:
    """Entries as self-supervised pretraining of the transformer saves them."""
    inner = {k: v for k, v in tensors().items() if k.startswith("swinViT.")}
    renamed = {k.replace("swinViT.", prefix): v for k, v in inner.items()}
    extra = {"rotation_head.weight": torch.ones(4, 2), "contrastive_head.weight": torch.ones(2)}
    return {**renamed, **(extra if heads else {})}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (pretrained("module.", heads=False), "without the decoder of SwinUNETR"),
        (pretrained("swinViT.", heads=False), "transformer without its decoder, as"),
        (pretrained("swinViT.", heads=True), "with contrastive_head, rotation_head"),
        ({"model.0.conv.weight": torch.ones(2)}, "another network"),
    ],
    ids=["bare transformer", "transformer", "transformer with its heads", "other"],
)
def test_what_is_no_whole_network_is_refused(
    tmp_path: Path, state: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        convert_checkpoint(SWIN_UNETR, written(tmp_path / "a.pth", state))


def test_other_operators_than_attention_are_refused() -> None:
    state = arrays()
    state["swinViT.layers1.0.blocks.0.hyena.kernel.weight"] = np.ones(2, "f4")
    with pytest.raises(InputError, match="Hyena"):
        convert(state)


def test_flat_networks_are_refused() -> None:
    with pytest.raises(InputError, match="3D"):
        convert(arrays({"spatial_dims": 2}))


@pytest.mark.parametrize(
    "key",
    [
        "swinViT.patch_embed.proj.weight",
        "swinViT.layers1.0.blocks.0.mlp.linear1.weight",
        "swinViT.layers3.0.blocks.0.attn.relative_position_bias_table",
        "decoder3.conv_block.conv2.conv.weight",
    ],
)
def test_missing_entries_are_named(key: str) -> None:
    state = arrays()
    del state[key]
    with pytest.raises(InputError, match=key.replace(".", r"\.")):
        convert(state)


def test_the_older_merging_is_restated_for_the_installed_monai() -> None:
    assert restate({"downsample": "merging"}) == {"downsample": "merging"}
    torch.manual_seed(0)
    rebuilt = restate({"downsample": "merging-1.4"})["downsample"](12)
    reference = MergingUntil14(12)
    reference.load_state_dict(rebuilt.state_dict())
    x = torch.randn(1, 2, 4, 6, 12)
    torch.testing.assert_close(rebuilt(x), reference(x))


def test_comparing_needs_a_monai_with_the_newer_merging(monkeypatch: pytest.MonkeyPatch) -> None:
    old = inspect.Signature([inspect.Parameter("img_size", inspect.Parameter.KEYWORD_ONLY)])
    monkeypatch.setattr(inspect, "signature", lambda _: old)
    with pytest.raises(InputError, match=r"1\.5 or newer"):
        restate({"downsample": "merging"})
