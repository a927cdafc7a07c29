"""A folder whose every change is seen, numbered, and made to fail.

`Watch` stands between Python and the operating system: ``os``, ``open`` and ``io.open`` are
patched, through which pathlib, shutil, tempfile, gzip, nibabel, NumPy, pyarrow and filelock write,
too. What libraries write by themselves in C++ (Orbax's arrays) is seen once it is there, not as it
is written.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from helpers.power_cuts import Journal, Operation

TAKES_SPACE = {"create", "write", "mkdir", "link", "symlink", "extend"}
_WRITES = os.O_WRONLY | os.O_RDWR
_CHANCE = [  # parts of names that differ from run to run
    (re.compile(r"\.\d+-[0-9a-f]{8}\.part"), ".part"),
    (re.compile(r"\.(\d+@[^/]+\.)?[0-9a-f]{32}"), ".hex"),
    (re.compile(r"(?<=/d/)[0-9a-f]{32}"), "hex"),  # of TensorStore
    (re.compile(r"\.jaxsal-\d+-\w+@[^/]+"), ".jaxsal-staging"),
    (re.compile(r"\.orbax-checkpoint-tmp[^/]*"), ".orbax"),
    (re.compile(r"(?<=/tmp/)tmp\w{8}"), "chance"),
]


def without_chance(name: str) -> str:
    """A name without the parts that differ from run to run."""
    for pattern, replacement in _CHANCE:
        name = pattern.sub(replacement, name)
    return name


class Fault(NamedTuple):
    """What goes wrong at an operation.

    ``EIO``: it fails. ``ENOSPC``: from it on the disk is full, so that nothing that takes space
    succeeds. ``short write``: a write writes half of what it was given, and says so.
    """

    kind: str
    at: Operation


class Watch:
    """Sees, and lets fail, what changes files below a folder; a context manager.

    Args:
        root: the folder.
        fault: what goes wrong; None: nothing.

    Attributes:
        operations: in their order.
        journal: of the changes that were made; from it come the folders that kills leave behind.
        struck: whether the fault happened.
        unseen: changes that came past: Python announced them, and nothing patched did.
    """

    def __init__(self, root: Path, fault: Fault | None = None) -> None:
        self.root = Path(os.path.realpath(root))
        self.operations: list[Operation] = []
        self.journal = Journal(self.root)
        self.struck = False
        self.unseen: list[str] = []
        self._fault, self._full = fault, False
        self._turns: Counter[tuple[str, str]] = Counter()
        self._lock = threading.RLock()
        self._inside = threading.local()

    def __enter__(self) -> Watch:
        with ExitStack() as stack:
            for name, replacement in self._replacements():
                stack.enter_context(mock.patch.object(os, name, replacement))
            real = io.open
            opened = self._open(real)
            stack.enter_context(mock.patch.object(builtins, "open", opened))
            stack.enter_context(mock.patch.object(io, "open", opened))
            _audited.append(self)
            stack.callback(_audited.remove, self)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _replacements(self) -> Iterator[tuple[str, Callable[..., Any]]]:
        for name in ("replace", "rename"):
            yield name, self._two(getattr(os, name), "rename")
        yield "link", self._two(os.link, "link")
        yield "symlink", self._symlink(os.symlink)
        for name in ("unlink", "remove"):
            yield name, self._one(getattr(os, name), "unlink")
        for name in ("mkdir", "rmdir", "truncate"):
            yield name, self._one(getattr(os, name), name)
        yield "open", self._os_open(os.open)
        yield "write", self._os_write(os.write)
        yield "ftruncate", self._ftruncate(os.ftruncate)
        for name in ("fsync", "fdatasync"):
            yield name, self._fsync(getattr(os, name))

    # What every operation goes through.

    def change(
        self, kind: str, path: str, do: Callable[[], Any], noted: Callable[[str], tuple[Any, ...]]
    ) -> Any:
        """Does an operation, unless it is to fail, and notes it in the journal."""
        with self._lock:
            name = self.name(path)
            if name is None:
                return self._really(do)
            operation = self._next(kind, name)
            if self._fault is not None and operation == self._fault.at:
                self.struck = True
                if self._fault.kind == "EIO":
                    raise OSError(errno.EIO, os.strerror(errno.EIO), path)
                self._full = self._fault.kind == "ENOSPC"
            if self._full and kind in TAKES_SPACE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            self.journal.catch_up(name)
            result = self._really(do)
            self.journal.note(operation, *noted(name))
            return result

    def is_short(self, kind: str, path: str) -> bool:
        """Whether the next such operation is to write half of what it is given."""
        fault = self._fault
        if fault is None or fault.kind != "short write" or fault.at.kind != kind:
            return False
        name = without_chance(self.name(path) or "")
        return fault.at == Operation(kind, name, self._turns[kind, name] + 1)

    def _next(self, kind: str, name: str) -> Operation:
        plain = without_chance(name)
        self._turns[kind, plain] += 1
        operation = Operation(kind, plain, self._turns[kind, plain])
        self.operations.append(operation)
        return operation

    def name(self, path: Any, folder: int | None = None) -> str | None:
        """A path relative to the folder; None if it is not below it."""
        with suppress(OSError, ValueError):
            if isinstance(path, int):
                path = os.readlink(f"/proc/self/fd/{path}")
            path = os.fsdecode(path)
            if folder is not None and not os.path.isabs(path):
                path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
            parent, last = os.path.split(os.path.abspath(path))
            found = os.path.join(os.path.realpath(parent), last)
            if found.startswith(f"{self.root}/"):
                return found[len(str(self.root)) + 1 :]
            if found == str(self.root):
                return "."
        return None

    def _really(self, do: Callable[[], Any]) -> Any:
        before, self._inside.on = getattr(self._inside, "on", False), True
        try:
            return do()
        finally:
            self._inside.on = before

    def path(self, path: Any, folder: int | None = None) -> str:
        """A path without links, if it is below the folder; else as it was given."""
        name = self.name(path, folder)
        return os.fsdecode(path) if name is None else str(self.root / name)

    # The functions of ``os``.

    def _one(self, real: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            at = options.get("dir_fd")
            return self.change(
                kind,
                self.path(path, at),
                lambda: real(path, *arguments, **options),
                lambda name: (kind, name, *(arguments if kind == "truncate" else ())),
            )

        return call

    def _two(self, real: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def call(source: Any, target: Any, **options: Any) -> Any:
            origin = self.name(source, options.get("src_dir_fd"))
            return self.change(
                kind,
                self.path(target, options.get("dst_dir_fd")),
                lambda: real(source, target, **options),
                lambda name: (kind, origin, name),
            )

        return call

    def _symlink(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, path: Any, *arguments: Any, **options: Any) -> Any:
            return self.change(
                "symlink",
                self.path(path, options.get("dir_fd")),
                lambda: real(target, path, *arguments, **options),
                lambda name: ("symlink", os.fsdecode(target), name),
            )

        return call

    def _os_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            full = self.path(path, options.get("dir_fd"))
            if not flags & (_WRITES | os.O_CREAT | os.O_TRUNC):
                return int(self._really(lambda: real(path, flags, *arguments, **options)))
            kind = self._kind(full, create=bool(flags & os.O_CREAT))
            return int(
                self.change(
                    kind,
                    full,
                    lambda: real(path, flags, *arguments, **options),
                    lambda name: (kind, name, bool(flags & os.O_TRUNC)),
                )
            )

        return call

    @staticmethod
    def _kind(path: str, *, create: bool) -> str:
        return "create" if create and not os.path.lexists(path) else "open"

    def _os_write(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(file: int, data: Any) -> int:
            if self.name(file) is None:
                return real(file, data)
            return self.write(file, data, real)

        return call

    def write(self, file: int, data: Any, real: Callable[[int, Any], int]) -> int:
        """Writes bytes to an open file."""
        path = self.path(file)
        data = memoryview(data).cast("B")
        if self.is_short("write", path):
            data = data[: len(data) // 2]
        appends = "a" in _mode(file)
        place = os.fstat(file).st_size if appends else os.lseek(file, 0, os.SEEK_CUR)
        return int(
            self.change(
                "write",
                path,
                lambda: real(file, data),
                lambda name: ("write", name, place, bytes(data)),
            )
        )

    def _ftruncate(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: int, size: int) -> Any:
            return self.change(
                "truncate",
                self.path(file),
                lambda: real(file, size),
                lambda name: ("truncate", name, size),
            )

        return call

    def _fsync(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any) -> Any:
            number = file if isinstance(file, int) else file.fileno()
            if self.name(number) is None:
                return real(number)
            # Where nothing but the journal is cut off, no disk need be waited for.
            return self.change(
                "fsync", self.path(number), lambda: None, lambda name: ("fsync", name)
            )

        return call

    # Files of Python.

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            if not set(mode) & set("wax+") or self.name(file) is None:
                return self._really(
                    lambda: real(file, mode, buffering, encoding, errors, newline, closefd, opener)
                )
            path = self.path(file)
            if isinstance(file, int):  # it is open already
                raw = _Raw(self, file, mode.replace("b", "").replace("t", ""), closefd=closefd)
            else:
                kind = self._kind(path, create=mode[0] != "r")
                raw = self.change(
                    kind,
                    path,
                    lambda: _Raw(self, path, mode.replace("b", "").replace("t", "")),
                    lambda name: (kind, name, mode[0] == "w"),
                )
            if buffering == 0:
                return raw
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            watched = _Buffered(buffered)
            if "b" in mode:
                return watched
            return io.TextIOWrapper(watched, encoding, errors, newline, buffering == 1)

        return call

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Takes note of what Python announces to auditors and nothing patched did."""
        if getattr(self._inside, "on", False):
            return
        if event == "open":
            if not isinstance(arguments[2], int) or not arguments[2] & _WRITES:
                return
        elif event not in _EVENTS:
            return
        place = arguments[1] if event in ("os.rename", "os.link", "os.symlink") else arguments[0]
        if (name := self.name(place)) is not None:
            self.unseen.append(f"{event} {name}")


