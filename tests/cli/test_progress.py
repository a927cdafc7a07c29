"""The progress bar: lesions, voxels and the time left on a terminal, nothing in a log file."""

from __future__ import annotations

import pytest

from jaxsal.cli.progress import ProgressBar
from jaxsal.saliency.smoothgrad import Progress


def show(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    # What rich takes for a terminal; the width keeps the line whole.
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value) if terminal else monkeypatch.delenv(name, raising=False)
    with ProgressBar() as bar:
        bar.stage("explaining")
        bar.update(Progress(lesions_done=3, lesions=7, gradients_done=1200, gradients=4800))


def test_a_terminal_shows_lesions_voxels_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show(monkeypatch, terminal=True)
    captured = capsys.readouterr()
    for part in ("explaining", "3/7 lesions", "1,200/4,800 voxel gradients", "left"):
        assert part in captured.err
    assert captured.out == ""


def test_a_log_file_is_spared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show(monkeypatch, terminal=False)
    assert capsys.readouterr() == ("", "")
