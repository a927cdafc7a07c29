"""Ratings of two readers: read, compared, and shown as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxsal.cli.main import main
from jaxsal.errors import InputError
from jaxsal.report.ratings import Rating, agreement, ratings_page, read_ratings
from jaxsal.store.output_folder import OutputFolder

HEAD = "scan\tlabel\tkind\trating\tcomment\ttime\n"
KNOWN = {("", label): "TP" for label in range(1, 9)}
EVIL = "<script>alert(1)</script>"


def table(path: Path, *grades: str, comment: str = "") -> Path:
    lines = [
        f"\t{label}\tTP\t{grade}\t{comment}\t2026-01-01T00:00:00Z\n"
        for label, grade in enumerate(grades, 1)
    ]
    path.write_text(HEAD + "".join(lines), encoding="utf-8")
    return path


def rated(*grades: str) -> dict[tuple[str, int], Rating]:
    return {("", label): Rating(grade) for label, grade in enumerate(grades, 1)}


def test_ratings_are_read_as_they_were_meant(tmp_path: Path) -> None:
    path = table(tmp_path / "a.tsv", "good", "", comment="'=1+1")
    found = read_ratings(path, KNOWN)
    assert found["", 1] == Rating("good", "TP", "=1+1", "2026-01-01T00:00:00Z")
    assert found["", 2].grade == ""


def test_a_row_ends_where_its_line_does_and_not_at_what_unicode_calls_a_line(
    tmp_path: Path,
) -> None:
    path = table(tmp_path / "a.tsv", "good", "wrong", comment="left\u2028or\x85right")
    assert read_ratings(path, KNOWN)["", 1].comment == "left\u2028or\x85right"
    assert len(read_ratings(path, KNOWN)) == 2


def test_kappa_is_that_of_its_definition() -> None:
    both = agreement(
        rated("good", "good", "wrong", "doubtful", "wrong", "good"),
        rated("good", "wrong", "wrong", "good", "wrong"),
    )
    # 3 of 5 alike; by chance (2·2 + 1·0 + 2·3) / 25
    assert (both.lesions, both.equal) == (5, 3)
    assert both.kappa == pytest.approx((3 / 5 - 10 / 25) / (1 - 10 / 25))
    assert both.counts == ((1, 0, 1), (1, 0, 0), (0, 0, 2))


def test_kappa_is_not_defined_for_one_grade_alone() -> None:
    assert agreement(rated("good", "good"), rated("good", "good")).kappa is None
    assert agreement(rated("good"), rated()).lesions == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("label\tcomment\n1\tx\n", "lacks the column rating"),
        ("", "lacks the column label"),
        (
            f"{HEAD}\t1\tTP\tperfect\t\t\n",
            "line 2: a rating must be good, doubtful, wrong or empty",
        ),
        (f"{HEAD}\t9\tTP\tgood\t\t\n", "line 2: these results have no lesion '9'"),
        (f"{HEAD}\n\n\t9\tTP\tgood\t\t\n", "line 4: these results have no lesion '9'"),
        (f"{HEAD}\t1\tFN\tgood\t\t\n", "line 2: lesion 1 is rated as 'FN', but is 'TP' here"),
        (f"{HEAD}x\t1\tTP\tgood\t\t\n", "no lesion '1' of the scan x"),
        (b"\xff\xfe\x00", "cannot be read as a table of ratings"),
    ],
)
def test_what_is_no_table_of_ratings_is_refused(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=said):
        read_ratings(path, KNOWN)


def test_the_page_shows_both_readers_and_keeps_text_as_text() -> None:
    comments = {("", 1): Rating("good", EVIL, EVIL, EVIL)}
    html, said = ratings_page(EVIL, [("ann", comments), (EVIL, rated("wrong", "good"))])
    assert "ann: 1 rated (1 good, 0 doubtful, 0 wrong)" in said
    assert "rated by both: 1, 0 of them alike; Cohen’s κ 0.00" in said
    assert EVIL not in html
    assert html.count("&lt;script&gt;") >= 6


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of `jaxsal explain`."""
    with OutputFolder(tmp_path / "out") as results:
        results.path("instances.tsv").write_text("label\tkind\n1\tTP\n2\tTP\n")
        results.commit({"jaxsal": "0", "command": "explain"})
    return tmp_path / "out"


def test_ratings_of_a_scan_get_a_page_of_their_own(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(table(tmp_path / f"{name}.tsv", "good", "wrong")) for name in ("ann", "bob")]
    assert main(["report", str(out), "--ratings", *files]) == 0
    assert "rated by both: 2, 2 of them alike; Cohen’s κ 1.00" in capsys.readouterr().out
    assert "ann" in (out / "ratings.html").read_text(encoding="utf-8")
    assert main(["report", str(out), "--ratings", *files, files[0]]) == 2
    assert "one or two readers, got 3" in capsys.readouterr().err
    (out / "instances.tsv").write_text("kind\nTP\n")
    assert main(["report", str(out), "--ratings", *files]) == 2
    assert "instances.tsv cannot be read as a table of lesions" in capsys.readouterr().err


def test_the_page_goes_with_the_results_and_the_tables_stay(out: Path) -> None:
    path = table(out / "ann.tsv", "good")
    assert main(["report", str(out), "--ratings", str(path)]) == 0
    with OutputFolder(out, overwrite=True) as results:
        results.path("instances.tsv").write_text("label\tkind\n1\tFP\n")
        results.commit({"jaxsal": "0", "command": "explain"})
    assert not (out / "ratings.html").exists()
    assert read_ratings(path, KNOWN)["", 1].grade == "good"


def test_a_table_is_not_replaced_by_the_page_of_its_ratings(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(out / "ratings.html", "good")
    before = path.read_bytes()
    assert main(["report", str(out), "--ratings", str(path)]) == 2
    assert "would be replaced by the page of its ratings: rename the table" in (
        capsys.readouterr().err
    )
    assert path.read_bytes() == before


def test_readers_whose_tables_have_one_name_are_called_by_their_folders(
    out: Path, tmp_path: Path
) -> None:
    files = []
    for reader in ("ann", "bob"):
        (tmp_path / reader).mkdir()
        files.append(str(table(tmp_path / reader / "ratings.tsv", "good", "wrong")))
    assert main(["report", str(out), "--ratings", *files]) == 0
    html = (out / "ratings.html").read_text(encoding="utf-8")
    assert "ann/ratings: 2 rated" in html
    assert str(tmp_path) not in html
    assert main(["report", str(out), "--ratings", files[0], files[0]]) == 0
    assert "reader 2: 2 rated" in (out / "ratings.html").read_text(encoding="utf-8")
