"""A .pt2 is read without torch: tensors exactly, damaged and foreign files with a clear error."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.programs import changed_program, save_program

from jaxsal.errors import InputError
from jaxsal_converters.program_file import read_program


class Held(torch.nn.Module):
    """Adds up all that it holds."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                setattr(self, name, torch.nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)
        self.names = tuple(tensors)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self.names:
            x = x + getattr(self, name).float().sum()
        return x


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_program(Held(a=torch.randn(2, 3)), tmp_path_factory.mktemp("saved") / "network.pt2")


def test_tensors_have_their_numbers_types_and_shapes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shared = torch.randn(4, 6)
    tensors = {
        "whole": shared,
        "transposed": shared.t(),
        "part": shared[1:3, ::2],
        "of_float64": torch.randn(3).double(),
        "of_float16": torch.randn(3).half(),
        "of_bfloat16": torch.randn(3).bfloat16(),
        "of_int64": torch.tensor([[1, -2], [2**40, 4]]),
        "of_bool": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(2.5),
    }
    found = read_program(save_program(Held(**tensors), tmp_path / "a.pt2")).arrays
    assert set(tensors) == set(found)
    for name, tensor in tensors.items():
        assert found[name].shape == tuple(tensor.shape)
        expected = tensor.float() if tensor.is_floating_point() else tensor
        np.testing.assert_array_equal(found[name].astype(expected.numpy().dtype), expected)
    assert found["of_bfloat16"].dtype.name == "bfloat16"


def test_numbers_of_machines_of_the_other_byte_order_are_turned(saved: Path) -> None:
    plain = read_program(saved).arrays["a"]
    turned = plain.byteswap().tobytes()
    other = changed_program(saved, {"byteorder": b"big", "weights/weight_0": turned})
    np.testing.assert_array_equal(read_program(other).arrays["a"], plain)


def test_what_is_no_program_is_refused_by_name(tmp_path: Path) -> None:
    text = tmp_path / "text.pt2"
    text.write_text("no archive")
    checkpoint = tmp_path / "weights.pth"
    torch.save({"weight": torch.ones(2)}, checkpoint)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a/b", "c")
    for path, reason in {
        text: "is no .pt2 but another kind of file",
        checkpoint: r"is a checkpoint and no \.pt2.*torch\.export\.save",
        other: "is a zip archive but no .pt2",
        tmp_path: "is not a file",
        tmp_path / "none.pt2": "does not exist",
    }.items():
        with pytest.raises(InputError, match=reason) as raised:
            read_program(path)
        assert str(path) in str(raised.value)


def test_torchscript_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("script/constants.pkl", b"")
        archive.writestr("script/data.pkl", b"")
    with pytest.raises(InputError, match="TorchScript"):
        read_program(path)


def major(number: int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        document["schema_version"]["major"] = number

    return change


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"models/model.json": major(7)}, r"version 7\.\d+ of the format.*torch 2\.9 to 2\.13"),
        ({"models/model.json": major(9)}, r"version 9\..*torch\.export\.load in torch 2\.9"),
        ({"weights/model_weights_config.json": None}, "does not list its weights"),
        ({"constants/model_constants_config.json": None}, "does not list its constants"),
        ({"weights/weight_0": None}, "lacks data/weights/weight_0"),
        ({"weights/weight_0": b"1234"}, "damaged: a is larger than"),
        ({"weights/weight_0": b"12345"}, "damaged: a is larger than"),
        ({"models/model.json": None}, "no program"),
        ({"models/model.json": b"{"}, "not as torch.export.save writes it"),
        ({"models/model.json": b"[]"}, "not as torch.export.save writes it"),
        ({"models/model.json": b"[" * 100_000}, "not as torch.export.save writes it"),
        ({"models/model.json": lambda document: document.pop("graph_module")}, "graph_module"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(next(iter(value.values())))[:20],
)
def test_damaged_and_other_versions_say_what_to_do(
    saved: Path, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        read_program(changed_program(saved, changes))


def test_older_layouts_are_named(saved: Path, tmp_path: Path) -> None:
    older = tmp_path / "older.pt2"
    with zipfile.ZipFile(older, "w") as archive:
        archive.writestr("archive/serialized_exported_program.json", "{}")
    with pytest.raises(InputError, match=r"torch 2\.7 or older.*torch\.export\.save"):
        read_program(older)
    pickled = changed_program(saved, {"weights/model_weights_config.json": None})
    with zipfile.ZipFile(pickled, "a") as archive:
        archive.writestr("network/data/weights/model.pt", b"")
    with pytest.raises(InputError, match=r"pickles its weights, as torch 2\.8 does"):
        read_program(pickled)


def test_truncated_files_are_named(saved: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pt2"
    cut.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(InputError, match=str(cut)):
        read_program(cut)


def test_pickled_tensors_are_not_read(saved: Path) -> None:
    def pickle(document: Any) -> None:
        document["config"]["a"]["use_pickle"] = True

    with pytest.raises(InputError, match=r"a is a pickled object.*can run code"):
        read_program(changed_program(saved, {"model_weights_config.json": pickle}))


def test_a_tensor_that_repeats_few_numbers_without_end_is_refused(saved: Path) -> None:
    def repeat(document: Any) -> None:
        meta = document["config"]["a"]["tensor_meta"]
        meta["sizes"], meta["strides"] = [{"as_int": 2**40}], [{"as_int": 0}]

    with pytest.raises(InputError, match=r"more than .* are not read"):
        read_program(changed_program(saved, {"model_weights_config.json": repeat}))


def test_negative_sizes_are_refused(saved: Path) -> None:
    def negate(document: Any) -> None:
        document["config"]["a"]["tensor_meta"]["strides"][0] = {"as_int": -3}

    with pytest.raises(InputError, match="negative size"):
        read_program(changed_program(saved, {"model_weights_config.json": negate}))


@pytest.mark.parametrize("name", ["network/../../a", "/etc/a", "C:/a", "network\\..\\a"])
def test_entries_that_lead_elsewhere_are_refused(saved: Path, tmp_path: Path, name: str) -> None:
    other = tmp_path / "other.pt2"
    other.write_bytes(saved.read_bytes())
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr(name, b"")
    with pytest.raises(InputError, match="leads outside"):
        read_program(other)


def test_compressed_archives_are_refused(saved: Path, tmp_path: Path) -> None:
    """So that no file is larger than it looks."""
    other = tmp_path / "other.pt2"
    other.write_bytes(saved.read_bytes())
    with zipfile.ZipFile(other, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("network/extra", b"0" * 10_000)
    with pytest.raises(InputError, match="is compressed"):
        read_program(other)


def test_encrypted_archives_are_refused(saved: Path, tmp_path: Path) -> None:
    content = bytearray(saved.read_bytes())
    place = content.rindex(b"PK\x01\x02")  # of the last entry in the list of entries
    content[place + 8] |= 1
    other = tmp_path / "other.pt2"
    other.write_bytes(content)
    with pytest.raises(InputError, match="encrypted"):
        read_program(other)


def test_several_programs_in_one_file_are_refused(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt2"
    other.write_bytes(saved.read_bytes())
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("network/models/second.json", b"{}")
    with pytest.raises(InputError, match="2 programs"):
        read_program(other)


def test_8_bit_floats_are_refused_by_name(saved: Path) -> None:
    def narrow(document: Any) -> None:
        document["config"]["a"]["tensor_meta"]["dtype"] = 29

    with pytest.raises(InputError, match=r"a has numbers of PyTorch's kind 29.*network\.float"):
        read_program(changed_program(saved, {"model_weights_config.json": narrow}))
