"""What shows how far a long job is, such as a progress bar."""

from __future__ import annotations

from typing import Protocol


class Monitor(Protocol):
    """Shows how far a job is."""

    def stage(self, name: str) -> None:
        """Shows what is being done."""
        ...

    def say(self, line: str) -> None:
        """Adds a line that stays."""
        ...

    def count(self, done: int, total: int, things: str) -> None:
        """Shows how many things are done."""
        ...

    def detail(self, text: str) -> None:
        """Shows what changes all the time."""
        ...


class Silence:
    """A monitor that shows nothing."""

    def stage(self, name: str) -> None: ...

    def say(self, line: str) -> None: ...

    def count(self, done: int, total: int, things: str) -> None: ...

    def detail(self, text: str) -> None: ...
