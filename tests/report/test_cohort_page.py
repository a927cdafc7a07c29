"""The cohort's page, as a reader of it uses it: a browser is driven over 10,000 lesions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import Visit, installed_browser
from helpers.cohort_tables import COHORT_FACTS, cohort_columns, cohort_rows, cohort_scans, picture

from jaxsal.report.cohort_page import write_cohort_page
from jaxsal.tables import Column
from jaxsal.types import Scale
from jaxsal.wording import number

COLUMNS = cohort_columns()
SCANS = 4
ROWS = cohort_rows(SCANS, 50)
ROWS[3]["picture"] = None
ROWS[4]["picture"] = "nowhere/to be found.png"
ROWS[5]["flair_max"] = None
ROWS[6]["flair_max"] = float("nan")
PICTURED = 2, 49, 50

EVIL = "</script><script>alert(1)</script><!-- & <img src=x onerror=alert(2)> \"'  é漢"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with installed_browser() as browser:
        yield browser


def write_report(folder: Path, rows: list[dict[str, Any]], scans: int) -> Path:
    """The page of a cohort, and the pictures of a few lesions beside it."""
    for row in PICTURED:
        picture(folder / rows[row]["picture"], "#204060")
    path = folder / "report.html"
    ranges = ["volume_mm3", "flair_max"]
    violins = dict.fromkeys(["flair_max", "flair_min", "t1_max"], "logit per standard deviation")
    given = cohort_scans(scans, 50), COHORT_FACTS
    write_cohort_page(path, "A cohort", COLUMNS, rows, *given, ranges=ranges, violins=violins)
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a few scans; not to be changed."""
    return write_report(tmp_path_factory.mktemp("a cohort"), ROWS, SCANS)


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Visit]:
    visit = opened(browser, report)
    yield visit
    close(visit)


def close(visit: Visit) -> None:
    assert not [url for url in visit.requests if not url.startswith(("file:", "blob:"))]
    assert [text for text in visit.complaints if "ERR_FILE_NOT_FOUND" not in text] == []
    visit.page.close()


def opened(browser: Any, path: Path, width: int = 1280) -> Visit:
    visit = Visit(browser, path, width)
    visit.page.wait_for_selector("#lesions tbody tr[tabindex='0']")
    return visit


def shown(visit: Visit, key: str) -> list[str]:
    """The texts of a column on the table's current page."""
    keys = visit.page.locator("#filters [name=shown]:checked")
    visible = keys.evaluate_all("boxes => boxes.map((box) => box.value)")
    cells = visit.page.locator(f"#lesions tbody td:nth-child({visible.index(key) + 1})")
    texts: list[str] = cells.all_inner_texts()
    return texts


def sort(visit: Visit, heading: str) -> None:
    visit.page.locator("#lesions thead button", has_text=re.compile(f"^{heading}$")).first.click()


def count(visit: Visit, total: int) -> None:
    """Waits until this many rows pass the filters; fails if that never happens."""
    text = "All 200 lesions" if total == len(ROWS) else f"{total} of 200 lesions"
    says(visit, text)


def says(visit: Visit, text: str) -> None:
    visit.page.wait_for_function(
        "text => document.getElementById('count').value === text", arg=text
    )


def passing(rule: Callable[[dict[str, Any]], bool]) -> int:
    return sum(1 for row in ROWS if rule(row))


@pytest.mark.thorough  # quick: each of these, below, over 200 lesions
def test_ten_thousand_lesions_are_sorted_filtered_and_looked_at(
    browser: Any, tmp_path: Path
) -> None:
    rows = cohort_rows(200, 50)
    visit = opened(browser, write_report(tmp_path, rows, 200))
    says(visit, "All 10,000 lesions")
    sort(visit, "voxels")
    sort(visit, "voxels")
    assert shown(visit, "voxels")[0] == str(max(row["voxels"] for row in rows))
    visit.page.fill("[name=text]", rows[50]["scan"])
    says(visit, "50 of 10,000 lesions")
    sort(visit, "label")
    visit.page.locator("#lesions tbody tr").first.click()
    loaded(visit, rows[50])
    visit.page.click("[type=reset]")
    says(visit, "All 10,000 lesions")
    assert len(visit.requests) == 3  # the page, the library from its own memory, the picture
    close(visit)


@pytest.mark.thorough
def test_only_a_page_of_ten_thousand_rows_is_in_the_document(browser: Any, tmp_path: Path) -> None:
    visit = opened(browser, write_report(tmp_path, cohort_rows(200, 50), 200))
    visit.page.click("#filters summary")
    for group in ("flair", "t1"):
        visit.page.check(f"[data-group={group}]")
    visit.page.click(".dt-paging-button.last")
    assert visit.page.locator("#lesions tbody tr").count() == 50
    assert visit.page.locator("*").count() < 7000
    close(visit)


