"""The progress bar: lesions, voxels and the time left on a terminal, a few lines in a log file."""

from __future__ import annotations

import logging
import re
import threading

import pytest

from jaxsal.cli.progress import ProgressBar
from jaxsal.progress import Progress


def show(monkeypatch: pytest.MonkeyPatch, terminal: bool, columns: int = 200) -> None:
    # What rich takes for a terminal.
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": str(columns)}.items():
        monkeypatch.setenv(name, value) if terminal else monkeypatch.delenv(name, raising=False)
    with ProgressBar() as bar:
        bar.stage("explaining")
        for done in (400, 800, 1200):
            bar.update(Progress(lesions_done=3, lesions=7, gradients_done=done, gradients=4800))


def test_a_terminal_shows_lesions_gradients_their_pace_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show(monkeypatch, terminal=True)
    captured = capsys.readouterr()
    for part in ("explaining", "3/7 lesions", "1,200/4,800 gradients", "/s", "left"):
        assert part in captured.err
    assert captured.out == ""


def test_a_log_file_gets_the_pace_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show(monkeypatch, terminal=False)
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"3/7 lesions, 1,200/4,800 gradients, [\d,.]+/s, about [\d.]+ s left$", line)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_line_fits_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show(monkeypatch, terminal=True, columns=columns)
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err).split("\r")[-1]
    assert "3/7 lesions, 1,200/4,800 gradients" in last
    assert ("━" in last) == (columns == 120)


def test_no_time_is_said_to_be_left_while_the_work_is_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    with ProgressBar() as bar:
        bar.stage("finding lesions")
    said = capsys.readouterr().err
    assert "finding lesions" in said
    assert "left" not in said


def test_a_log_file_gets_a_line_per_stage_and_per_tenth(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with ProgressBar() as bar:
        bar.stage("finding lesions")
        bar.stage("explaining")
        for done in (0, 50, 99, 100, 101, 350, 399, 400, 1000, 1000):
            bar.update(Progress(7 * done // 1000, 7, gradients_done=done, gradients=1000))
    captured = capsys.readouterr()
    lines = [line.split("] ")[1].split(",")[0] for line in captured.err.splitlines()]
    shares = [f"explaining: {share} %" for share in (10, 35, 40, 100)]
    assert lines == ["finding lesions", "explaining", *shares]
    assert captured.out == ""


def test_a_log_file_gets_what_changes_all_the_time_after_a_minute_without_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with ProgressBar() as bar:
        bar.stage("faithfulness")
        for now in (1.0, 59.0, 61.0, 100.0, 120.0, 122.0):
            bar.detail(f"scan after {now:.0f} s")
    assert capsys.readouterr().err.splitlines() == [
        "[0:00:00] faithfulness",
        "[0:01:01] faithfulness: scan after 61 s",
        "[0:02:02] faithfulness: scan after 122 s",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_all_gradients_are_not_shown_beside_lesions_that_are_left(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value) if terminal else monkeypatch.delenv(name, raising=False)
    with ProgressBar() as bar:
        bar.stage("explaining")
        bar.update(Progress(10, 12, gradients_done=900, gradients=1000))
        bar.update(Progress(11, 12, gradients_done=1000, gradients=1000))
        bar._shown._progress.refresh() if terminal else None
        meanwhile = capsys.readouterr().err
        bar.update(Progress(12, 12, gradients_done=1000, gradients=1000))
    assert ("explaining: finishing" in meanwhile) == terminal
    assert "1,000/1,000" not in meanwhile
    assert "12/12 lesions, 1,000/1,000 gradients" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_a_note_is_shown_with_its_stage_until_there_is_progress(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value) if terminal else monkeypatch.delenv(name, raising=False)
    logger = logging.getLogger("jaxsal")
    before = logger.level, logger.propagate, list(logger.handlers)
    with ProgressBar() as bar:
        bar.stage("explaining")
        logger.info("compiling")
        logger.info("compiling")
        bar._shown._progress.refresh() if terminal else None
        told = capsys.readouterr().err
        bar.update(Progress(0, 7, gradients_done=1000, gradients=1000))
    logger.info("later")
    after = capsys.readouterr().err
    assert "explaining: compiling" in told
    assert terminal or told.count("compiling") == 1
    assert "compiling" not in after.rpartition("explaining")[2]
    assert "later" not in after
    assert (logger.level, logger.propagate, logger.handlers) == before


def test_a_note_that_comes_while_the_stage_changes_waits_for_the_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)
    noted: list[None] = []
    with ProgressBar() as bar:
        progress = bar._shown._progress
        noting = threading.Thread(target=lambda: noted.append(bar._shown.note("compiling")))
        add = progress.add_task

        def add_while_noting(*arguments: object, **options: object) -> int:
            noting.start()
            noting.join(0.1)
            return add(*arguments, **options)

        monkeypatch.setattr(progress, "add_task", add_while_noting)
        bar.stage("explaining")
        noting.join()
        assert progress.tasks[0].description == "explaining: compiling"
    assert noted == [None]
