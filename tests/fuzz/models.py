"""Model directories, and what they are converted from: checkpoints, exported programs, plans."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from fuzz.judging import Files, Kind, Link, Pipe, read_files
from fuzz.values import NUMBERS, TEXTS, as_json, changed, damaged, json_files, plain
from helpers.nnunet_folders import dataset, plans, write_results
from helpers.tiny import random_model
from hypothesis import strategies as st

from jaxsal.checkpoints import load_inputs, load_model, save_model
from jaxsal_converters.bundle import read_configuration
from jaxsal_converters.monai import convert_checkpoint
from jaxsal_converters.nnunet import convert_nnunet
from jaxsal_converters.program_model import convert_program
from jaxsal_converters.unet import UNET

ARGUMENTS = {
    **{"spatial_dims": 3, "in_channels": 2, "out_channels": 2, "kernel_size": 3},
    **{"channels": [4, 6, 8], "strides": [2, 2], "num_res_units": 0, "norm": "batch"},
}
_PREPROCESSING = {
    "normalisation": [{"scheme": "zscore"}, {"scheme": "ct", "lower": 0.0, "upper": 1.0}],
    **{"spacing": [1.0, 1.0, 1.0], "roi": [16, 16, 16], "overlap": 0.25, "orientation": "RAS"},
    "resampling": {"images": {"order": 3}, "logits": {"order": 1}, "tolerance": 0.01},
    **{"mirror_axes": [0], "windows": "monai", "crop": False, "permit": "any"},
}


def made(write: Callable[[Path], object]) -> Files:
    """The files that a function writes into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "made")
        return read_files(Path(folder))


@cache
def _directory() -> Files:
    files = made(lambda folder: save_model(random_model(2), folder))
    files = {name.removeprefix("made/"): content for name, content in files.items()}
    record = json.loads(_bytes(files["model.json"]))
    record |= {"preprocessing": _PREPROCESSING, "outputs": {"names": ["a", "b"]}}
    record["outputs"]["probability"] = "softmax"
    return {**files, "model.json": as_json(record)}


def _bytes(content: object) -> bytes:
    assert isinstance(content, bytes)
    return content


def _load(folder: Path) -> None:
    load_inputs(folder)
    load_model(folder).lesion_output()


def _model_record(sound: Files) -> st.SearchStrategy[Files]:
    record = json.loads(_bytes(sound["model.json"]))
    network = record["network"]
    others = changed(network).map(lambda new: {"model.json": as_json({**record, "network": new})})
    odd = st.sampled_from([Pipe(), Link("/dev/zero"), Link("../elsewhere/victim"), None])
    return st.one_of(
        json_files("model.json", record), others, odd.map(lambda what: {"model.json": what})
    )


def _with(**changes: Any) -> Callable[[Files], Files]:
    """A seed: the record with other arguments of the network, or other entries."""

    def files(sound: Files) -> Files:
        record = json.loads(_bytes(sound["model.json"]))
        for name, value in changes.items():
            (record["network"]["arguments"] if name in ARGUMENTS else record)[name] = value
        return {"model.json": as_json(record)}

    return files


MODEL = Kind(
    "model.json",
    _directory,
    _model_record,
    _load,
    (
        _with(strides=[1e30, 2]),
        _with(strides=[10**30, 2]),
        _with(channels=[10**9, 10**9, 10**9]),
        _with(num_res_units=10**9),
        _with(channels=[4] * 3000, strides=[1] * 2999),
        _with(members=10**12),
        _with(preprocessing={**_PREPROCESSING, "spacing": [float("nan"), 1, 1]}),
        _with(preprocessing={**_PREPROCESSING, "spacing": ["1", 1, 1]}),
        _with(preprocessing={**_PREPROCESSING, "overlap": "half"}),
    ),
    share=0.5,
)


def _checksum(files: Files) -> str:
    """As a stranger computes it, who changed the parameters."""
    digest = hashlib.sha256()
    for name in sorted(name for name in files if name.startswith("parameters/")):
        content = hashlib.sha256(_bytes(files[name])).hexdigest()
        digest.update(f"{name.removeprefix('parameters/')} {content}\n".encode())
    return digest.hexdigest()


def _signed(sound: Files, changes: Files) -> Files:
    files = {**sound, **changes}
    record = json.loads(_bytes(sound["model.json"]))
    record["parameters"]["sha256"] = _checksum(files)
    return {**changes, "model.json": as_json(record)}


def _stored(sound: Files) -> st.SearchStrategy[Files]:
    names = [name for name in sound if name.startswith("parameters/")]
    described = "parameters/_METADATA"
    changes = st.sampled_from(names).flatmap(
        lambda name: damaged(_bytes(sound[name])).map(lambda content: {name: content})
    )
    documents = json_files(described, json.loads(_bytes(sound[described])))
    signed = st.one_of(changes, documents).map(lambda files: _signed(sound, files))
    odd = st.sampled_from([Pipe(), Link("/dev/zero"), Link("../../elsewhere/victim")])
    return st.one_of(signed, signed, signed, odd.map(lambda what: {"parameters/d/x": what}))


