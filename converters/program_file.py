"""Reading a ``.pt2``, which ``torch.export.save`` writes: a network as a list of operations.

It is a zip archive with the program in JSON and the weights as raw bytes, as torch 2.9 and newer
write it. It is read without torch, and nothing in it is executed: weights and objects that are
pickled are refused, not read.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxsal.errors import InputError, JaxsalError
from jaxsal.store.files import require_content
from jaxsal.store.parsing import parsed_json
from jaxsal_converters.checkpoint_file import some_of
from jaxsal_converters.saved_tensors import require_bearable

SCHEMA = 8  # the major version, within which torch adds and takes nothing away
SAVE_AGAIN = (
    "load it with torch.export.load in torch 2.9 or newer and write it again with torch.export.save"
)

_CHANGED = (  # what descriptions that were changed lead to
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError),
    AssertionError,
)
_MOST_JSON = 2**28  # bytes of a description; a large transformer's has some 2**24
_SHOWN_BYTES = 64  # of the short entries, which name a format

# PyTorch's number of a dtype in a file -> its name
DTYPES = {
    **{1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64"},
    **{6: "float16", 7: "float32", 8: "float64", 12: "bool", 13: "bfloat16"},
    **{9: "complex32", 10: "complex64", 11: "complex128"},
}
_NUMPY = {"bfloat16": ml_dtypes.bfloat16}


class StoredTensor(NamedTuple):
    """Where a tensor lies in the archive, and how.

    Attributes:
        name: PyTorch's, such as ``model.0.conv.weight``.
        entry: of the archive, the bytes of its storage.
        dtype: name of the type of its numbers.
        shape: its sizes.
        strides: steps in the storage, in numbers.
        offset: of its first number in the storage.
    """

    name: str
    entry: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @property
    def reach(self) -> int:
        """How many numbers of its storage it needs; 0 if it is empty."""
        if 0 in self.shape:
            return 0
        steps = ((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return self.offset + 1 + sum(steps)


@dataclass(frozen=True)
class Program:
    """What a ``.pt2`` holds, in PyTorch's own words (``torch._export.serde.schema``).

    Attributes:
        name: of the file, for messages.
        graph: the nodes, values, inputs and outputs.
        inputs: what each input of the graph is: a parameter, a buffer, an image.
        outputs: what each output is.
        structure: in which the outputs were returned: a nested description by PyTorch's pytrees.
        arrays: parameters, buffers and constants by name.
        torch_version: that exported it.
    """

    name: str
    graph: Mapping[str, Any]
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    structure: Any
    arrays: Mapping[str, np.ndarray]
    torch_version: str


def read_program(source: str | Path | IO[bytes]) -> Program:
    """Reads an exported program.

    Args:
        source: the file that ``torch.export.save`` wrote, or its content.

    Raises:
        InputError: it is missing, no such file, damaged, of another version of the format, or
            holds what is not read, such as pickled objects; the message says what to do.
    """
    file = source if not isinstance(source, str | Path) else _existing(Path(source))
    name = str(file) if isinstance(file, Path) else "the program"
    with well_formed(name):
        if not zipfile.is_zipfile(file):
            raise InputError(
                f"{name} is no .pt2 but another kind of file: write one with "
                "torch.export.save(torch.export.export(network, (image,)), FILE)"
            )
        with zipfile.ZipFile(file) as archive:
            return _read(name, Archive(name, archive))


def _existing(path: Path) -> Path:
    require_content(path)
    if not path.is_file():
        raise InputError(
            f"{path} {'is not a file' if path.exists() else 'does not exist'}; a program that "
            "torch.export.save wrote (.pt2) is expected"
        )
    return path


@contextmanager
def well_formed(name: str) -> Iterator[None]:
    """Has what goes wrong in the block be the fault of a file.

    Args:
        name: of the file, for messages.

    Raises:
        InputError: anything went wrong.
    """
    try:
        yield
    except JaxsalError:
        raise
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise InputError(f"{name} is truncated or damaged: {error}") from error
    except _CHANGED as error:
        raise InputError(f"{name} is not as torch.export.save writes it: {error!r}") from error


class Archive:
    """The entries of the zip archive, without the folder that all of them lie in.

    Args:
        name: of the file, for messages.
        archive: an open one.

    Raises:
        InputError: an entry is encrypted, compressed or there twice, its name leads elsewhere, or
            the entries are larger than the file.
    """

    def __init__(self, name: str, archive: zipfile.ZipFile) -> None:
        self.name, self._archive = name, archive
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            _check_entry(name, info)
            inside = info.filename.partition("/")[2]
            if inside in self._entries:
                raise InputError(f"{name} is damaged: it has two entries {inside}")
            self._entries[inside] = info
        self._check_sizes()

    def _check_sizes(self) -> None:
        """Entries that share bytes would make a small file a large one."""
        file = self._archive.fp
        assert file is not None  # it is open
        size = file.seek(0, 2)
        if sum(info.file_size for info in self._entries.values()) > size:
            raise InputError(f"{self.name} is damaged: its entries are larger than the file")

    def __contains__(self, entry: str) -> bool:
        return entry in self._entries

    def within(self, folder: str) -> list[str]:
        """The names of all entries of a folder."""
        return [entry for entry in self._entries if entry.startswith(folder)]

    def size(self, entry: str) -> int:
        """Its number of bytes."""
        return self._info(entry).file_size

    def read(self, entry: str) -> bytes:
        """Its content."""
        return self._archive.read(self._info(entry))

    def text(self, entry: str) -> str:
        """The content of a short entry; "" if there is none."""
        if entry not in self or self.size(entry) > _SHOWN_BYTES:
            return ""
        return self.read(entry).decode(errors="replace").strip()

    def json(self, entry: str) -> Any:
        """The content of a description.

        Raises:
            InputError: it is missing, or larger than any program's.
        """
        if self.size(entry) > _MOST_JSON:
            raise InputError(
                f"{self.name}: {entry} has {self.size(entry):,} bytes, no program needs that many"
            )
        return parsed_json(self.read(entry))

    def _info(self, entry: str) -> zipfile.ZipInfo:
        if entry not in self._entries:
            raise InputError(f"{self.name} is incomplete: it lacks {entry}; {SAVE_AGAIN}")
        return self._entries[entry]


def _check_entry(name: str, info: zipfile.ZipInfo) -> None:
    parts = info.filename.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or ":" in parts[0]:
        raise InputError(f"{name} is refused: its entry {info.filename!r} leads outside of it")
    if info.flag_bits & 1:
        raise InputError(f"{name} is encrypted: save it without a password")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise InputError(
            f"{name} is compressed, which torch.export.save does not do: give the file that it "
            "wrote"
        )


def _read(name: str, archive: Archive) -> Program:
    document = archive.json(_only_model(name, archive))
    _check_version(name, document)
    model = document["graph_module"]
    signature = model["signature"]
    top = next(call for call in model["module_call_graph"] if call["fqn"] == "")
    structure = parsed_json(top["signature"]["out_spec"]) if top["signature"] else None
    return Program(
        name=name,
        graph=model["graph"],
        inputs=tuple(signature["input_specs"]),
        outputs=tuple(signature["output_specs"]),
        structure=structure,
        arrays=_read_arrays(name, archive),
        torch_version=str(document.get("torch_version", "unknown")),
    )


def _only_model(name: str, archive: Archive) -> str:
    """The entry that describes the program."""
    if archive.text("archive_format") != "pt2":
        raise InputError(f"{name} {_other_kind(archive)}")
    models = [entry for entry in archive.within("models/") if entry.endswith(".json")]
    if not models:
        compiled = bool(archive.within("data/aotinductor/"))
        what = "a compiled library, which only torch can run" if compiled else "no program"
        raise InputError(
            f"{name} holds {what}: write one with "
            "torch.export.save(torch.export.export(network, (image,)), FILE)"
        )
    if len(models) > 1:
        raise InputError(
            f"{name} holds {len(models)} programs, {some_of(models)}: save one of them alone, with "
            "torch.export.save"
        )
    return models[0]


def _other_kind(archive: Archive) -> str:
    """What a zip archive is that is no `.pt2` of today, and what to do."""
    if "serialized_exported_program.json" in archive:
        return f"was written by torch 2.7 or older; files of 2.9 or newer are read: {SAVE_AGAIN}"
    if "constants.pkl" in archive:
        return (
            "is a TorchScript archive and no .pt2: export the network itself with "
            "torch.export.export and write it with torch.export.save"
        )
    if "data.pkl" in archive:
        return (
            "is a checkpoint and no .pt2: `jaxsal convert` takes MONAI's and nnU-Net's (unet, "
            "dynunet, swin-unetr, segresnet, segresnet-ds, mednext, nnunet); of another network, "
            "load it in PyTorch and write the network with "
            "torch.export.save(torch.export.export(network, (image,)), FILE)"
        )
    return "is a zip archive but no .pt2: give a file that torch.export.save wrote"


def _check_version(name: str, document: Mapping[str, Any]) -> None:
    version = document["schema_version"]
    if version["major"] != SCHEMA:
        raise InputError(
            f"{name} was written by torch {document.get('torch_version', '(unknown)')} in version "
            f"{version['major']}.{version['minor']} of the format; version {SCHEMA} is read, which "
            f"torch 2.9 to 2.13 write: {SAVE_AGAIN}"
        )


def _read_arrays(name: str, archive: Archive) -> dict[str, np.ndarray]:
    """All tensors of the archive by name."""
    big_endian = archive.text("byteorder") == "big"
    arrays: dict[str, np.ndarray] = {}
    for folder, kind in (("data/weights/", "weights"), ("data/constants/", "constants")):
        for stored in _stored_tensors(name, archive, folder, kind):
            arrays[stored.name] = _read_array(name, archive, stored, big_endian)
    return arrays


def _stored_tensors(name: str, archive: Archive, folder: str, kind: str) -> Iterator[StoredTensor]:
    configs = [entry for entry in archive.within(folder) if entry.endswith(f"_{kind}_config.json")]
    if len(configs) != 1:
        pickled = [entry for entry in archive.within(folder) if entry.endswith(".pt")]
        what = "pickles its weights, as torch 2.8 does" if pickled else f"does not list its {kind}"
        raise InputError(f"{name} {what}; those of torch 2.9 or newer are read: {SAVE_AGAIN}")
    for tensor, entry in archive.json(configs[0])["config"].items():
        meta = entry["tensor_meta"]
        if entry["use_pickle"] or meta is None:
            raise InputError(
                f"{name}: {tensor} is a pickled object and no plain tensor, and pickles are not "
                "read, since they can run code: make it a torch.Tensor (of a tensor subclass, "
                ".as_subclass(torch.Tensor)) and export again"
            )
        yield StoredTensor(
            tensor,
            folder + entry["path_name"],
            dtype_name(f"{name}: {tensor}", meta["dtype"]),
            shape=tuple(int(size["as_int"]) for size in meta["sizes"]),
            strides=tuple(int(step["as_int"]) for step in meta["strides"]),
            offset=int(meta["storage_offset"]["as_int"]),
        )


def dtype_name(what: str, number: int) -> str:
    """The name of a dtype.

    Args:
        what: has it, for messages.
        number: PyTorch's.

    Raises:
        InputError: it is none that is computed with, such as one of 8 bits.
    """
    if number not in DTYPES:
        raise InputError(
            f"{what} has numbers of PyTorch's kind {number}, such as 8-bit floats: convert the "
            "network to float32 (network.float()) and export again"
        )
    return DTYPES[number]


def _read_array(name: str, archive: Archive, stored: StoredTensor, big_endian: bool) -> np.ndarray:
    if min((*stored.shape, *stored.strides, stored.offset), default=0) < 0:
        raise InputError(f"{name} is damaged: {stored.name} has a negative size")
    dtype = np.dtype(_NUMPY.get(stored.dtype, stored.dtype))
    if stored.reach == 0:
        return np.zeros(stored.shape, dtype)
    available, rest = divmod(archive.size(stored.entry), dtype.itemsize)
    if rest or stored.reach > available:
        raise InputError(f"{name} is damaged: {stored.name} is larger than {stored.entry}")
    require_bearable(f"{name}: {stored.name}", stored.shape, available)
    content = archive.read(stored.entry)
    numbers = np.frombuffer(content, dtype)
    if big_endian:
        numbers = numbers.byteswap()
    steps = [step * dtype.itemsize for step in stored.strides]
    view = np.lib.stride_tricks.as_strided(numbers[stored.offset :], stored.shape, steps)
    return np.ascontiguousarray(view).reshape(stored.shape)