class _Raw(io.FileIO):
    """A file whose writes are seen."""

    def __init__(self, watch: Watch, file: Any, mode: str, **options: Any) -> None:
        self._watch = watch
        super().__init__(file, mode, **options)

    def write(self, data: Any) -> int:  # type: ignore[override]
        real = super().write
        return self._watch.write(self.fileno(), data, lambda _, given: real(given))

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        real = super().truncate
        self._watch.change(
            "truncate",
            self._watch.path(self.fileno()),
            lambda: real(size),
            lambda name: ("truncate", name, size),
        )
        return size


class _Buffered(io.BufferedIOBase):
    """A buffered file that NumPy does not take for one of Python's own, past which it writes."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def write(self, data: Any) -> int:
        return int(self._real.write(data))

    def read(self, size: int | None = -1) -> bytes:
        return bytes(self._real.read(size))

    def flush(self) -> None:
        if not self._real.closed:
            self._real.flush()

    def close(self) -> None:
        self._real.close()

    @property
    def closed(self) -> bool:
        return bool(self._real.closed)

    def fileno(self) -> int:
        return int(self._real.fileno())

    def seek(self, *arguments: int) -> int:
        return int(self._real.seek(*arguments))

    def tell(self) -> int:
        return int(self._real.tell())

    def truncate(self, size: int | None = None) -> int:
        return int(self._real.truncate(size))

    def readable(self) -> bool:
        return bool(self._real.readable())

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._real.seekable())


def _mode(file: int) -> str:
    import fcntl

    return "a" if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_APPEND else "w"


_EVENTS = {
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
}
_audited: list[Watch] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" or event in _EVENTS:
        for watch in _audited:
            watch.heard(event, arguments)


sys.addaudithook(_hear)  # which cannot be taken back; it does nothing where nobody watches
