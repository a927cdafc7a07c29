"""Checkpoints are read as tensors only, whatever they are wrapped in; all else is passed over."""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import io
import os
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from jaxsal.errors import InputError
from jaxsal.store.files import file_checksum
from jaxsal_converters.checkpoint_file import read_checkpoint
from jaxsal_converters.state_dict import select_network
from jaxsal_converters.weights import read_network

TENSORS = {"model.0.weight": torch.arange(6.0).reshape(2, 3), "model.0.bias": torch.ones(2)}


class Payload:
    """Runs a shell command when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def read_state_dict(path: Path, notes: list[str] | None = None) -> dict[str, np.ndarray]:
    """All tensors of a state dict, whatever their names."""
    return read_network(path, "", notes=notes)[0]


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "wrapped",
    [
        TENSORS,
        collections.OrderedDict(TENSORS),
        {"state_dict": TENSORS, "epoch": 3, "optimizer": {"state": {0: {"m": torch.ones(1)}}}},
        {"model_state_dict": TENSORS, "loss": torch.tensor(0.5)},
        {"model": TENSORS, "best": 0.7},
        {"network_weights": TENSORS, "trainer_name": "x"},
        {"checkpoint": {"state_dict": TENSORS}},
        {"teacher": TENSORS, "epoch": 1},
    ],
    ids=lambda wrapped: "+".join(wrapped),
)
def test_state_dicts_are_found_in_what_training_programs_save(tmp_path: Path, wrapped: Any) -> None:
    state = read_state_dict(written(tmp_path / "a.pth", wrapped))
    assert state.keys() == TENSORS.keys()
    np.testing.assert_array_equal(state["model.0.weight"], [[0, 1, 2], [3, 4, 5]])


def test_files_of_old_pytorch_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    assert read_state_dict(path).keys() == TENSORS.keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    path = written(tmp_path / "a.pth", {"w": torch.tensor([0.5, -2.0], dtype=dtype)})
    weights = read_state_dict(path)["w"]
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, [0.5, -2])


def test_counters_and_entries_that_are_no_tensors_are_left_out(tmp_path: Path) -> None:
    extra = {"model.1.num_batches_tracked": torch.tensor(7), "version": 3}
    state = read_state_dict(written(tmp_path / "a.pth", {**TENSORS, **extra}))
    assert state.keys() == TENSORS.keys()


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.bool_])
def test_numbers_of_numpy_that_training_programs_log_are_let_through(
    tmp_path: Path, kind: type
) -> None:
    path = written(tmp_path / "a.pth", {"state_dict": TENSORS, "best": kind(1), "dice": [kind(0)]})
    assert read_state_dict(path).keys() == TENSORS.keys()
    assert read_checkpoint(path)["best"] == kind(1)


class Configuration(dict[str, Any]):
    """As OmegaConf's: a mapping of a class of its own, with a state."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise AssertionError("was restored")

    def __reduce__(self) -> tuple[Any, ...]:
        return Configuration, (), {"content": dict(self)}


@pytest.mark.parametrize("new_form", [True, False])
def test_all_but_tensors_and_plain_values_is_passed_over(tmp_path: Path, new_form: bool) -> None:
    """As Lightning's hyper-parameters hold it."""
    tensors = collections.OrderedDict(
        {
            "half": torch.tensor([0.5, -2.0], dtype=torch.float16),
            "brain": torch.tensor([0.25, 3.0], dtype=torch.bfloat16),
            "turned": torch.arange(6.0).reshape(2, 3).T,
            "part": torch.arange(10)[3:7],
            "empty": torch.ones(0, 3),
            "learnt": torch.nn.Parameter(torch.ones(2, 2)),
            "no axis": torch.tensor(7.0),
            "of MONAI's class": MetaTensor(torch.ones(2), meta={"file": Path("a.nii")}),
        }
    )
    tensors._metadata = {"version": 1}  # type: ignore[attr-defined]  # as state dicts have it
    foreign = {
        "path": Path("data"),
        "namespace": argparse.Namespace(rate=0.1, loss=torch.nn.L1Loss()),
        "configuration": Configuration(spacing=[1.0, 2.0]),
        "history": np.ones(3),
        "names": {"flair", "t1"},
        "function": os.path.join,
    }
    path = tmp_path / "a.ckpt"
    content = {"state_dict": tensors, "hyper_parameters": foreign, "epoch": 3, "files": [Path("a")]}
    torch.save(content, path, _use_new_zipfile_serialization=new_form)
    notes: list[str] = []
    state = read_state_dict(path, notes)
    assert state.keys() == tensors.keys()
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(state[key], tensor.detach().float().numpy())
    assert notes[0].startswith("passed over, neither tensors nor plain values: ")
    assert "pathlib.PosixPath" in notes[0]
    assert read_checkpoint(path)["epoch"] == 3


@pytest.mark.parametrize("beside", [{}, {"path": Path("data")}], ids=["plain", "inert"])
def test_a_checkpoint_may_hold_itself(tmp_path: Path, beside: dict[str, Any]) -> None:
    content: dict[str, Any] = {**TENSORS, **beside}
    content["me"] = content["again"] = content
    notes: list[str] = []
    assert read_state_dict(written(tmp_path / "a.pth", content), notes).keys() == TENSORS.keys()
    assert "a container within itself" in notes[0]


@pytest.mark.parametrize("beside", [{}, {"path": Path("data")}], ids=["plain", "inert"])
def test_repeated_numbers_do_not_become_larger_than_memory(
    tmp_path: Path, beside: dict[str, Any]
) -> None:
    content = {**TENSORS, "endless": torch.ones(1).expand(10**6, 10**6), **beside}
    with pytest.raises(InputError, match=r"1,000,000,000,000 numbers repeats the 1 .*contiguous"):
        read_state_dict(written(tmp_path / "a.pth", content))