@pytest.mark.thorough
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_itself_never_scrolls_sideways(browser: Any, report: Path, width: int) -> None:
    visit = opened(browser, report, width)
    visit.page.locator("#lesions tbody tr").nth(2).click()
    visit.page.click("#filters summary")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    close(visit)


def test_numbers_are_sorted_as_numbers_and_missing_ones_are_last(visit: Visit) -> None:
    peaks = sorted(row["flair_max"] for row in ROWS if row["flair_max"] and row["flair_max"] > 0)
    sort(visit, "max")
    assert shown(visit, "flair_max") == [number(peak) for peak in peaks[:50]]
    sort(visit, "max")
    assert shown(visit, "flair_max") == [number(peak) for peak in peaks[:-51:-1]]
    visit.page.click(".dt-paging-button.last")
    assert shown(visit, "flair_max")[-3:] == [number(peaks[0]), "–", "–"]


def test_equal_rows_keep_their_order(visit: Visit) -> None:
    sort(visit, "voxels")
    sort(visit, "kind")
    assert visit.page.locator("th[aria-sort]").all_inner_texts() == ["kind"]
    first = sorted((row["kind"], row["voxels"]) for row in ROWS)[:50]
    pairs = zip(shown(visit, "kind"), map(int, shown(visit, "voxels")), strict=True)
    assert list(pairs) == first


def test_headings_answer_to_the_keyboard(visit: Visit) -> None:
    visit.page.locator("#lesions thead button", has_text="label").focus()
    visit.page.keyboard.press("Enter")
    assert shown(visit, "label") == [str(label // SCANS + 1) for label in range(50)]
    assert visit.page.locator("th[aria-sort=ascending]").inner_text().startswith("label")


def test_text_is_searched(visit: Visit) -> None:
    visit.page.fill("[name=text]", "ub-001_ses-02")
    count(visit, 50)
    visit.page.fill("[name=text]", "no such thing")
    count(visit, 0)
    assert "No lesion passes" in visit.page.inner_text("#lesions tbody")
    visit.page.click("#lesions tbody td")  # is no row, and does nothing
    visit.page.click("[type=reset]")
    count(visit, 200)


def test_kinds_scans_and_ranges_filter_together(visit: Visit) -> None:
    visit.page.uncheck("[name=kind][value=TP]")
    count(visit, passing(lambda row: row["kind"] != "TP"))
    low, high = "[data-range=flair_max] input >> nth=0", "[data-range=flair_max] input >> nth=1"
    visit.page.fill(low, "1.5")
    peak = [row["flair_max"] or float("nan") for row in ROWS]
    among = [(row, top) for row, top in zip(ROWS, peak, strict=True) if row["kind"] != "TP"]
    count(visit, sum(top >= 1.5 for _, top in among))
    visit.page.fill(high, "1.9")
    count(visit, sum(1.5 <= top <= 1.9 for _, top in among))
    visit.page.select_option("[name=scan]", "sub-001_ses-01")
    here = [1.5 <= top <= 1.9 for row, top in among if row["scan"] == "sub-001_ses-01"]
    count(visit, sum(here))
    assert set(shown(visit, "kind")) <= {"FN", "FP", "TN"}


def test_a_scan_in_the_list_leads_to_its_lesions(visit: Visit) -> None:
    visit.page.click("[data-scan=sub-001_ses-02]")
    count(visit, 50)
    assert set(shown(visit, "scan")) == {"sub-001_ses-02"}


def test_columns_are_shown_and_hidden_by_group_and_singly(visit: Visit) -> None:
    headings = visit.page.locator("#lesions thead tr:last-child th")
    first = headings.count()
    assert first == 12 + 4 + 4
    visit.page.click("#filters summary")
    visit.page.check("[data-group=flair]")
    assert headings.count() == first + 14
    visit.page.check("[data-group=t1]")
    visit.page.uncheck("[data-group=t1]")
    assert headings.count() == first + 14 - 4
    visit.page.uncheck("[name=shown][value=flair_min]")
    assert headings.count() == first + 14 - 5
    assert visit.page.evaluate("document.querySelector('[data-group=flair]').indeterminate")
    assert visit.page.locator("#lesions tbody tr").first.locator("td").count() == first + 9


def loaded(visit: Visit, row: dict[str, Any]) -> None:
    """Waits until a lesion's picture is on the page, with its pixels."""
    name = f"Saliency maps, slices in every channel: {row['scan']}, lesion {row['label']}"
    visit.page.wait_for_function(
        """name => [...document.querySelectorAll("#chosen img")]
        .some((image) => image.alt === name && image.naturalWidth === 1702)""",
        arg=name,
    )


def test_a_row_shows_its_picture_and_all_its_values(visit: Visit) -> None:
    assert not [url for url in visit.requests if url.endswith(".png")]
    visit.page.locator("#lesions tbody tr").nth(2).click()
    loaded(visit, ROWS[2])
    assert len([url for url in visit.requests if url.endswith(".png")]) == 1
    values = visit.page.inner_text("#chosen")
    for column in COLUMNS:
        assert column.heading in values
    assert number(ROWS[2]["t1_negative_beyond_48mm"]) in values


def test_arrow_keys_go_from_picture_to_picture_over_the_table_s_pages(visit: Visit) -> None:
    visit.page.locator("#lesions tbody tr").nth(49).click()
    loaded(visit, ROWS[49])
    visit.page.keyboard.press("ArrowDown")
    loaded(visit, ROWS[50])
    chosen = visit.page.locator("#lesions tbody tr[aria-selected=true]")
    assert chosen.locator("td").first.inner_text() == ROWS[50]["scan"]
    visit.page.keyboard.press("ArrowUp")
    loaded(visit, ROWS[49])


def test_enter_chooses_the_row_that_has_the_focus(visit: Visit) -> None:
    visit.page.select_option("[name=scan]", ROWS[50]["scan"])
    count(visit, 50)
    visit.page.focus("#lesions tbody tr[tabindex='0']")
    visit.page.keyboard.press("Enter")
    loaded(visit, ROWS[50])


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (3, "No picture was made of this lesion."),
        (4, "The picture nowhere/to be found.png is not beside this page."),
    ],
)
def test_a_missing_picture_is_said(visit: Visit, row: int, text: str) -> None:
    visit.page.locator("#lesions tbody tr").nth(row).click()
    visit.page.wait_for_selector(f"#chosen >> text={text}")
    assert visit.page.locator("#chosen img").count() == 0