STORED = Kind("parameters of a model", _directory, _stored, _load, share=0.3)


@cache
def _state() -> dict[str, torch.Tensor]:
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    return dict(UNet(**ARGUMENTS).state_dict())


def _saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, file, **options)
    return file.getvalue()


def rezipped(content: bytes, change: Callable[[str, bytes], bytes], packed: bool = False) -> bytes:
    """An archive with its entries changed."""
    file = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w", how) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return file.getvalue()


def _in_pickle(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return rezipped(content, lambda name, old: change(old) if name.endswith("data.pkl") else old)


@st.composite
def _pickles(draw: st.DrawFn, content: bytes) -> bytes:
    """A pickle with numbers, names or opcodes replaced."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(2, len(changed) - 2))
        numbers = st.sampled_from([b"K\xff", b"M\xff\xff", b"J\xff\xff\xff\x7f", b"J\0\0\0\x80"])
        long = st.sampled_from([b"\x8a\x08" + b"\x7f" * 8, b"G" + struct.pack(">d", 1e30), b"N"])
        names = st.sampled_from([b"cos\nsystem\n", b"c__builtin__\neval\n", b"cposix\nremove\n"])
        codes = st.sampled_from(
            [b"R", b"b", b"0", b"2", b"(", b"t", b"u", b"e", b"Q", b"\x81", b"."]
        )
        some = draw(st.one_of(numbers, long, names, codes, st.binary(min_size=1, max_size=4)))
        whole = draw(st.booleans())
        changed[place : place + (len(some) if whole else 0)] = some
    return bytes(changed)


class _Runs:
    """An object whose pickle calls a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("elsewhere", "w"))


def _contents(state: dict[str, torch.Tensor]) -> list[Any]:
    """Checkpoints of all forms, some of them too large to be true."""
    first = next(iter(state))
    one, none = torch.ones(1), torch.zeros(0)
    wide = {**state, first: one.expand(2**34)}
    indices, size = torch.zeros(5, 0, dtype=torch.int64), (2**10,) * 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which torch says of every sparse tensor
        sparse = torch.sparse_coo_tensor(indices, none, (*size, 2))
    nested: Any = {}
    for _ in range(200):
        nested = {"state_dict": nested}
    itself: dict[str, Any] = {"state_dict": state}
    itself["itself"] = itself
    return [
        *(state, {"state_dict": state}, {"model": {"a." + k: v for k, v in state.items()}}),
        *(wide, {**state, first: sparse}, {**state, first: torch.empty(2**40, device="meta")}),
        *({**state, first: state[first].to(torch.complex64)}, {**state, first: one * torch.nan}),
        *({**state, first: none}, {**state, first: one}, {**state, 7: one}, {}, [], None, one),
        *({"x": list(state.values())}, nested, itself, {**state, "callable": _Runs()}),
        {"state_dict": state, "ema": {**state, first: one.expand(2**34)}},
    ]


def _checkpoints(older: bool) -> Callable[[Files], st.SearchStrategy[Files]]:
    def cases(sound: Files) -> st.SearchStrategy[Files]:
        content = _bytes(sound["a.pt"])
        options = {"_use_new_zipfile_serialization": False} if older else {}
        saved = st.sampled_from(range(len(_contents(_state())))).map(
            lambda n: _saved(_contents(_state())[n], **options)
        )
        if older:
            pickled = content.index(b"\x80\x02", 60)
            parts = _pickles(content[pickled : pickled + 3000])
            forged = parts.map(lambda new: content[:pickled] + new + content[pickled + 3000 :])
        else:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                own = archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))
            forged = _pickles(own).map(lambda new: _in_pickle(content, lambda _: new))
        return st.one_of(forged, forged, damaged(content), saved).map(lambda new: {"a.pt": new})

    return cases


def _convert(folder: Path) -> None:
    convert_checkpoint(UNET, folder / "a.pt", channels=["flair", "t1"])


def _bomb(sound: Files) -> Files:
    """A pickle of 64 MiB of nothing, compressed."""
    return {"a.pt": rezipped(_bytes(sound["a.pt"]), lambda n, old: old + bytes(2**26), packed=True)}


def _long_pickle(_: Files) -> Files:
    """A pickle that makes a list of two to the power of 60 entries, by doubling."""
    doubled = b"".join(b"2\x86" for _ in range(60))
    return {"a.pt": _in_pickle(_saved(_state()), lambda _: b"\x80\x02)" + doubled + b".")}


def _expanded(_: Files) -> Files:
    return {"a.pt": _saved({**_state(), "model.0.conv.weight": torch.ones(1).expand(2**34)})}


CHECKPOINT = Kind(
    "checkpoint (.pth)",
    lambda: {"a.pt": _saved(_state())},
    _checkpoints(older=False),
    _convert,
    (_bomb, _long_pickle, _expanded),
    share=0.5,
)
OLDER_CHECKPOINT = Kind(
    "checkpoint, older form",
    lambda: {"a.pt": _saved(_state(), _use_new_zipfile_serialization=False)},
    _checkpoints(older=True),
    _convert,
    (lambda _: {"a.pt": pickle.dumps(0x1950A86A20F9469CFC6C, 2) * 3},),
    share=0.5,
)


