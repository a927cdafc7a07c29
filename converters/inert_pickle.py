"""Reading the pickle inside a PyTorch checkpoint without executing, or importing, anything of it.

A pickle is a program: it names functions, which reading it calls. Here every name that it can utter
stands for something inert. The few that state dicts need become records of a tensor's place in the
file; all others become a `Skipped`, which takes whatever is done to it and does nothing. So what
lies beside the tensors (paths, configurations, whole modules) is passed over, and nothing runs.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from jaxsal.errors import InputError


class Storage(NamedTuple):
    """A run of numbers in the file.

    Attributes:
        dtype: name of the class that PyTorch has for it, such as "FloatStorage".
        key: its name in the file.
        size: how many there are.
    """

    dtype: str
    key: str
    size: int


@dataclass(frozen=True)
class TensorRecord:
    """A tensor that is in the file and has not been read.

    Attributes:
        storage: where its numbers are.
        offset: of its first one, in numbers.
        shape: of the tensor.
        strides: in numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        sizes = (self.offset, *self.shape, *self.strides)
        whole = all(type(n) is int and n >= 0 for n in sizes)
        if not isinstance(self.storage, Storage) or not whole:
            raise pickle.UnpicklingError("a tensor of no storage, or of sizes that are none")
        if len(self.shape) != len(self.strides):
            raise pickle.UnpicklingError("a tensor whose shape and strides have other lengths")

    @property
    def needed(self) -> int:
        """Numbers that its storage must have: up to its last one."""
        pairs = zip(self.shape, self.strides, strict=True)
        return 1 + self.offset + sum((n - 1) * stride for n, stride in pairs)

    def __setstate__(self, state: object) -> None:
        """Ignores what the pickle would set."""


class Skipped:
    """What stands for all that is neither tensor nor plain value: nothing can be done to it."""

    name = ""  # of what was skipped

    def __new__(cls, *_: object, **__: object) -> Skipped:
        return object.__new__(cls if isinstance(cls, type) else type(cls))

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *_: object, **__: object) -> Skipped:
        return self

    def _ignore(*_: object) -> None:  # no self, for a pickle may call it on the class as well
        pass

    __setstate__ = __setitem__ = append = extend = add = _ignore


class Entries(dict[Any, Any]):
    """An ordered dictionary, without the attributes that PyTorch's state dicts have."""

    def __setstate__(self, state: object) -> None:
        """Ignores what the pickle would set."""


class Maker:
    """A function of a few known ones; unlike the function itself, a pickle cannot change it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: object) -> None:
        """Ignores what the pickle would set."""


class InertUnpickler(pickle._Unpickler):
    """The unpickler; the one in Python, since that in C allocates whatever sizes the file names.

    Attributes:
        skipped: names of all that was passed over, in order.
        storages: that tensors were said to be of.
    """

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self.skipped: dict[str, type[Skipped]] = {}
        self.storages: list[Storage] = []

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name."""
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return name
        full = f"{module}.{name}"
        if full in _KNOWN:
            return _KNOWN[full]
        return self.skipped.setdefault(full, type("Skipped", (Skipped,), {"name": full}))

    def get_extension(self, code: int) -> Any:
        """Numbers that stand for names are another program's."""
        raise pickle.UnpicklingError(f"the pickle has the extension {code}")

    def persistent_load(self, pid: Any) -> Any:
        """Where a tensor's numbers are; anything else that lies outside the pickle is skipped."""
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            return Skipped
        dtype, key, size = pid[1], pid[2], pid[4]
        if not isinstance(dtype, str) or not isinstance(key, str) or type(size) is not int:
            raise pickle.UnpicklingError("a storage without name, type or size")
        if len(pid) > 5 and pid[5] is not None:
            raise pickle.UnpicklingError("a view of a storage, as PyTorch before 0.4 wrote it")
        self.storages.append(Storage(dtype, key, size))
        return self.storages[-1]


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> Any:
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise pickle.UnpicklingError("a tensor without shape or strides")
    return TensorRecord(storage, offset, shape, strides)


def _from_type(make: Any, _: object, arguments: Any, *__: object) -> Any:
    """A tensor of a class derived from PyTorch's, such as MONAI's MetaTensor."""
    return make(*arguments) if isinstance(make, Maker) else Skipped()


def _entries(pairs: Any = (), *_: object) -> Entries:
    return Entries(pairs)


_KNOWN = {
    "collections.OrderedDict": Maker(_entries),
    "torch._utils._rebuild_tensor": Maker(_tensor),
    "torch._utils._rebuild_tensor_v2": Maker(_tensor),
    "torch._utils._rebuild_parameter": Maker(lambda data, *_: data),
    "torch._utils._rebuild_parameter_with_state": Maker(lambda data, *_: data),
    "torch._tensor._rebuild_from_type_v2": Maker(_from_type),
    "torch.Size": Maker(lambda sizes=(): tuple(sizes)),
}


_MOST_DEEP = 32  # levels of containers; real checkpoints have six


class Itself(Skipped):
    """What stands for a container in a place within it."""

    name = "a container within itself"


class Containers:
    """Makes the containers of a checkpoint anew.

    Args:
        path: of the file, for messages.
        read: what takes the place of a tensor's record, of which PyTorch's own reader leaves none.
    """

    def __init__(self, path: Path, read: Callable[[TensorRecord], Any] | None = None) -> None:
        self._path, self._read = path, read
        self._done: dict[int, Any] = {}  # by identity, since what is shared can be exponential
        self._unfinished: set[int] = set()  # likewise
        self.skipped: list[str] = []
        """The name of `Itself`, if it was needed."""

    def anew(self, value: Any, depth: int = 0) -> Any:
        """Tuples become lists, and a container within itself an `Itself`; other values stay.

        Raises:
            InputError: too many containers lie in each other.
        """
        if depth > _MOST_DEEP:
            raise InputError(f"{self._path} has more than {_MOST_DEEP} containers in each other")
        if id(value) in self._unfinished:
            self.skipped[:] = [Itself.name]
            return Itself()
        if id(value) not in self._done:
            self._unfinished.add(id(value))
            self._done[id(value)] = self._made(value, depth + 1)
            self._unfinished.remove(id(value))
        return self._done[id(value)]

    def _made(self, value: Any, depth: int) -> Any:
        if isinstance(value, TensorRecord) and self._read:
            return self._read(value)
        if isinstance(value, dict):
            return {key: self.anew(each, depth) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.anew(each, depth) for each in value]
        return value
