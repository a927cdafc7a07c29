"""What a disk holds after a kill or a power cut, by the journal of what was done to it.

A file holds what was written before its last ``fsync``, a folder the names of its last ``fsync``:
that much POSIX promises. Of the rest a power cut may leave all, nothing, or any part of it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

Loss = Literal["nothing", "dropped", "torn", "mixed"]
LOSSES: tuple[Loss, ...] = ("dropped", "torn", "mixed")


class Operation(NamedTuple):
    """A change of a file: what is done, to which file below the folder, and the how many-th time.

    Runs do the same operations, but their threads may come in another order.
    """

    kind: str
    name: str
    turn: int

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" ({self.turn})" if self.turn > 1 else "")


class File:
    """A file: its content, and as much of it as is on the disk."""

    def __init__(self, content: bytes = b"", *, on_disk: bool = False) -> None:
        self.content = content
        self.safe: bytes | None = content if on_disk else None

    def left(self, loss: Loss, chance: random.Random) -> bytes:
        """What a loss leaves of it."""
        if loss == "nothing" or self.content == self.safe:
            return self.content
        if loss == "mixed":
            loss = chance.choice(["nothing", "dropped", "torn"])
            return self.left("nothing" if loss == "mixed" else loss, chance)
        return self.content[: len(self.content) // 2] if loss == "torn" else self.safe or b""


class Folder:
    """A folder: its names, and those that are on the disk."""

    def __init__(self) -> None:
        self.names: dict[str, Node] = {}
        self.safe: dict[str, Node] = {}

    def left(self, loss: Loss, chance: random.Random) -> dict[str, Node]:
        """What a loss leaves of it."""
        if loss in ("nothing", "torn"):
            return self.names
        return self.safe if loss == "dropped" or chance.random() < 0.5 else self.names


Node = File | Folder | str  # a text is where a symbolic link leads to


class State(NamedTuple):
    """A folder, and the operation that was about to be made; None: the last one was."""

    operation: Operation | None
    folder: Folder


class Journal:
    """Changes of the files below a folder, from what is there on.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._begin = _read(root)
        self._now = _Disk(_copy(self._begin))
        self._notes: list[tuple[Operation | None, str, tuple[Any, ...]]] = []

    def note(self, operation: Operation | None, kind: str, *arguments: Any) -> None:
        """Notes a change, which was made."""
        self._notes.append((operation, kind, arguments))
        getattr(self._now, kind)(*arguments)

    def catch_up(self, name: str) -> None:
        """Notes what came into a folder unseen: files of libraries that write in C++."""
        own = self._root / name
        above = [self._root / folder for folder in reversed(Path(name).parents)]
        below = sorted(own.rglob("*")) if own.is_dir() else []
        for path in [*above, *below]:
            inner = path.relative_to(self._root).as_posix()
            if self._now.at(inner) is None and path.exists():
                self.note(None, "appear", inner, None if path.is_dir() else path.read_bytes())

    def states(self) -> Iterator[State]:
        """The folder before each operation, and in the end."""
        disk = _Disk(_copy(self._begin))
        for operation, kind, arguments in self._notes:
            if operation is not None:
                yield State(operation, disk.root)
            getattr(disk, kind)(*arguments)
        yield State(None, disk.root)


class _Disk:
    """A folder that changes are made in; a method for each kind of them."""

    def __init__(self, root: Folder) -> None:
        self.root = root

    def at(self, name: str) -> Any:
        """The file or folder of this name, if there is one."""
        found: Any = self.root
        for part in Path(name).parts:
            found = found.names.get(part) if isinstance(found, Folder) else None
        return found

    def _parent(self, name: str) -> tuple[Folder, str]:
        path = Path(name)
        return self.at(str(path.parent)), path.name

    def create(self, name: str, _: bool) -> None:
        folder, last = self._parent(name)
        folder.names[last] = File()

    def open(self, name: str, empties: bool) -> None:
        if empties:
            self.truncate(name, 0)

    def appear(self, name: str, content: bytes | None) -> None:
        """TensorStore has what it writes on the disk before it says that it is written."""
        folder, last = self._parent(name)
        node: Node = Folder() if content is None else File(content, on_disk=True)
        folder.names[last] = folder.safe[last] = node

    def write(self, name: str, place: int, data: bytes) -> None:
        if isinstance(file := self.at(name), File):  # else it was removed while it was open
            before = file.content.ljust(place, b"\0")
            file.content = before[:place] + data + before[place + len(data) :]

    def truncate(self, name: str, size: int) -> None:
        if isinstance(file := self.at(name), File):
            file.content = file.content[:size].ljust(size, b"\0")

    def fsync(self, name: str) -> None:
        node = self.at(name)
        if isinstance(node, File):
            node.safe = node.content
        elif isinstance(node, Folder):
            node.safe = dict(node.names)

    def rename(self, source: str, target: str) -> None:
        (before, old), (after, new) = self._parent(source), self._parent(target)
        after.names[new] = before.names.pop(old)

    def link(self, source: str, target: str) -> None:
        folder, last = self._parent(target)
        folder.names[last] = self.at(source)

    def symlink(self, leads: str, name: str) -> None:
        folder, last = self._parent(name)
        folder.names[last] = leads

    def unlink(self, name: str) -> None:
        folder, last = self._parent(name)
        folder.names.pop(last, None)

    rmdir = unlink

    def mkdir(self, name: str) -> None:
        folder, last = self._parent(name)
        folder.names[last] = Folder()


def plain(folder: Folder, loss: Loss = "nothing", seed: int = 0) -> dict[str, Any]:
    """What a loss leaves of a folder: contents of files by their names, None for folders."""
    chance = random.Random(seed)
    found: dict[str, Any] = {}

    def walk(folder: Folder, prefix: str) -> None:
        for name, node in sorted(folder.left(loss, chance).items(), key=lambda pair: pair[0]):
            if isinstance(node, Folder):
                found[prefix + name] = None
                walk(node, f"{prefix}{name}/")
            else:
                found[prefix + name] = node.left(loss, chance) if isinstance(node, File) else node

    walk(folder, "")
    return found


def write(content: dict[str, Any], root: Path) -> None:
    """Writes what `plain` found into an empty folder."""
    for name, node in content.items():
        path = root / name
        if node is None:
            path.mkdir()
        elif isinstance(node, bytes):
            path.write_bytes(node)
        else:
            path.symlink_to(node)


def _read(root: Path) -> Folder:
    folder = Folder()
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_symlink():
                node: Node = os.readlink(entry.path)
            elif entry.is_dir():
                node = _read(Path(entry.path))
            else:
                node = File(Path(entry.path).read_bytes(), on_disk=True)
            folder.names[entry.name] = node
    folder.safe = dict(folder.names)
    return folder


def _copy(folder: Folder) -> Folder:
    copied = Folder()
    for name, node in folder.names.items():
        if isinstance(node, Folder):
            copied.names[name] = _copy(node)
        elif isinstance(node, File):
            copied.names[name] = File(node.content, on_disk=True)
        else:
            copied.names[name] = node
    copied.safe = dict(copied.names)
    return copied