@cache
def _program() -> Files:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.ReLU()).eval()
    exported = torch.export.export(network, (torch.zeros(1, 1, 8, 8, 8),), strict=False)
    file = io.BytesIO()
    torch.export.save(exported, file)
    return {"a.pt2": file.getvalue()}


def _programs(sound: Files) -> st.SearchStrategy[Files]:
    content = _bytes(sound["a.pt2"])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        documents = [name for name in archive.namelist() if name.endswith(".json")]
        read = {name: json.loads(archive.read(name)) for name in documents}
    forged = st.sampled_from(documents).flatmap(
        lambda name: changed(read[name]).map(
            lambda new: rezipped(content, lambda n, old: as_json(new) if n == name else old)
        )
    )
    return st.one_of(forged, forged, forged, damaged(content)).map(lambda new: {"a.pt2": new})


PROGRAM = Kind(
    "exported program (.pt2)",
    _program,
    _programs,
    lambda folder: convert_program(folder / "a.pt2"),
    share=0.3,
)


@cache
def _training() -> Files:
    return made(lambda folder: write_results(folder, plans(), dataset()))


def _trainings(sound: Files) -> st.SearchStrategy[Files]:
    documents = [
        json_files(f"made/{name}", content)
        for name, content in (("plans.json", plans()), ("dataset.json", dataset()))
    ]
    own = changed(plans()["configurations"]["3d_fullres"]).map(
        lambda new: {
            "made/plans.json": as_json(plans(configurations={"3d_fullres": new})),
        }
    )
    return st.one_of(*documents, own, own)


PLANS = Kind(
    "plans of nnU-Net",
    _training,
    _trainings,
    lambda folder: convert_nnunet(folder / "made"),
    share=0.3,
)


def _zipped(files: Files, packed: bool = False) -> bytes:
    file = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, _bytes(content))
    return file.getvalue()


def _archives(sound: Files) -> st.SearchStrategy[Files]:
    own = _training()
    names = ("../elsewhere/victim", "/tmp/x", "made/../../elsewhere/x", "a\\..\\b", "made/x/../y")
    renamed = st.sampled_from(names).map(lambda name: _zipped({**own, name: b"x"}))
    swollen = st.sampled_from([2**20, 2**25, 2**27]).map(
        lambda size: _zipped({**own, "made/plans.json": b" " * size}, packed=True)
    )
    content = _bytes(sound["a.zip"])
    return st.one_of(damaged(content), renamed, swollen).map(lambda new: {"a.zip": new})


ARCHIVE = Kind(
    "archive of nnU-Net",
    lambda: {"a.zip": _zipped(_training())},
    _archives,
    lambda folder: convert_nnunet(folder / "a.zip"),
    share=0.2,
)


def _configured(folder: Path) -> None:
    for path in sorted(folder.glob("net.*")):
        said = read_configuration(folder / "a.pt", path, "UNet")
        UNET.config.from_arguments(said.arguments)


_BUNDLE: dict[str, Any] = {
    "network_def": {"_target_": "UNet", **ARGUMENTS, "channels": "$[4, 6] + [8]"},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.5},
}
_BUNDLE["network_def"]["channels"] = "@widths"
_BUNDLE["widths"] = [4, 6, 8]
_META = {"network_data_format": {"inputs": {"image": {"channel_def": {"0": "flair", "1": "t1"}}}}}
_DOLLARS = st.sampled_from(
    ["$1 + 1", "$[1, 2]", "@widths", "@a::b", "@network_def", "$" + "(" * 500]
)


def _configurations(sound: Files) -> st.SearchStrategy[Files]:
    anchors = "a: &a [x, x]\n" + "".join(f"k{n}: &k{n} [*a, *a]\n" for n in range(3))
    texts = st.one_of(
        st.sampled_from(
            [anchors, "- a", "a: !!python/object/apply:os.system [ls]", "{", "a: 1e999"]
        ),
        st.sampled_from(TEXTS),
    )
    return st.one_of(
        changed(_BUNDLE, st.one_of(plain, _DOLLARS)).map(lambda new: {"net.json": as_json(new)}),
        json_files("net.json", ARGUMENTS),
        json_files("metadata.json", _META),
        texts.map(lambda text: {"net.yaml": text.encode("utf-8", "surrogatepass")}),
    )


def _laughs(_: Files) -> Files:
    """Lists of lists of lists, which share their parts: ten lines for ten to the power of nine."""
    lines = ["k0: &k0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 10)}]" for n in range(1, 10)]
    return {"net.yaml": "\n".join([*lines, "channels: *k9", "strides: [2]"]).encode()}


CONFIGURATION = Kind(
    "configuration of MONAI",
    lambda: {"net.json": as_json(_BUNDLE), "metadata.json": as_json(_META)},
    _configurations,
    _configured,
    (_laughs, lambda _: {"net.json": as_json({**ARGUMENTS, "strides": [1e30, NUMBERS[9]]})}),
)