def test_several_pictures_of_a_lesion_are_one_below_the_other(browser: Any, tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS[:2]]
    rows[0]["picture"], rows[1]["picture"] = ["figures/a 1.png", "figures/b.png"], [None, "b.png"]
    for name in ("figures/a 1.png", "figures/b.png", "b.png"):
        picture(tmp_path / name, "#204060")
    methods: dict[str, Scale] = {"smoothgrad-max": "diverging", "gradcam++": "sequential"}
    path = tmp_path / "report.html"
    write_cohort_page(path, "", COLUMNS, rows, [], {}, pictures=methods, missing="There is none.")
    visit = opened(browser, path)
    visit.page.locator("#lesions tbody tr").first.click()
    visit.page.wait_for_function(
        """() => [...document.querySelectorAll("#chosen img")]
        .filter((image) => image.naturalWidth === 1702).length === 2"""
    )
    lesion = f"{rows[0]['scan']}, lesion {rows[0]['label']}"
    captions = visit.page.locator("#chosen figcaption").all_inner_texts()
    assert captions == [f"{lesion}, {method}" for method in methods]
    shown = [url.rpartition("/")[2] for url in visit.requests if url.endswith(".png")]
    assert shown == ["a%201.png", "b.png"]
    visit.page.keyboard.press("ArrowDown")
    visit.page.wait_for_selector("#chosen >> text=There is none.")
    assert visit.page.locator("#chosen img").count() == 1
    close(visit)
    for method in methods:
        assert f"How to read the pictures: {method}" in text_of(path)


def test_why_there_are_no_pictures_at_all_is_said(browser: Any, tmp_path: Path) -> None:
    rows = [{**row, "picture": None} for row in ROWS[:2]]
    path = tmp_path / "report.html"
    write_cohort_page(path, "", COLUMNS, rows, [], {}, missing="No maps <were> kept.")
    visit = opened(browser, path)
    assert "No maps <were> kept." in visit.page.inner_text("#chosen")
    visit.page.locator("#lesions tbody tr").first.click()
    visit.page.wait_for_selector("#chosen dl")
    assert "No maps <were> kept." in visit.page.inner_text("#chosen")
    assert "How to read the pictures" not in text_of(path)
    close(visit)


