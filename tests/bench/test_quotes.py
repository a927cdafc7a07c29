"""Texts quote what the results hold, and no measured figure stands in them without a result."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from helpers.readme_blocks import readmes

from bench.quotes import QUOTES, ROOT, Quote, quoted, restate, source_of
from bench.record import every_result, read_results

LINK = re.compile(r"\]\([./]*bench/README\.md\)")
MEASURED = re.compile(r"\d[\d.,]* ?(?:µs|ms|s|min|h|%|GiB|MiB|GB|MB|×|times)(?![\w×])|\b0\.\d+")


def results():
    return every_result(read_results())


@pytest.mark.parametrize("quote", QUOTES, ids=lambda quote: quote.words)
def test_the_quoted_figure_is_the_measured_one(quote):
    text = (ROOT / quote.page).read_text(encoding="utf-8")
    assert quote.stated(text) == quote.measured(source_of(quote.question, results()))


def parts_with_measurements() -> Iterator[tuple[str, str]]:
    """The page and text of each item of a list, and each table or paragraph, that links here."""
    for path in readmes():
        if path.parent.name == "bench":
            continue
        text = path.read_text(encoding="utf-8")
        for part in re.split(r"\n\n|\n(?=- )", text):
            if LINK.search(part):
                yield path.relative_to(ROOT).as_posix(), part


def test_every_measured_figure_beside_a_link_to_the_benchmarks_is_a_quote():
    pages = set()
    for page, part in parts_with_measurements():
        for quote in QUOTES:
            if quote.page == page and quote.words.split("{}")[0] in part:
                part = quote.restated(part, "#") if _has(quote, part) else part
        assert MEASURED.findall(part) == [], f"{page} quotes figures that no result holds: {part}"
        pages.add(page)
    assert {quote.page for quote in QUOTES} <= pages


def _has(quote: Quote, text: str) -> bool:
    try:
        return bool(quote.stated(text))
    except ValueError:
        return False


def result(**machine):
    rows = [{"peer": "jaxsal", "ms": 1234.4}, {"peer": "jaxsal slow", "ms": 2000.0}]
    described = {"platform": "cpu", "cores": 2} | machine
    finished = described.pop("finished", "2026-01-01")
    return {"question": "peers", "rows": rows, "machine": described, "finished": finished}


QUOTE = Quote("PAGE.md", "it takes {} ms (a", "peers", ("peer", "jaxsal"), "ms", pick=min)


def test_a_figure_is_picked_scaled_and_rounded_as_it_is_written():
    assert QUOTE.measured(result()) == "1,234"
    seconds = replace(QUOTE, pick=max, factor=1e-3, form=".1f")
    assert seconds.measured(result()) == "2.0"
    with pytest.raises(ValueError, match="empty"):
        replace(QUOTE, rows=("peer", "other")).measured(result())


def test_words_that_are_not_there_once_are_an_error():
    assert QUOTE.stated("it takes 3 ms (a bit)") == "3"
    for text in ("it took 3 ms (a bit)", 2 * "it takes 3 ms (a"):
        with pytest.raises(ValueError, match=r"PAGE\.md has .* times, not once"):
            QUOTE.stated(text)


def test_the_newest_result_of_the_named_kind_of_machine_is_quoted():
    new = result(finished="2026-02-01")
    newer_elsewhere = [
        result(finished="2026-03-01", **m) for m in ({"cores": 4}, {"platform": "gpu"})
    ]
    assert source_of("peers", [result(), new, *newer_elsewhere]) is new
    with pytest.raises(LookupError, match="'peers' on a CPU of 2 cores"):
        source_of("peers", newer_elsewhere)


def test_texts_are_rewritten_with_the_results(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.quotes.QUOTES", (QUOTE, replace(QUOTE, question="networks")))
    page = tmp_path / "PAGE.md"
    page.write_text("Here it takes 57 ms (a moment).")
    restate([result()], tmp_path)
    assert page.read_text() == "Here it takes 1,234 ms (a moment)."
    ((quote, found, figure),) = quoted([result()])
    assert (quote, found, figure) == (QUOTE, result(), "1,234")
