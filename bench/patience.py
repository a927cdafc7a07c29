"""Functions called in a process of their own, which is ended where one takes too long.

It also ends with the process that started it, however that ends.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from jaxsal.processes import live_with_the_parent

A = TypeVar("A")
T = TypeVar("T")


class Patient(Generic[A, T]):
    """A function in a process of its own, which lasts from call to call.

    Args:
        function: of one argument, which is pickled, as are the function and its result.
        seconds: after which a call is given up.
    """

    def __init__(self, function: Callable[[A], T], seconds: float) -> None:
        self._function, self._seconds = function, seconds
        self._process: Any = None
        self._ours: Any = None

    def __call__(self, argument: A) -> T:
        """The function's result.

        Raises:
            TimeoutError: it took too long.
            EOFError: its process ended.
        """
        try:
            if self._process is None:
                self._start()
            self._ours.send(argument)
            if self._ours.poll(self._seconds):
                result: T = self._ours.recv()
                return result
        except EOFError:
            self.end()
            raise
        self.end()
        raise TimeoutError

    def __enter__(self) -> Patient[A, T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._ours.close()
            self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of JAX's threads may hang
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._function, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._ours.recv()  # it is there, and what the function needs is imported


def _serve(function: Callable[[Any], Any], pipe: Any) -> None:
    live_with_the_parent()
    pipe.send(None)
    while True:
        try:
            argument = pipe.recv()
        except EOFError:  # nobody asks any more
            return
        pipe.send(function(argument))
