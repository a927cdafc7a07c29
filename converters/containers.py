"""The containers of a checkpoint made anew: plain ones, none of which lies in itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal_converters.inert_pickle import Skipped, TensorRecord

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
