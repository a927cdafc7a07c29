"""MONAI's U-Net: architecture read from a checkpoint, mistakes named, logits kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet

from jaxsal.checkpoints import load_model, save_model
from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.store.files import file_checksum
from jaxsal_converters.modules import model_from_module
from jaxsal_converters.unet import convert, convert_unet, verify, verify_unet

PLAIN: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 2,
    "out_channels": 2,
    "channels": (2, 3, 4),
    "strides": (2, 2),
    "norm": "batch",
}


def tensors(changes: dict[str, Any] | None = None) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return UNet(**{**PLAIN, **(changes or {})}).state_dict()


def arrays(changes: dict[str, Any] | None = None) -> dict[str, np.ndarray]:
    return {k: v.numpy() for k, v in tensors(changes).items() if "num_batches" not in k}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "unet.pth"
    torch.save(tensors(), path)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kernel_size": (1, 3, 5), "up_kernel_size": (5, 3, 1), "out_channels": 1},
        {"num_res_units": 3, "bias": False},
        {"num_res_units": 1, "strides": (1, 2), "channels": (2, 2, 4)},
        {"num_res_units": 1, "strides": (1, 1), "channels": (4, 5, 6)},
        {"norm": "instance", "in_channels": 1},
        {"norm": ("batch", {"affine": False})},
        {"norm": ("layer", {"normalized_shape": (8, 8, 9)}), "strides": (1, 1)},
        {"channels": (3, 3), "strides": (2,), "act": ("prelu", {"num_parameters": 3})},
        {"adn_ordering": "ADN"},
    ],
    ids=str,
)
def test_the_architecture_is_read_from_the_entries(changes: dict[str, Any]) -> None:
    config, _, _ = convert(arrays(changes))
    stated, _, assumptions = convert(arrays(changes), {"adn_ordering": "NDA", **PLAIN, **changes})
    assert assumptions == []  # where all is given
    read, expected = config.to_arguments(), stated.to_arguments()
    for name in ("norm", "act"):  # one has its default arguments spelt out
        assert read.pop(name)[0] == expected.pop(name)[0]
    assert read == expected


def test_what_shapes_cannot_show_is_said() -> None:
    _, _, assumptions = convert(arrays({"norm": "instance"}))
    text = "\n".join(assumptions)
    assert "strides: [2, 2]" in text
    assert "instance norm" in text
    assert "adn_ordering" in text


def test_order_of_norm_and_activation_is_not_read_from_sorted_entries() -> None:
    config, _, assumptions = convert(dict(sorted(arrays().items())))
    assert config.adn_ordering == "NDA"
    assert any("adn_ordering" in assumption for assumption in assumptions)


def test_entries_named_as_monai_03_did_give_the_same_network(tmp_path: Path) -> None:
    """Norm and activation were modules of their own, beside the convolution."""
    changes = {"num_res_units": 2}
    old = {
        key.replace(".adn.N.", ".norm.").replace(".adn.A.", ".act."): value
        for key, value in tensors(changes).items()
    }
    assert "model.0.conv.unit0.norm.running_mean" in old
    torch.save(old, tmp_path / "old.pth")
    model, _ = convert_unet(tmp_path / "old.pth")
    _, parameters, _ = convert(arrays(changes))
    assert model.parameters.keys() == parameters.keys()
    for name, value in parameters.items():
        np.testing.assert_array_equal(model.parameters[name], value)
    assert verify_unet(model, tmp_path / "old.pth") < 1e-5
    assert verify(model, {**PLAIN, **changes}, arrays(changes)) < 1e-5


@pytest.mark.parametrize(
    ("changes", "given"),
    [
        ({"act": "relu"}, {"act": "relu"}),
        ({"norm": ("group", {"num_groups": 1})}, {"norm": ["group", {"num_groups": 1}]}),
        ({"norm": ("instance", {"affine": True})}, {"norm": ["instance", {"affine": True}]}),
    ],
    ids=["activation", "group norm", "affine instance norm"],
)
def test_what_cannot_be_told_is_asked_for(changes: dict[str, Any], given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(InputError, match=rf'"{name}".*--config'):
        convert(arrays(changes))
    config, _, _ = convert(arrays(changes), given)
    assert config.to_arguments()[name][0] == (given[name] if name == "act" else given[name][0])


def test_the_configuration_takes_precedence(checkpoint: Path, tmp_path: Path) -> None:
    config_file = tmp_path / "config.json"
    config_file.write_text(json.dumps({"strides": [1, [1, 2, 2]], "adn_ordering": "ADN"}))
    model, assumptions = convert_unet(checkpoint, config_file, threshold=0.3, channels=["a", "b"])
    assert model.config.strides == ((1, 1, 1), (1, 2, 2))
    assert model.config.adn_ordering == "ADN"
    assert assumptions == []
    assert verify_unet(model, checkpoint) < 1e-4


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "JSON"), ("[2]", "list"), ("", "JSON"), ('{"depth": 3}', "depth"), (None, "not a file")],
)
def test_bad_configuration_files_are_named(
    checkpoint: Path, tmp_path: Path, content: str | None, message: str
) -> None:
    config_file = tmp_path / "config.json"
    if content is not None:
        config_file.write_text(content)
    with pytest.raises(InputError, match=message):
        convert_unet(checkpoint, config_file)


def test_a_configuration_of_another_network_names_the_entries(
    checkpoint: Path, tmp_path: Path
) -> None:
    config_file = tmp_path / "config.json"
    config_file.write_text(json.dumps({"channels": [2, 5, 4]}))
    with pytest.raises(InputError, match=r"of another shape \(model\.1\.submodule\.0\."):
        convert_unet(checkpoint, config_file)


def test_missing_extra_and_misshapen_entries_are_named(tmp_path: Path) -> None:
    state = tensors()
    del state["model.1.submodule.0.adn.N.bias"]
    state["model.0.head.weight"] = torch.ones(1)
    state["model.2.conv.bias"] = torch.ones(5)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(InputError) as raised:
        convert_unet(tmp_path / "a.pth")
    message = str(raised.value)
    assert "1 missing (model.1.submodule.0.adn.N.bias)" in message
    assert "1 extra (model.0.head.weight)" in message
    assert "model.2.conv.bias (5,) instead of (2,)" in message
    assert "a.pth" in message


def test_a_missing_entry_that_the_architecture_depends_on_is_named() -> None:
    state = arrays()
    del state["model.0.conv.weight"]
    with pytest.raises(InputError, match=r"model\.0\.conv\.weight is missing"):
        convert(state)


def test_networks_of_other_kinds_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"another network.*weight, bias"):
        convert_unet(tmp_path / "a.pth")


def test_flat_networks_are_refused() -> None:
    torch.manual_seed(0)
    flat = UNet(**{**PLAIN, "spatial_dims": 2}).state_dict()
    with pytest.raises(InputError, match="3D"):
        convert({k: v.numpy() for k, v in flat.items() if "num_batches" not in k})


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.", "_model.", "module.unet."])
def test_wrapped_networks_convert_to_the_same_model(
    checkpoint: Path, tmp_path: Path, prefix: str
) -> None:
    plain, _ = convert_unet(checkpoint)
    inner = {prefix + key: value for key, value in tensors().items()}
    wrapped = {"state_dict": {**inner, "loss.weight": torch.ones(2)}, "epoch": 3}
    torch.save(wrapped, tmp_path / "wrapped.ckpt")
    model, assumptions = convert_unet(tmp_path / "wrapped.ckpt")
    assert model.config == plain.config
    for name, value in plain.parameters.items():
        np.testing.assert_array_equal(model.parameters[name], value)
    assert any("loss.weight" in assumption for assumption in assumptions)


def test_data_parallel_and_plain_networks_convert_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UNet(**PLAIN)
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    torch.save(torch.nn.DataParallel(network).state_dict(), tmp_path / "parallel.pth")
    plain, parallel = (convert_unet(tmp_path / f"{n}.pth")[0] for n in ("plain", "parallel"))
    for name, value in plain.parameters.items():
        np.testing.assert_array_equal(parallel.parameters[name], value)


def test_the_model_knows_where_it_comes_from(checkpoint: Path, tmp_path: Path) -> None:
    model, _ = convert_unet(checkpoint, threshold=0.3, channels=("flair", "t1"))
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.source["file"] == "unet.pth"
    assert loaded.source["sha256"] == file_checksum(checkpoint)
    assert (loaded.threshold, loaded.channels) == (0.3, ("flair", "t1"))
    assert loaded.resolve_layer("model.1.submodule.2.conv") == "decoder.1.upsample.conv"


def test_channels_and_threshold_are_checked(checkpoint: Path) -> None:
    with pytest.raises(InputError, match="2 input channels"):
        convert_unet(checkpoint, channels=["flair"])
    with pytest.raises(InputError, match="threshold"):
        convert_unet(checkpoint, threshold=30)


def test_verify_sees_a_difference_where_there_is_one() -> None:
    state = arrays()
    state["model.0.adn.N.running_mean"] = np.ones(2, "f4")  # so that the order matters
    config, parameters, _ = convert(state)
    model = Model(config, parameters, ("a", "b"))
    assert verify(model, PLAIN, state) < 1e-4
    name = "encoder.0.conv.kernel"
    changed = {**parameters, name: parameters[name].at[0, 1, 2, 0, 1].add(0.5)}
    assert verify(Model(config, changed, ("a", "b")), PLAIN, state) > 1e-3
    assert verify(model, {**PLAIN, "adn_ordering": "AND"}, state) > 1e-3


def test_a_network_whose_logits_are_zero_everywhere_is_not_called_changed() -> None:
    network = UNet(**PLAIN).eval()
    for parameter in network.parameters():
        parameter.data.zero_()
    state = {k: v.numpy() for k, v in network.state_dict().items() if "num_batches" not in k}
    config, parameters, _ = convert(state)
    message = "logits of 0 everywhere on random input.*not trained, or not loaded"
    with pytest.raises(InputError, match=message):
        verify(Model(config, parameters, ("a", "b")), PLAIN, state)
    with pytest.raises(InputError, match=message):
        model_from_module(network)
    assert model_from_module(network, verify=False).config.channels == config.channels


def test_verify_says_when_monai_is_missing(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = convert_unet(checkpoint)
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(InputError, match="pip install monai"):
        verify_unet(model, checkpoint)


def test_the_paper_network_keeps_its_logits(shared: Path) -> None:
    source = shared / "models" / "unet_monai_ms.pth"
    if not source.is_file():
        pytest.skip("needs the trained checkpoint")
    model, assumptions = convert_unet(source, threshold=0.3, channels=("flair", "t1"))
    assert model.parameter_count == 7_916_170
    assert model.config.channels == (32, 64, 128, 256, 512)
    assert len(assumptions) == 1
    assert assumptions[0].startswith("strides: [2, 2, 2, 2]")
    assert verify_unet(model, source) < 1e-4
