"""The two forms of file that ``torch.save`` writes, read without executing anything of them."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from jaxsal.errors import InputError
from jaxsal_converters.inert_pickle import Containers, InertUnpickler, Storage, TensorRecord

# PyTorch's class -> its dtype, of what state dicts hold
_DTYPES = {
    **{"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16"},
    **{"BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32"},
    **{"ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8"},
    "BoolStorage": "bool",
}
_ZIP_HEADER = struct.Struct("<26xHH")  # of an entry, before its name
_COUNT = {False: struct.Struct("<q"), True: struct.Struct(">q")}  # by whether it is big-endian
_MAGIC = 0x1950A86A20F9469CFC6C  # the older form begins with it, pickled
_ZIP_BEGINS = b"PK\x03\x04"
_BEGINNING = 64  # bytes, of which either form is known
_VERSION = 1001
_MOST_REPEATED = 2**24  # numbers of a tensor that its storage does not have; 64 MiB of float32


@dataclass(frozen=True)
class Place:
    """Where the bytes of a storage lie in a file."""

    start: int
    length: int


def read_inertly(path: Path) -> tuple[Any, list[str]]:
    """All tensors and plain values of a checkpoint, and the names of what was passed over.

    Tensors are `LazyTensor`: none is read before it is asked for.

    Raises:
        InputError: the file is no checkpoint, or damaged.
    """
    try:
        found = (_of_zip if zipfile.is_zipfile(path) else _of_older_form)(path)

        def lazy(record: TensorRecord) -> LazyTensor:
            return LazyTensor(path, record, found.places.get(record.storage.key), found.big_endian)

        containers = Containers(path, lazy)
        return containers.anew(found.content), found.skipped + containers.skipped
    except InputError:
        raise
    except Exception as error:  # a pickle that is not well-formed raises any kind
        raise unreadable(path) from error


def unreadable(path: Path) -> InputError:
    """What to raise of a file that cannot be read: whether it is damaged, or no checkpoint."""
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError as error:
        return InputError(f"cannot read {path}: {error.strerror}; see to its rights and its disk")
    if beginning.startswith(_ZIP_BEGINS) or _MAGIC.to_bytes(10, "little") in beginning:
        return InputError(
            f"{path} cannot be read to its end: it is truncated or damaged, or larger than the "
            "memory; fetch it again"
        )
    return InputError(
        f"{path} is no PyTorch checkpoint; give a file that torch.save wrote (.pth, .pt)"
    )


@dataclass(frozen=True)
class LazyTensor:
    """A tensor in a file.

    Attributes:
        path: of the file.
        record: which one it is.
        place: of its storage; None if the file has none of that name.
        big_endian: whether its numbers begin with their largest digits.
    """

    path: Path
    record: TensorRecord
    place: Place | None
    big_endian: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return self.record.shape

    def read(self) -> Any:
        """The ``torch.Tensor``.

        Raises:
            InputError: its numbers are of an unknown kind, missing, or not as many as it says.
        """
        import torch

        record, size = self.record, _item_size(self.record.storage)
        dtype = getattr(torch, _DTYPES[record.storage.dtype])
        if 0 in record.shape:
            return torch.empty(record.shape, dtype=dtype)
        content = self._content(size)
        if self.big_endian:
            np.frombuffer(content, f"u{size}").byteswap(inplace=True)
        numbers = torch.frombuffer(content, dtype=dtype)
        return numbers.as_strided(record.shape, record.strides, record.offset)

    def _content(self, item_size: int) -> bytearray:
        """The storage's bytes, of which there are enough for the tensor."""
        storage, place = self.record.storage, self.place
        if place is None or place.length != storage.size * item_size:
            raise InputError(f"{self.path}: the storage {storage.key!r} is not as large as it says")
        if self.record.needed > storage.size:
            raise InputError(f"{self.path}: a tensor is larger than its storage {storage.key!r}")
        require_bearable(f"{self.path}: a tensor", self.shape, storage.size)
        if place.start + place.length > self.path.stat().st_size:
            raise InputError(f"{self.path} is truncated: it ends within a tensor")
        with self.path.open("rb") as file:
            file.seek(place.start)
            return bytearray(file.read(place.length))


def require_bearable(name: str, shape: Sequence[int], stored: int) -> None:
    """Refuses tensors that a file of few bytes makes endless by repeating its numbers.

    Args:
        name: of the tensor, for messages.
        shape: its sizes.
        stored: how many numbers the file has for it.

    Raises:
        InputError: it has too many more.
    """
    count = math.prod(shape)
    if count > max(stored, _MOST_REPEATED):
        raise InputError(
            f"{name} of {count:,} numbers repeats the {stored:,} that are stored, as expand makes "
            f"it; more than {_MOST_REPEATED:,} are not read so: save its .contiguous()"
        )


class _Found(NamedTuple):
    """The pickled object, places of storages by their keys, byte order, and names skipped."""

    content: Any
    places: Mapping[str, Place]
    big_endian: bool
    skipped: list[str]


def _of_zip(path: Path) -> _Found:
    """The form of PyTorch 1.6 and newer: an archive of the pickle and a file per storage."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        entries = {info.filename: info for info in archive.infolist()}
        (pickled,) = (name for name in entries if name.rpartition("/")[2] == "data.pkl")
        root = pickled.removesuffix("data.pkl")
        is_big = f"{root}byteorder" in entries and archive.read(f"{root}byteorder") == b"big"
        unpickler = InertUnpickler(io.BytesIO(archive.read(pickled)))
        content, data = unpickler.load(), f"{root}data/"
        places = {
            name.removeprefix(data): _place(file, info)
            for name, info in entries.items()
            if name.startswith(data)
        }
    return _Found(content, places, is_big, list(unpickler.skipped))


def _place(file: IO[bytes], info: zipfile.ZipInfo) -> Place:
    """Where a stored entry's bytes are: after its header, its name and what else stands there."""
    file.seek(info.header_offset)
    name, extra = _ZIP_HEADER.unpack(file.read(_ZIP_HEADER.size))
    return Place(info.header_offset + _ZIP_HEADER.size + name + extra, info.file_size)


def _of_older_form(path: Path) -> _Found:
    """The form before: five pickles, then each storage's count and numbers."""
    with path.open("rb") as file:
        if InertUnpickler(file).load() != _MAGIC or InertUnpickler(file).load() != _VERSION:
            raise unreadable(path)
        system = InertUnpickler(file).load()
        unpickler = InertUnpickler(file)
        content = unpickler.load()
        keys = InertUnpickler(file).load()
        sizes = {storage.key: _item_size(storage) for storage in unpickler.storages}
        is_big = isinstance(system, dict) and system.get("little_endian") is False
        places, start = {}, file.tell()
        for key in keys:
            file.seek(start)
            (count,) = _COUNT[is_big].unpack(file.read(_COUNT[is_big].size))
            start += _COUNT[is_big].size
            places[key] = Place(start, count * sizes[key])
            start += count * sizes[key]
    return _Found(content, places, is_big, list(unpickler.skipped))


def _item_size(storage: Storage) -> int:
    """Bytes of one of its numbers."""
    import torch

    if storage.dtype not in _DTYPES:
        raise InputError(f"numbers of PyTorch's type {storage.dtype} are not supported")
    dtype: torch.dtype = getattr(torch, _DTYPES[storage.dtype])
    return dtype.itemsize
