"""Tables: what is written, and that no spreadsheet computes what stands in one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from jaxsal.tables import as_meant, write_table


def _read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file, delimiter="\t"))


def test_rows_have_the_columns_in_order_and_nothing_else(tmp_path):
    write_table(tmp_path / "t.tsv", ["a", "b", "c"], [{"b": 1.23456789, "a": 2, "d": 3}])
    assert (tmp_path / "t.tsv").read_text() == "a\tb\tc\n2\t1.23457\t\n"


def test_a_table_without_rows_has_its_header(tmp_path):
    write_table(tmp_path / "t.tsv", ["a", "b"], [])
    assert (tmp_path / "t.tsv").read_text() == "a\tb\n"


@pytest.mark.parametrize(
    "text", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", "=HYPERLINK(0)", "--", "-1e5x"]
)
def test_what_a_spreadsheet_would_compute_stays_text(tmp_path, text):
    write_table(tmp_path / "t.tsv", [text], [{text: text}])
    assert _read(tmp_path / "t.tsv") == [[f"'{text}"], [f"'{text}"]]


@pytest.mark.parametrize("text", ["=1+1", "'=x", "it's", "'", "", "-"])
def test_a_cell_is_read_as_it_was_meant(tmp_path, text):
    write_table(tmp_path / "t.tsv", ["x", "y"], [{"x": text, "y": 1}])
    meant = "=x" if text == "'=x" else text  # it looks as if it had been written so
    assert as_meant(_read(tmp_path / "t.tsv")[1][0]) == meant


@pytest.mark.parametrize("value", ["-", "a=b", "-1.5", "+3", "-1e-05", "-.5", "n/a", "", "1-2"])
def test_numbers_and_other_text_stay_as_they_are(tmp_path, value: Any):
    write_table(tmp_path / "t.tsv", ["x", "y"], [{"x": value, "y": 1}])
    assert _read(tmp_path / "t.tsv")[1] == [value, "1"]
