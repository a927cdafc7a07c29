"""Rows that are kept of a scan, and when they are made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxsal.experiments.each_scan import KeptRows, Made, entry_to_json
from jaxsal.inputs.entries import Entry, Scan

CHANNELS = ("flair",)


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    image = tmp_path / "flair.nii.gz"
    image.write_bytes(b"image")
    return Entry("one", Scan((image,)), {"subject": "01"})


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A label map that was made of the scan."""
    labels = tmp_path / "dseg.nii.gz"
    labels.write_bytes(b"first")
    return labels


@pytest.fixture
def kept(entry: Entry, labels: Path, tmp_path: Path) -> KeptRows:
    """A row of a scan that was made of another one."""
    derived = Entry("one made", Scan(entry.scan.images, instances=labels), {"subject": "01"})
    kept = KeptRows(tmp_path / "kept", CHANNELS, {"seed": 1})
    kept.keep(entry, Made([{"domain": 1, "entry": entry_to_json(derived)}]))
    return kept


def test_rows_are_kept_while_the_derived_files_have_their_content(
    kept: KeptRows, entry: Entry, labels: Path
) -> None:
    labels.write_bytes(b"first")  # at another time
    made = kept.made(entry)
    assert made is not None
    assert [row["domain"] for row in made.rows] == [1]


@pytest.mark.parametrize("content", [b"other", b"longer than that", None])
def test_rows_whose_derived_files_have_changed_are_made_again(
    content: bytes | None, kept: KeptRows, entry: Entry, labels: Path
) -> None:
    if content is None:
        labels.unlink()
    else:
        labels.write_bytes(content)
    assert kept.made(entry) is None


def test_rows_of_derived_files_of_which_nothing_is_known_are_made_again(
    kept: KeptRows, entry: Entry, tmp_path: Path
) -> None:
    (path,) = (tmp_path / "kept").iterdir()
    content = json.loads(path.read_text("utf-8"))
    del content["derived"]
    path.write_text(json.dumps(content), "utf-8")
    assert kept.made(entry) is None


def test_a_derived_file_that_was_not_there_is_no_reason_to_keep_rows(
    entry: Entry, tmp_path: Path
) -> None:
    missing = Entry("one made", Scan((tmp_path / "missing.nii.gz",)), {"subject": "01"})
    kept = KeptRows(tmp_path / "kept", CHANNELS, {})
    kept.keep(entry, Made([{"entry": entry_to_json(missing)}]))
    assert kept.made(entry) is None
