"""MONAI's bundles: the network of its own parser, names from metadata, and nothing executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from jaxsal.errors import InputError
from jaxsal_converters.monai import convert_checkpoint, verify_checkpoint
from jaxsal_converters.swin_unetr import SWIN_UNETR
from jaxsal_converters.unet import UNET

NETWORK: dict[str, Any] = {
    "_target_": "monai.networks.nets.UNet",
    "spatial_dims": "@dimensions",
    "in_channels": "$2",
    "out_channels": 3,
    "channels": [2, 3, 4],
    "strides": "@settings::strides",
    "act": "relu",  # which no checkpoint shows, as the strides
    "norm": ["batch", {"eps": 0.001}],
}
CONFIG: dict[str, Any] = {
    "imports": ["$import glob"],
    "dimensions": 3,
    "settings": {"strides": [1, [2, 2, 1]]},
    "device": "$torch.device('cpu')",
    "network_def": NETWORK,
    "network": "$@network_def.to(@device)",
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [8, 16, 8], "overlap": 0.5},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True}],
    },
}


PLAIN = {**NETWORK, "spatial_dims": 3, "in_channels": 2, "strides": [1, [2, 2, 1]]}


def described(names: list[str]) -> dict[str, Any]:
    return {"channel_def": {str(c): name for c, name in enumerate(names)}}


METADATA = {
    "network_data_format": {
        "inputs": {"image": described(["T1 c", "FLAIR"])},
        "outputs": {"pred": described(["Tumor core", "Whole tumor", "Enhancing"])},
    }
}


def parsed_network() -> torch.nn.Module:
    """The network as MONAI itself builds it from the configuration."""
    torch.manual_seed(0)
    network: torch.nn.Module = ConfigParser(CONFIG).get_parsed_content("network_def").eval()
    for tensor in network.state_dict().values():
        if tensor.dtype == torch.float32:
            tensor.add_(0.2 * torch.rand_like(tensor))  # running statistics, too
    return network


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "models").mkdir()
    torch.save(parsed_network().state_dict(), tmp_path / "models" / "model.pt")
    (tmp_path / "configs" / "inference.json").write_text(json.dumps(CONFIG))
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    return tmp_path


def assert_monais_logits(model: Any) -> None:
    batch = np.random.default_rng(0).standard_normal((1, 8, 8, 8, 2)).astype(np.float32)
    with torch.no_grad():
        logits = parsed_network()(torch.from_numpy(np.moveaxis(batch, -1, 1).copy())).numpy()
    expected = np.moveaxis(logits, 1, -1)  # float32 sums in another order: some 1e-7 of the peak
    np.testing.assert_allclose(model(batch), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_bundles_folder_gives_network_channels_and_outputs(bundle: Path) -> None:
    model, notes = convert_checkpoint(UNET, bundle, threshold=0.5, target="Whole tumor")
    assert_monais_logits(model)
    assert model.channels == ("T1_c", "FLAIR")
    assert model.outputs is not None
    assert model.outputs.names == ("Tumor core", "Whole tumor", "Enhancing")
    assert (model.outputs.probability, model.outputs.target) == ("sigmoid", 1)
    assert (model.roi, model.overlap) == ((8, 16, 8), 0.5)
    assert model.source["file"] == "model.pt"
    assert [note.partition(":")[0] for note in notes] == ["adn_ordering", "windows"]
    assert verify_checkpoint(UNET, model, bundle) < 1e-5


def test_a_configuration_beside_the_weights_says_what_the_folder_says(bundle: Path) -> None:
    whole, notes = convert_checkpoint(UNET, bundle, target="Whole tumor")
    files = bundle / "models" / "model.pt", bundle / "configs" / "inference.json"
    single, others = convert_checkpoint(UNET, *files, target="Whole tumor")
    assert single.outputs == whole.outputs
    assert (single.channels, single.roi, single.overlap) == (("T1_c", "FLAIR"), (8, 16, 8), 0.5)
    assert others == notes


def test_a_given_configuration_changes_what_it_says_and_nothing_else(
    bundle: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"act": "relu"}))
    model, _ = convert_checkpoint(UNET, bundle, own)
    assert model.outputs is not None
    assert (model.outputs.probability, model.roi) == ("sigmoid", (8, 16, 8))
    changed = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]}
    softmax = {"_target_": "Activationsd", "softmax": True}
    own.write_text(json.dumps({**CONFIG, "inferer": changed, "postprocessing": softmax}))
    model, _ = convert_checkpoint(UNET, bundle, own)
    assert model.outputs is not None
    assert model.outputs.probability == "softmax"
    assert (model.roi, model.overlap) == ((16, 16, 16), 0.25)  # MONAI's default
    assert model.channels == ("T1_c", "FLAIR")


@pytest.mark.parametrize(
    ("mode", "is_noted"), [({}, True), ({"mode": "constant"}, True), ({"mode": "gaussian"}, False)]
)
def test_windows_that_are_blended_otherwise_are_noted(
    bundle: Path, mode: dict[str, str], is_noted: bool
) -> None:
    content = {**CONFIG, "inferer": {**CONFIG["inferer"], **mode}}
    (bundle / "configs" / "inference.json").write_text(json.dumps(content))
    _, notes = convert_checkpoint(UNET, bundle)
    assert any("has the mode 'constant'" in note for note in notes) == is_noted


@pytest.mark.parametrize(
    "content", [CONFIG, {**CONFIG, "network_def": None, "network": NETWORK}, PLAIN]
)
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_bundles_configuration_describes_the_network(
    bundle: Path, tmp_path: Path, content: dict[str, Any], suffix: str
) -> None:
    path = tmp_path / f"config.{suffix}"
    path.write_text(json.dumps(content) if suffix == "json" else yaml.safe_dump(content))
    model, _ = convert_checkpoint(UNET, bundle / "models" / "model.pt", path)
    assert_monais_logits(model)


def test_yaml_configurations_of_a_folder_are_found(bundle: Path) -> None:
    (bundle / "configs" / "inference.json").unlink()
    (bundle / "configs" / "inference.yaml").write_text(yaml.safe_dump(CONFIG))
    assert_monais_logits(convert_checkpoint(UNET, bundle)[0])


def test_what_the_user_gives_goes_before_what_a_bundle_says(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text('{"act": "prelu"}')
    with pytest.raises(InputError, match=r"model\.pt.*missing"):
        convert_checkpoint(UNET, bundle, tmp_path / "own.json")
    names: dict[str, Any] = {"channels": ["a", "b"], "outputs": ["x", "y", "z"]}
    model, _ = convert_checkpoint(UNET, bundle, **names)
    assert model.outputs is not None
    assert (model.channels, model.outputs.names) == (("a", "b"), ("x", "y", "z"))


def test_names_of_another_number_of_channels_are_left_out_and_that_is_said(bundle: Path) -> None:
    other = {"network_data_format": {"inputs": {"image": described(["T1", "T2", "PD"])}}}
    (bundle / "configs" / "metadata.json").write_text(json.dumps(other))
    model, notes = convert_checkpoint(UNET, bundle)
    assert model.channels == ("channel0", "channel1")
    assert any("names 3, T1 T2 PD, and the network has 2" in note for note in notes)


def with_network(**changes: Any) -> dict[str, Any]:
    return {**CONFIG, "network_def": {**NETWORK, **changes}}


ENDLESS = {"a": ["@b"] * 50, "b": ["@c"] * 50, "c": ["@d"] * 50, "d": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_network(channels="$[2 * n for n in range(3)]"), "channels is the .* never executed"),
        (with_network(strides="@settings::steps"), "strides refers to @settings::steps, which is"),
        (with_network(strides="@network_def#strides"), "strides has too many values, or refers to"),
        ({**ENDLESS, **with_network(strides="@a")}, "strides has too many values"),
        (with_network(_target_="SegResNet"), "describes a SegResNet, and asked for was MONAI's U"),
        (with_network(_target_=3), "describes a 3"),
        ({**CONFIG, "network_def": "$make()"}, 'no network_def with "_target_"'),
        ({**CONFIG, "network_def": [1]}, 'no network_def with "_target_"'),
        (with_network(colour="red"), "colour"),
        ([CONFIG], "it holds a list"),
    ],
)
def test_what_cannot_be_taken_from_a_configuration_is_said(
    bundle: Path, content: Any, message: str
) -> None:
    (bundle / "configs" / "inference.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        convert_checkpoint(UNET, bundle)


@pytest.mark.parametrize(
    "content",
    ["{", "[" * 100_000, "!!python/object/apply:os.system ['touch executed']", "a: [", "\x00"],
    ids=["json", "deep", "program", "yaml", "binary"],
)
@pytest.mark.parametrize("name", ["inference.json", "inference.yaml"])
def test_damaged_configurations_are_named_and_nothing_in_them_is_executed(
    bundle: Path, name: str, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle)
    (bundle / "configs" / "inference.json").unlink()
    (bundle / "configs" / name).write_text(content)
    with pytest.raises(InputError, match=name):
        convert_checkpoint(UNET, bundle)
    assert not (bundle / "executed").exists()


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"network_data_format": 3},
        {"network_data_format": {"inputs": {"image": {"channel_def": ["T1"]}}}},
        {"network_data_format": {"inputs": {"image": described(["", "T1"])}}},
        {"network_data_format": {"outputs": {"pred": described(["\x1b[2J", "x", "y"])}}},
        {"network_data_format": {"inputs": {"a": described(["x"]), "b": described(["y"])}}},
        {"network_data_format": {"inputs": {"image": {"channel_def": {"0": "T1", "2": "T2"}}}}},
        {"network_data_format": {"outputs": {"pred": described(["x", "x", "x"])}}},
    ],
)
def test_metadata_that_name_nothing_are_passed_over(bundle: Path, metadata: dict[str, Any]) -> None:
    (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
    model, _ = convert_checkpoint(UNET, bundle)
    assert model.channels == ("channel0", "channel1")


def test_folders_that_are_no_bundle_and_bundles_without_weights_are_refused(bundle: Path) -> None:
    with pytest.raises(InputError, match="configs and models: give the file with the weights"):
        convert_checkpoint(UNET, bundle / "models")
    with pytest.raises(
        InputError, match=r"describes a .*UNet, and asked for was MONAI's SwinUNETR"
    ):
        convert_checkpoint(SWIN_UNETR, bundle)
    (bundle / "models" / "model.pt").rename(bundle / "models" / "best.pt")
    assert_monais_logits(convert_checkpoint(UNET, bundle)[0])
    (bundle / "models" / "last.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds best\.pt, last\.pt and no model\.pt"):
        convert_checkpoint(UNET, bundle)
    for path in (bundle / "models").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"model\.pt is missing.*download"):
        convert_checkpoint(UNET, bundle)
    for path in (bundle / "configs").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="none of inference, evaluate, train"):
        convert_checkpoint(UNET, bundle)


@pytest.mark.parametrize(
    "name", ["configs/inference.json", "configs/metadata.json", "models/model.pt"]
)
def test_links_without_content_are_not_passed_over(bundle: Path, name: str) -> None:
    (bundle / "configs" / "train.json").write_text(json.dumps(CONFIG))
    (bundle / "models" / "other.pt").write_bytes(b"")
    (bundle / name).unlink()
    (bundle / name).symlink_to("../.git/annex/objects/x")
    with pytest.raises(InputError, match=rf"{name} is a link without content.*datalad get"):
        convert_checkpoint(UNET, bundle)