def test_compressed_entries_are_not_unpacked(tmp_path: Path) -> None:
    plain, packed = written(tmp_path / "a.pth", TENSORS), tmp_path / "b.pth"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w") as archive:
        for name in source.namelist():
            kind = zipfile.ZIP_DEFLATED if name.endswith("data.pkl") else zipfile.ZIP_STORED
            archive.writestr(name, source.read(name), kind)
    with pytest.raises(InputError, match=r"b\.pth has compressed entries"):
        read_state_dict(packed)


def test_tensors_without_values_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", {**TENSORS, "empty": torch.ones(2, device="meta")})
    with pytest.raises(InputError, match="empty has no values, it is on the device meta"):
        read_state_dict(path)


@pytest.mark.parametrize("new_form", [True, False])
@given(damage=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
def test_a_damaged_checkpoint_is_read_or_refused(new_form: bool, damage: st.DataObject) -> None:
    buffer = io.BytesIO()
    torch.save({"state_dict": TENSORS, "epoch": 3}, buffer, _use_new_zipfile_serialization=new_form)
    content = bytearray(buffer.getvalue())
    for _ in range(damage.draw(st.integers(1, 4))):
        content[damage.draw(st.integers(0, len(content) - 1))] = damage.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pth"
        path.write_bytes(content)
        with contextlib.suppress(InputError):
            read_state_dict(path)


def test_a_checkpoint_whose_archive_seems_to_span_disks_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", TENSORS)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x06\x07") + 4] = 1  # the disk on which the archive ends
    path.write_bytes(content)
    with pytest.raises(InputError, match="is a damaged zip archive"):
        read_state_dict(path)


@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
def test_nothing_in_a_malicious_checkpoint_is_executed(tmp_path: Path, form: str) -> None:
    marker, path = tmp_path / "executed", tmp_path / "evil.pth"
    content = {**TENSORS, "extra": Payload(marker)}
    if form == "pickle":
        path.write_bytes(pickle.dumps({"extra": Payload(marker)}))
        with pytest.raises(InputError, match="no PyTorch"):
            read_state_dict(path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
        notes: list[str] = []
        assert read_state_dict(path, notes).keys() == TENSORS.keys()
        assert "posix.system" in notes[0]
    assert not marker.exists()
    if form == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert marker.exists()  # the payload does work where it is let


def test_names_from_a_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with pytest.raises(InputError) as raised:
        read_state_dict(written(path, {"\x1b[2J" + 200 * "x": 1}))
    assert "only ?[2Jxxx" in str(raised.value)
    assert "\x1b" not in str(raised.value)
    assert "x" * 100 not in str(raised.value)


def test_pickled_modules_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = written(tmp_path / "module.pth", torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"a torch\.nn.*Linear.*torch\.save\(network\.state_dict"):
        read_state_dict(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(path))
    with pytest.raises(InputError, match=r"TorchScript.*state_dict"):
        read_state_dict(path)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
@pytest.mark.parametrize("new_form", [True, False])
def test_truncated_files_are_refused(tmp_path: Path, share: float, new_form: bool) -> None:
    path = tmp_path / "a.pth"
    torch.save({"w": torch.ones(5000)}, path, _use_new_zipfile_serialization=new_form)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"truncated or damaged,.* fetch it again$|is empty"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [b"garbage", b"hello\n", b"PK", pickle.dumps({"w": 1})])
def test_a_file_that_is_no_checkpoint_is_refused_as_such(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_state_dict(path)
    said = "is no PyTorch checkpoint; give a file that torch.save wrote (.pth, .pt)"
    assert str(raised.value) == f"{path} {said}"


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>404</html>", b"\x89PNG\r\n", b"{}", b"\x80\x02N."], ids=repr
)
def test_files_of_other_kinds_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)):
        read_state_dict(path)


def test_other_zip_archives_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match="zip archive"):
        read_state_dict(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(3), "holds a Tensor"),
        ([torch.ones(3)], "holds a list"),
        ({}, "no tensors"),
        ({"epoch": 3}, "no tensors, only epoch"),
        ({"a": TENSORS, "b": TENSORS}, "several state dicts: a, b"),
        ({"w": torch.tensor([1.0, float("nan")])}, "w has NaN"),
        ({"w": torch.tensor([1j])}, "complex"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_contents_that_are_no_state_dict_are_named(
    tmp_path: Path, content: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_state_dict(written(tmp_path / "a.pth", content))


def test_a_path_must_be_an_existing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_state_dict(tmp_path / "absent.pth")
    with pytest.raises(InputError, match="not a file"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net.unet.", "_orig_mod.module."])
def test_a_common_prefix_is_taken_off(prefix: str) -> None:
    state = {f"{prefix}model.0.w": np.ones(1), f"{prefix}model.2.w": np.zeros(1)}
    network, found, outside = select_network(state, r"model\.(0|2)\.")
    assert found == prefix
    assert list(network) == ["model.0.w", "model.2.w"]
    assert outside == []


def test_entries_beside_the_network_are_told_apart() -> None:
    state = {"net.model.0.w": np.ones(1), "net.head.w": np.ones(1), "loss.w": np.ones(1)}
    network, _, outside = select_network(state, r"model\.0\.")
    assert list(network) == ["model.0.w", "head.w"]
    assert outside == ["loss.w"]


def test_several_networks_in_a_file_are_refused() -> None:
    state = {"student.model.0.w": np.ones(1), "teacher.model.0.w": np.ones(1)}
    with pytest.raises(InputError, match=r"student\.', 'teacher\."):
        select_network(state, r"model\.0\.")


def test_checksum_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert file_checksum(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()
