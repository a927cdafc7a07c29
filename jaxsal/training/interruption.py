"""Ctrl-C and SIGTERM: noted, so that a step is completed and saved before the program ends."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context manager; the second signal has its usual effect at once.

    Signals can be handled in the main thread only; elsewhere nothing is noted.

    Args:
        on_signal: called at once, in a thread of its own: the main one notes a signal only when
            it comes back from a step or a compilation.
    """

    def __init__(self, on_signal: Callable[[], None] = lambda: None) -> None:
        self._on_signal = on_signal
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal asked the program to end."""
        return self._received is not None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            # The interpreter's C handler wakes a thread, which the main one cannot hold up.
            self._read, self._write = socket.socketpair()
            self._write.setblocking(False)
            self._wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        if self._before:
            self._restore()
            signal.set_wakeup_fd(self._wakeup)
            self._write.close()
            self._thread.join()
            self._read.close()

    def end(self, message: str) -> NoReturn:
        """Ends the program as the signal would have.

        Raises:
            KeyboardInterrupt: with the message; what the signal's handler raises, if it is that.
        """
        self._restore()
        handler = self._before.get(self._received or 0)
        try:
            if callable(handler):
                handler(self._received, None)
        except KeyboardInterrupt as error:
            raise type(error)(message) from None
        raise KeyboardInterrupt(message)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _watch(self) -> None:
        while received := self._read.recv(1):  # number of any signal that Python handles
            if received[0] in _SIGNALS:
                return self._on_signal()
