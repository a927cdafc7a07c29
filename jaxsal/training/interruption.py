"""Ctrl-C and SIGTERM: noted, so that a step is completed and saved before the program ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context manager; the second signal has its usual effect at once.

    Signals can be handled in the main thread only; elsewhere nothing is noted.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether the program was told to end."""
        return self._received is not None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

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
