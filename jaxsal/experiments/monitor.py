"""Who is told how far a study is, such as a progress bar."""

from __future__ import annotations

from typing import Protocol


class Monitor(Protocol):
    """Is told how far a study is."""

    def stage(self, name: str) -> None:
        """What is being done."""
        ...

    def say(self, line: str) -> None:
        """Something that is worth a line."""
        ...

    def count(self, done: int, total: int, things: str) -> None:
        """How many things are done."""
        ...

    def detail(self, text: str) -> None:
        """What changes all the time."""
        ...


class Silence:
    """A monitor that says nothing."""

    def stage(self, name: str) -> None: ...

    def say(self, line: str) -> None: ...

    def count(self, done: int, total: int, things: str) -> None: ...

    def detail(self, text: str) -> None: ...
