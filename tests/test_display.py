"""Python calls show how far they are where somebody looks, and nowhere else."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jaxsal.display import VARIABLE, Display, Follower, counts_of
from jaxsal.progress import Progress

HALF = Progress(lesions_done=1, lesions=2, gradients_done=50, gradients=100)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal, which `follow` makes standard error."""
    for name, value in {"TERM": "xterm", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(VARIABLE, raising=False)
    return Terminal()


@contextmanager
def looked_at(screen: io.StringIO) -> Iterator[None]:
    """Standard error is this; pytest sets it anew for each phase of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", screen)
        yield


def follow(on_progress: Any = "auto", delay: float = 0.0) -> None:
    with Follower(on_progress, "saliency maps", delay) as follower:
        follower(HALF)


def test_a_terminal_shows_what_is_done_and_how_much(screen: Terminal) -> None:
    with looked_at(screen):
        follow()
    assert "saliency maps" in screen.getvalue()
    assert "50/100 gradients" in screen.getvalue()


def test_after_the_last_gradient_it_is_finishing(screen: Terminal) -> None:
    with looked_at(screen), Follower("auto", "saliency maps", 0.0) as follower:
        follower(Progress(lesions_done=1, lesions=2, gradients_done=100, gradients=100))
    assert "saliency maps: finishing" in screen.getvalue()
    assert "1/2 lesions" not in screen.getvalue()


def test_a_callable_takes_the_bars_place(screen: Terminal) -> None:
    seen: list[Progress] = []
    with looked_at(screen):
        follow(seen.append)
    assert seen == [HALF]
    assert screen.getvalue() == ""


def test_none_turns_it_off(screen: Terminal) -> None:
    with looked_at(screen):
        follow(None)
    assert screen.getvalue() == ""


def test_the_environment_turns_it_off(screen: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    with looked_at(screen):
        follow()
    assert screen.getvalue() == ""


@pytest.mark.usefixtures("screen")
def test_a_pipe_sees_nothing() -> None:
    piped = io.StringIO()
    with looked_at(piped):
        follow()
    assert piped.getvalue() == ""


def test_a_bar_inside_another_is_not_shown(screen: Terminal) -> None:
    with looked_at(screen):
        with Display("cohort", delay=100.0):
            follow()
        inside = screen.getvalue()
        follow()
    assert "saliency maps" not in inside
    assert "saliency maps" in screen.getvalue()


def test_what_is_soon_done_shows_nothing(screen: Terminal) -> None:
    with looked_at(screen):
        follow(delay=100.0)
    assert "saliency maps" not in screen.getvalue()


def test_of_lesions_it_is_said_how_many_of_all_are_done_from_the_first() -> None:
    assert counts_of(Progress(0, 2, 50, 100)).startswith("0/2 lesions, ")
