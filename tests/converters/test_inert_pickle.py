"""Pickles made by hand: nothing that they name is called, changed, or read beyond its end."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from jaxsal.errors import InputError
from jaxsal_converters.inert_pickle import InertUnpickler, Skipped, Storage, TensorRecord
from jaxsal_converters.saved_tensors import read_inertly


def unpickled(*parts: bytes) -> Any:
    return InertUnpickler(io.BytesIO(b"\x80\x02" + b"".join(parts) + b".")).load()


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


EVAL, GETATTR = b"c__builtin__\neval\n", b"c__builtin__\ngetattr\n"
ORDERED = b"ccollections\nOrderedDict\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    "program",
    [
        EVAL + text("1/0") + b"\x85R",  # REDUCE
        EVAL + b")\x81" + text("1/0") + b"b",  # NEWOBJ, BUILD
        EVAL + text("x") + b"b",  # BUILD of the class itself
        b"(" + text("1/0") + b"i__builtin__\neval\n",  # INST
        b"(" + EVAL + text("1/0") + b"o",  # OBJ
        GETATTR + EVAL + text("__globals__") + b"\x86R" + text("1/0") + b"\x85R",  # of a result
        EVAL + b")R" + b"(" + text("k") + text("v") + b"u",  # SETITEMS
        EVAL + b")R" + b"(" + text("v") + b"e",  # APPENDS
    ],
    ids=["reduce", "build", "build class", "inst", "obj", "getattr", "setitems", "appends"],
)
def test_what_is_named_is_never_called(program: bytes) -> None:
    found = unpickled(program)
    assert isinstance(found, Skipped) or issubclass(found, Skipped)


@pytest.mark.parametrize("name", [ORDERED, REBUILD])
def test_what_is_known_cannot_be_changed(name: bytes) -> None:
    """BUILD with a pair sets attributes: of the real function it would be its defaults."""
    state = b"N}(" + text("__defaults__") + text("x") + b"u\x86"
    before = torch._utils._rebuild_tensor_v2.__defaults__
    unpickled(name + state + b"b")
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before
    assert not hasattr(collections.OrderedDict, "__defaults__")


def test_extensions_and_views_are_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match="extension"):
        unpickled(b"\x82\x01")
    pid = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04"
    with pytest.raises(pickle.UnpicklingError, match="view"):
        unpickled(pid + b")tQ")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"), [(-1, (2,), (1,)), (0, (2, 2), (1,)), (0, ("2",), (1,))]
)
def test_tensors_of_impossible_sizes_are_refused(offset: int, shape: tuple, strides: tuple) -> None:
    with pytest.raises(pickle.UnpicklingError):
        TensorRecord(Storage("FloatStorage", "0", 4), offset, shape, strides)


def forged(path: Path, old: bytes, new: bytes) -> Path:
    """A checkpoint of four numbers, in whose pickle bytes are replaced."""
    torch.save({"w": torch.arange(4.0)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            if name.endswith("data.pkl"):
                assert old in content
                content = content.replace(old, new)
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"K\x04\x85", b"K\x05\x85", "larger than its storage"),  # shape (5,)
        (b"K\x01\x85", b"K\x02\x85", "larger than its storage"),  # stride 2
        (b"K\x04\x85", b"J\xff\xff\xff\x7f\x85", "larger than its storage"),
        (b"K\x04tq", b"K\x08tq", "not as large as it says"),  # numbers
        (b"FloatStorage", b"FlautStorage", "type FlautStorage"),
    ],
)
def test_tensors_do_not_reach_beyond_their_storage(
    tmp_path: Path, old: bytes, new: bytes, message: str
) -> None:
    content, _ = read_inertly(forged(tmp_path / "a.pt", old, new))
    with pytest.raises(InputError, match=message):
        content["w"].read()


def test_strides_of_zero_do_not_make_tensors_larger_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(1).expand(10**6, 10**6)}, path)
    content, _ = read_inertly(path)
    with pytest.raises(InputError, match="repeats the 1 that are stored, as expand"):
        content["w"].read()


def test_expanded_tensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.arange(3.0)[:, None].expand(3, 4)}, path)
    content, _ = read_inertly(path)
    assert content["w"].read().tolist() == [[n] * 4 for n in (0.0, 1.0, 2.0)]


def test_a_container_within_itself_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    nested: dict[str, Any] = {"w": torch.ones(1)}
    listed: list[Any] = [1]
    nested["me"], nested["list"] = nested, listed
    listed.append(listed)
    torch.save(nested, path)
    content, skipped = read_inertly(path)
    assert (content["w"].read().tolist(), content["list"][0]) == ([1.0], 1)
    assert isinstance(content["me"], Skipped)
    assert isinstance(content["list"][1], Skipped)
    assert skipped == ["a container within itself"]


def test_containers_that_lie_in_each_other_are_refused(tmp_path: Path) -> None:
    """The shared ones in them would be more than can be counted."""
    nested: list[object] = []
    for _ in range(40):
        nested = [nested, nested]
    path = tmp_path / "a.pt"
    torch.save({"w": nested}, path)
    with pytest.raises(InputError, match="containers in each other"):
        read_inertly(path)


def test_a_big_endian_file_has_its_numbers_turned(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.arange(4.0)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            if name.endswith("byteorder"):
                content = b"big"
            if name.endswith("data/0"):
                content = torch.arange(4.0).numpy().astype(">f4").tobytes()
            archive.writestr(name, content)
    content, _ = read_inertly(path)
    assert content["w"].read().tolist() == [0, 1, 2, 3]