def test_the_shown_rows_are_downloaded_with_all_columns(visit: Visit) -> None:
    visit.page.select_option("[name=scan]", ROWS[0]["scan"])
    count(visit, 50)
    sort(visit, "voxels")
    with visit.page.expect_download() as download:
        visit.page.click("#download")
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    table = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    rows = sorted(ROWS[:50], key=lambda row: row["voxels"])
    assert list(table[0]) == [column.key for column in COLUMNS]
    assert [row["label"] for row in table] == [str(row["label"]) for row in rows]
    for got, row in zip(table, rows, strict=True):
        peak = row["flair_max"]
        if peak is None or np.isnan(peak):
            assert got["flair_max"] == "n/a"
        else:
            assert float(got["flair_max"]) == pytest.approx(peak, rel=1e-5)


@pytest.mark.parametrize("digits", [None, 0, 1, 3])
def test_numbers_are_written_as_on_the_other_page(
    browser: Any, tmp_path: Path, digits: int | None
) -> None:
    random = np.random.default_rng(1)
    values = [*random.lognormal(0, 6, 40), *-random.lognormal(0, 6, 40), 9.996, -40.0, 2.5e-9, 1e7]
    values = [float(f"{value:.6g}") for value in values] + [
        0.0,
        -0.0,
        -0.00001,
        float("inf"),
        1e-12,
    ]
    columns = [Column("label", "label", "", 0), Column("value", "value", "", digits)]
    rows = [{"label": place, "value": value} for place, value in enumerate(values)]
    path = tmp_path / "report.html"
    write_cohort_page(path, "Numbers", columns, rows, [], {})
    visit = opened(browser, path)
    texts = visit.page.locator("#lesions tbody td:nth-child(2)").all_inner_texts()
    visit.page.click(".dt-paging-button.next")
    texts += visit.page.locator("#lesions tbody td:nth-child(2)").all_inner_texts()
    assert texts == [number(value, digits) for value in values]
    close(visit)


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")  # of Matplotlib's own font
def test_given_texts_do_no_harm(browser: Any, tmp_path: Path) -> None:
    columns = [
        Column("scan", EVIL, EVIL),
        Column("label", "label", "", 0),
        Column("kind", "kind", ""),
        Column("peak", EVIL, EVIL, group=EVIL),
    ]
    rows: list[dict[str, Any]] = [
        {"scan": EVIL, "label": 1, "kind": EVIL[:-1], "peak": 1.5, "picture": f"{EVIL}#?.png"}
    ]
    scans = [{"id": EVIL, "status": "finished", "reason": EVIL, "lesions": 1, "seconds": 1.0}]
    path = tmp_path / f"{EVIL.replace('/', '')}.html"
    facts = {EVIL: {EVIL: EVIL}}
    write_cohort_page(
        path, EVIL, columns, rows, scans, facts, ranges=["peak"], violins={"peak": EVIL}
    )
    visit = opened(browser, path)
    visit.page.locator("#lesions tbody tr").click()
    visit.page.fill("[name=text]", "<img src=x")
    visit.page.wait_for_selector("#chosen >> text=is not beside this page")
    visit.page.wait_for_timeout(300)  # longer than the search waits
    visit.page.select_option("[name=scan]", EVIL)
    visit.page.wait_for_timeout(50)
    assert visit.page.text_content("#lesions tbody td:first-child") == EVIL
    assert visit.page.text_content("h1") == EVIL
    assert visit.page.locator("img").count() == 0
    close(visit)


def text_of(path: Path) -> str:
    """What a page says, without its scripts, styles and tags."""
    html = re.sub(r"<(script|style)\b.*?</\1>", " ", path.read_text(encoding="utf-8"), flags=re.S)
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_failed_scans_come_first_with_their_reason(report: Path) -> None:
    text = text_of(report)
    assert "200 lesions in 6 scans: 1 failed, 4 finished, 1 unfinished" in text
    places = [text.index(name) for name in ("sub-bad failed t1.nii.gz: the file", "sub-later")]
    assert places == sorted(places)
    assert text.index("sub-later") < text.index("4 finished scans")


def test_the_run_is_described(report: Path) -> None:
    text = text_of(report)
    for words in ("samples 50", "channels flair, t1", "jax 0.10.2", "0 NVIDIA H200"):
        assert words in text


def test_no_lesion_is_said_plainly(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_cohort_page(path, "A cohort", COLUMNS, [], cohort_scans(2, 0), COHORT_FACTS)
    assert "No lesion was explained." in text_of(path)
    assert "0 lesions in 4 scans" in text_of(path)
    assert "<script" not in path.read_text(encoding="utf-8")


def test_columns_are_shown_as_told(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_cohort_page(path, "", COLUMNS, ROWS[:2], [], {}, shown=["scan", "t1_min"])
    checked = re.findall(r'name="shown" value="(\w+)"[^>]* checked', path.read_text("utf-8"))
    assert checked == ["scan", "t1_min"]
