"""Signals are noted, and end the program later as they would have."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from jaxsal.cli.interruption import Terminated, terminable
from jaxsal.training.interruption import Interruption


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_the_end_is_that_of_the_signal(number: int, kind: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with terminable(), Interruption() as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested  # and nothing was raised
        with pytest.raises(kind, match="all is saved") as raised:
            interruption.end("all is saved")
        assert type(raised.value) is kind
    assert signal.getsignal(number) == before


def test_a_second_signal_has_its_usual_effect() -> None:
    with Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_is_told_of_without_the_main_thread() -> None:
    tellers, told = [], threading.Event()

    def tell() -> None:
        tellers.append(threading.current_thread())
        told.set()

    with Interruption(tell):
        os.kill(os.getpid(), signal.SIGTERM)
        assert told.wait(60)
    assert len(tellers) == 1
    assert tellers[0] is not threading.main_thread()
    assert signal.set_wakeup_fd(-1) == -1
