"""The page: every row, escaped, offline, and readable without a single lesion."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxsal.report.page import write_page
from jaxsal.tables import Column

COLUMNS = [
    Column("label", "Label", "number in instances.nii.gz"),
    Column("kind", "Kind", "TP or FP"),
    Column("volume_mm3", "Volume", "mm³", digits=1),
    Column("FLAIR_max", "max", "largest value, logit per standard deviation", group="FLAIR"),
]
ROWS: list[dict[str, Any]] = [
    {
        "label": label,
        "kind": kind,
        "volume_mm3": volume,
        "FLAIR_max": peak,
        "picture": f"pictures/lesion-{label:04d}.png",
    }
    for label, kind, volume, peak in [
        (1, "TP", 92.25, 1.99731),
        (2, "FP", 6.0, -0.012345),
        (7, "TP", 1041.5, None),
    ]
]
FACTS = {"Settings": {"samples": 50, "images": ["a.nii.gz", "b.nii.gz"], "reference": None}}


class Reader(HTMLParser):
    """Collects the elements, the table's cells and all text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag != "td"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.rows[-1][-1] += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def values(reader: Reader, tag: str, attribute: str) -> list[str | None]:
    return [attributes.get(attribute) for name, attributes in reader.elements if name == tag]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.html"


def test_table_holds_every_row_with_sensible_digits(path: Path) -> None:
    write_page(path, "A patient", ROWS, COLUMNS, FACTS)
    assert [row for row in read(path).rows if row] == [
        ["1", "TP", "92.2", "2.00"],
        ["2", "FP", "6.0", "−0.0123"],
        ["7", "TP", "1041.5", "–"],
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.5), "0.500"),
        (np.int32(12), "12"),
        (float("nan"), "–"),
        (np.float32("nan"), "–"),
        (-1234.5, "−1234"),
        (2.5e-9, "2.50e−09"),
        (0.0, "0"),
        (2.0, "2.00"),
        (9.996, "10.0"),
        (-40.0, "−40.0"),
    ],
)
def test_numbers_are_written_for_reading(path: Path, value: float, text: str) -> None:
    write_page(path, "A patient", [{"label": value}], [Column("label", "Label", "")], {})
    assert read(path).rows[-1] == [text]


def test_rows_are_sorted_by_full_numbers(path: Path) -> None:
    write_page(path, "A patient", ROWS, COLUMNS, FACTS)
    orders = values(read(path), "td", "data-order")
    assert orders[3::4] == ["1.99731", "-0.012345", ""]


def test_a_column_that_a_row_lacks_is_a_dash(path: Path) -> None:
    lsu = Column("lsu", "lsu", "lesion structural uncertainty")  # of lesions, not at class level
    write_page(path, "t", [{"label": 0, "voxels": 3}], [COLUMNS[0], lsu], {}, level="class")
    assert "–" in path.read_text(encoding="utf-8")


def test_each_row_leads_to_its_lazily_loaded_picture(path: Path) -> None:
    write_page(path, "A patient", ROWS, COLUMNS, FACTS)
    reader = read(path)
    assert values(reader, "img", "src") == [row["picture"] for row in ROWS]
    assert set(values(reader, "img", "loading")) == {"lazy"}
    anchors = {link for link in values(reader, "a", "href") if link and link.startswith("#lesion-")}
    assert {f"#{name}" for name in values(reader, "figure", "id")} == anchors
    assert len(anchors) == 3


def test_row_without_picture_has_no_link(path: Path) -> None:
    write_page(path, "A patient", [ROWS[0] | {"picture": None}], COLUMNS, FACTS)
    reader = read(path)
    assert not values(reader, "img", "src")
    assert not [link for link in values(reader, "a", "href") if link and "lesion" in link]


def test_headings_explain_themselves_and_groups_span_their_columns(path: Path) -> None:
    more = [*COLUMNS, Column("FLAIR_max", "again", "", group="FLAIR")]
    write_page(path, "A patient", ROWS, more, FACTS)
    reader = read(path)
    assert COLUMNS[3].description in values(reader, "th", "title")
    assert [span for span in values(reader, "th", "colspan") if span] == ["3", "2"]


