"""Figures that texts quote from the results; written into the texts by ``python -m bench plot``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.record import Found

ROOT = Path(__file__).resolve().parents[1]
_CORES = 2  # of the machine that the texts name


@dataclass(frozen=True)
class Quote:
    """A figure in a text.

    Attributes:
        page: file, from the repository's root.
        words: around the figure, which is ``{}``; once on the page.
        question: the benchmark.
        rows: column and beginning of its value: those of the table that count.
        column: whose values they are.
        pick: one figure of these values.
        factor: from the table's unit to the text's.
        form: how it is written.
    """

    page: str
    words: str
    question: str
    rows: tuple[str, str]
    column: str
    pick: Callable[[Sequence[float]], float] = max
    factor: float = 1.0
    form: str = ",.0f"

    def measured(self, found: Found) -> str:
        """The figure by a result, as it is to be written.

        Raises:
            ValueError: the result has no such row.
        """
        name, beginning = self.rows
        chosen = [r for r in found["rows"] if str(r.get(name)).startswith(beginning)]
        return format(self.factor * self.pick([row[self.column] for row in chosen]), self.form)

    def stated(self, text: str) -> str:
        """The figure that a page states.

        Raises:
            ValueError: the page does not have the words exactly once.
        """
        found = self._pattern.findall(text)
        if len(found) != 1:
            raise ValueError(f"{self.page} has {self.words!r} {len(found)} times, not once")
        return str(found[0])

    def restated(self, text: str, figure: str) -> str:
        """The page with another figure."""
        self.stated(text)
        return self._pattern.sub(lambda _: self.words.replace("{}", figure), text)

    @property
    def place(self) -> str:
        """Where in the result it stands."""
        return f"{self.column.replace('_', ' ')} of {self.rows[1]}"

    @property
    def _pattern(self) -> re.Pattern[str]:
        before, after = map(re.escape, self.words.split("{}"))
        return re.compile(rf"{before}(\d[\d.,]*){after}")


def _peer(words: str, peer: str) -> Quote:
    return Quote("README.md", words, "peers", ("peer", peer), "ms_per_gradient")


def _approximation(words: str, method: str, column: str, **options: Any) -> Quote:
    rows = ("approximation", method)
    return Quote("jaxsal/saliency/README.md", words, "approximations", rows, column, **options)


QUOTES = (
    _peer("{} ms with `--field whole`", "jaxsal whole"),
    _peer("{} ms by sliding window", "jaxsal sliding"),
    _peer("PyTorch at its best {} ms", "PyTorch windows"),
    _peer("Captum {} ms", "Captum"),
    _peer("the published scripts' loop {} ms", "reference's loop"),
    _approximation(
        "peak up to {} % too low", "voxels_per_lesion", "peak_error", pick=min, factor=-100
    ),
    _approximation("relative error up to {} |", "voxels_per_lesion", "map_error", form=".2g"),
    _approximation("peak at least {} % too high", "group_size", "peak_error", pick=min, factor=100),
)


def source_of(question: str, results: Iterable[Found]) -> Found:
    """The result that texts quote: the newest on a CPU of two cores.

    Raises:
        LookupError: there is none.
    """
    found = [r for r in results if r["question"] == question and _is_quoted(r["machine"])]
    if not found:
        raise LookupError(f"no result of {question!r} on a CPU of {_CORES} cores")
    return max(found, key=lambda result: str(result["finished"]))


def _is_quoted(machine: dict[str, Any]) -> bool:
    return bool(machine["platform"] == "cpu" and machine["cores"] == _CORES)


def quoted(results: Sequence[Found]) -> Iterator[tuple[Quote, Found, str]]:
    """Each quote whose result is there, the result, and the figure by it."""
    for quote in QUOTES:
        try:
            found = source_of(quote.question, results)
        except LookupError:
            continue
        yield quote, found, quote.measured(found)


def restate(results: Sequence[Found], root: Path = ROOT) -> None:
    """Writes the figures of the results into the texts that quote them."""
    for quote, _, figure in quoted(results):
        page = root / quote.page
        text = page.read_text(encoding="utf-8")
        changed = quote.restated(text, figure)
        if changed != text:
            page.write_text(changed, encoding="utf-8")
            print(f"{quote.page}: {quote.words.replace('{}', figure)}")
