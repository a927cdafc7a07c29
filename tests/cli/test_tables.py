"""Tables of records: aligned by what they hold, and never broken."""

import pytest

from jaxsal.cli.tables import print_rows


def test_rows_are_whole_on_a_narrow_terminal_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # takes the output for a terminal
    monkeypatch.setenv("COLUMNS", "20")
    rows = [
        {"n": 3, "domain": "white matter", "median": 0.123456, "p": None},
        {"n": 12, "domain": "TP", "median": 1.0, "p": 0.5},
    ]
    print_rows(["n", "domain", "median", "p"], rows)
    assert capsys.readouterr().out.splitlines() == [
        " n  domain        median    p",
        " 3  white matter  0.1235",
        "12  TP                 1  0.5",
    ]