def test_facts_are_listed(path: Path) -> None:
    write_page(path, "A patient", ROWS, COLUMNS, FACTS)
    reader = read(path)
    assert "Settings" in reader.text
    assert re.search(r"samples\s*50", reader.text)
    assert "a.nii.gz, b.nii.gz" in reader.text
    assert re.search(r"reference\s*–", reader.text)


@pytest.mark.parametrize(("scale", "has"), [("diverging", True), ("sequential", False)])
def test_colours_are_explained_as_the_scale_demands(path: Path, scale: Any, has: bool) -> None:
    write_page(path, "A patient", ROWS, COLUMNS, FACTS, scale=scale)
    text = " ".join(read(path).text.split())
    assert (
        "raising this voxel’s intensity in this channel raises the lesion’s logit" in text
    ) == has


def test_the_class_level_speaks_of_all_segmented_voxels(path: Path) -> None:
    write_page(path, "A patient", [ROWS[0] | {"label": 0}], COLUMNS, FACTS, level="class")
    reader = read(path)
    text = " ".join(reader.text.split())
    assert reader.rows[-1][0] == "all"
    assert "raises the sum of the segmented voxels’ logits" in text
    assert "the lesion’s logit" not in text
    assert "Lesion 0" not in text


def test_no_lesion_is_said_plainly(path: Path) -> None:
    write_page(path, "A patient", [], COLUMNS, FACTS)
    reader = read(path)
    assert "No lesion was found." in reader.text
    assert "samples" in reader.text
    assert not values(reader, "table", "class")


def test_lesions_that_were_found_but_not_chosen_are_counted(path: Path) -> None:
    write_page(path, "A patient", [], COLUMNS, FACTS, found=11)
    text = " ".join(read(path).text.split())
    assert "No lesion was chosen of 11 in this image" in text
    assert "No lesion was found" not in text


def test_words_are_explained_as_far_as_the_page_uses_them(path: Path) -> None:
    share = Column("FLAIR_positive_share", "positive share", "", group="FLAIR")
    rows = [{**row, share.key: 0.5} for row in ROWS]
    write_page(path, "A patient", rows, [*COLUMNS, share], FACTS)
    html = " ".join(path.read_text(encoding="utf-8").split())
    assert "<dt>TP</dt><dd>true positive: the network found this lesion" in html
    assert "<dt>FP</dt>" in html
    assert "<dt>FN</dt>" not in html
    assert "<dt>positive share</dt><dd>the part of the map’s total strength" in html
    assert "<dt>logit</dt><dd>the network’s score for a lesion at a voxel" in html


def test_given_names_are_escaped_everywhere(path: Path) -> None:
    evil = "\"'><script>alert(1)</script>"
    columns = [Column("label", evil, evil, group=evil)]
    rows: list[dict[str, Any]] = [
        {"label": 1, "picture": f"pictures/{evil}.png"},
        {"label": evil, "picture": None},
    ]
    write_page(path, evil, rows, columns, {evil: {evil: evil, "list": [evil]}})
    reader = read(path)
    assert values(reader, "script", "src") == [None]  # the table's own, and no other
    assert reader.text.count(evil) >= 7
    assert not [1 for _, attributes in reader.elements if "'" in "".join(attributes)]


@pytest.mark.parametrize("rows", [ROWS, []])
def test_nothing_is_fetched_from_elsewhere(path: Path, rows: list[dict[str, Any]]) -> None:
    write_page(path, "A patient", rows, COLUMNS, FACTS)
    html = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<link|<iframe", html)


def test_page_replaces_an_older_one_and_leaves_nothing_else(path: Path) -> None:
    path.write_text("old")
    write_page(path, "A patient", ROWS, COLUMNS, FACTS)
    assert "A patient" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]
