"""Tables of scans: what is read, and that all mistakes are told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxsal.errors import InputError
from jaxsal.inputs.manifest import read_manifest

CHANNELS = ("FLAIR", "t1")


def write(path: Path, *rows: str, encoding: str = "utf-8", end: str = "\n") -> Path:
    """A table of rows whose cells are parted by | here."""
    delimiter = "\t" if path.suffix == ".tsv" else ","
    text = "".join(row.replace("|", delimiter) + end for row in rows)
    path.write_bytes(text.encode(encoding))
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_manifest(path, CHANNELS)
    first, *lines = str(caught.value).split("\n  ")
    assert first.startswith(str(path))
    return lines


@pytest.mark.parametrize("name", ["scans.tsv", "scans.csv", "SCANS.CSV"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_reads_tables_as_spreadsheets_write_them(tmp_path, name, encoding, end):
    path = write(
        tmp_path / name,
        "Flair|age|scan|T1|Reference|instances|session|Mask",
        "a/f.nii|61|Müller 1|/data/t 1.nii.gz|n/a|||b.nii",
        "",
        "ü f.nii.gz|n/a|sub-7_run-2|t.nii|m.nii|N/A|ses-02",
        "f.nii||9|t.nii||l.nii|3",
        encoding=encoding,
        end=end,
    )
    first, second, third = read_manifest(path, CHANNELS)
    assert first.id == "Müller 1"
    assert first.scan.images == (tmp_path / "a/f.nii", Path("/data/t 1.nii.gz"))
    assert (first.scan.reference, first.scan.instances) == (None, None)
    assert (first.scan.mask, second.scan.mask) == (tmp_path / "b.nii", None)
    assert dict(first.entities) == {"subject": "Muller1"}
    assert second.scan.images[0] == tmp_path / "ü f.nii.gz"
    assert second.scan.reference == tmp_path / "m.nii"
    assert second.stem == "sub-7_ses-02_run-2"
    assert third.scan.instances == tmp_path / "l.nii"
    assert third.stem == "sub-9_ses-3"


def test_reads_semicolons_of_european_spreadsheets(tmp_path):
    path = tmp_path / "scans.csv"
    path.write_text('scan;flair;t1\n1;"a;1.nii";b,2.nii\n')
    (entry,) = read_manifest(path, CHANNELS)
    assert [image.name for image in entry.scan.images] == ["a;1.nii", "b,2.nii"]


def test_paths_may_be_relative_to_the_home_folder_or_the_table(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lists").mkdir()
    write(tmp_path / "lists" / "s.tsv", "scan|flair|t1", "1|~/f.nii|../t.nii")
    (entry,) = read_manifest(Path("lists/s.tsv"), CHANNELS)
    assert entry.scan.images == (tmp_path / "home/f.nii", tmp_path / "lists/../t.nii")


@pytest.mark.parametrize(
    ("scan", "given", "stem"),
    [
        ("sub-07_ses-a_run-1", {}, "sub-07_ses-a_run-1"),
        ("sub-07_run-1_ses-a", {}, "sub-07_ses-a_run-1"),
        ("sub-07_ses-a", {"subject": "8"}, "sub-8_ses-a"),
        ("sub-07_task-rest", {}, "sub-sub07taskrest"),
        ("sub-07_sub-08", {}, "sub-sub07sub08"),
        ("patient 7/é", {}, "sub-patient7e"),
        ("患者", {"subject": "sub-1", "acquisition": "3D"}, "sub-1_acq-3D"),
        ("p7", {"run": "2", "space": "MNI", "reconstruction": "r"}, "sub-p7_rec-r_run-2_space-MNI"),
    ],
)
def test_labels_come_of_columns_and_else_of_the_id(tmp_path, scan, given, stem):
    head, row = "|".join(["scan|flair|t1", *given]), "|".join([scan, "f", "t", *given.values()])
    (entry,) = read_manifest(write(tmp_path / "s.tsv", head, row), CHANNELS)
    assert (entry.id, entry.stem) == (scan, stem)


def test_all_mistakes_are_told_at_once_with_their_lines(tmp_path):
    path = write(
        tmp_path / "s.tsv",
        "scan|flair|t1|reference|instances|subject",
        "a|f|t|||",
        "|f|t|||",
        "b||n/a|||",
        "a|f|t|||2",
        "A|f|t|||",
        "c|f|t|m|l|",
        "d|f|t|||d 1",
        "",
        "患|f|t|||",
        "e|~nobody-of-that-name/f|t|||",
    )
    found = problems(path)
    expected = [
        ("line 3: ", "no id"),
        ("line 4: ", "no image for the channel FLAIR; there is no image for the channel t1"),
        ("line 5: ", "the id 'a' is that of line 2"),
        ("line 6: ", "'A' and 'a' (line 2) would both be called sub-A", "column 'subject'"),
        ("line 7: ", "reference mask or a label map"),
        ("line 8: ", "the subject must be made of the letters", "'d 1'"),
        ("line 10: ", "'患'", '"subject"'),
        ("line 11: ", "home folder", "~nobody-of-that-name/f"),
    ]
    assert len(found) == len(expected)
    for line, (number, *parts) in zip(found, expected, strict=True):
        assert line.startswith(number)
        for part in parts:
            assert part in line


def test_scans_of_one_subject_are_told_apart_by_session_or_run(tmp_path):
    (found,) = problems(
        write(tmp_path / "s.tsv", "scan|flair|t1|subject", "a|f|t|one", "b|f|t|one")
    )
    assert "would both be called sub-one: give a column 'session' or 'run' in which" in found


def test_a_missing_column_is_told_with_what_names_it(tmp_path):
    path = write(tmp_path / "s.tsv", "scan|flair", "a|f")
    with pytest.raises(InputError, match=r"'t1', for this channel, as named by \[data\] channels;"):
        read_manifest(path, CHANNELS, "[data] channels")


def test_many_mistakes_are_counted(tmp_path):
    path = write(tmp_path / "s.tsv", "scan|flair|t1", *[f"{i}|f|" for i in range(60)])
    found = problems(path)
    assert len(found) == 51
    assert found[-1] == "... and 10 more"


def test_columns_must_be_there_once(tmp_path):
    found = problems(write(tmp_path / "s.tsv", "id|flair|FLAIR|t2", "1|f|f|t"))
    assert [line.split(",")[0] for line in found] == [
        "line 1: there is no column 'scan'",
        "line 1: there is no column 't1'",
        "line 1: the column 'flair' is there 2 times",
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("s.xlsx", b"PK", "manifest is a table"),
        ("s.tsv", b"", "is empty"),
        ("s.tsv", b"scan\tflair\tt1\n\n", "lists no scan"),
        ("s.tsv", "scan\tflair\tt1\n".encode("utf-16"), "not UTF-8"),
        ("s.csv", b'scan,flair,t1\n1,"f,t\n', "line 2: "),
        ("s.csv", b"scan,flair,t1\n1,f,t,4\n", "line 2: 4 cells"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read_manifest(path, CHANNELS)
    assert str(path) in str(caught.value)


def test_a_misspelt_column_is_not_left_out_silently(tmp_path):
    path = write(tmp_path / "s.tsv", "scan|flair|t1|refrence|sex|age", "1|f|t|m|f|30")
    with pytest.warns(UserWarning, match="'refrence' is not read; did you mean 'reference'"):
        read_manifest(path, CHANNELS)
