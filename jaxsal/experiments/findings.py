"""What an experiment found, and its files: a table, a figure, and how to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from jaxsal.figures.charts import add_footnote
from jaxsal.store.files import whole_file, write_json
from jaxsal.tables import Row, write_table


@dataclass(frozen=True)
class Findings:
    """What an experiment found.

    Attributes:
        columns: of the table: names and meanings, with units.
        rows: of the table.
        summary: the table's figures in a few rows, each with its sample size; rows of the same
            names in the same order that follow each other make up a table.
        figure: drawn from the rows; None if there is nothing to draw.
        notes: what is missing and why, and what the figures must not be taken for, in sentences.
        summary_columns: names and meanings of the summary's figures.
        facts: what they depend on besides what all of a study's findings do, ready for JSON.
    """

    columns: Mapping[str, str]
    rows: Sequence[Row]
    summary: Sequence[Row]
    figure: Figure | None
    notes: tuple[str, ...] = ()
    summary_columns: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def write_findings(
    findings: Findings,
    out: Path,
    name: str,
    facts: Mapping[str, Any],
    footnote: str = "",
    dpi: int = 150,
) -> list[Path]:
    """Writes NAME.tsv, NAME.json (summary, notes, columns of both, facts) and NAME.png, each whole.

    Args:
        findings: what was found.
        out: the folder.
        name: of the experiment.
        facts: what all findings of the study depend on, ready for JSON.
        footnote: written into the figure; empty: nothing is.
        dpi: pixels per inch of the figure.

    Returns:
        The files.

    Raises:
        OutputError: they cannot be written.
    """
    table, summary, picture = (out / f"{name}.{ending}" for ending in ("tsv", "json", "png"))
    write_table(table, list(findings.columns), findings.rows)
    write_json(
        summary,
        {
            "experiment": name,
            "summary": list(findings.summary),
            "summary_columns": dict(findings.summary_columns),
            "notes": list(findings.notes),
            "columns": dict(findings.columns),
            **facts,
            **findings.facts,
        },
    )
    if findings.figure is None:
        picture.unlink(missing_ok=True)  # an earlier one, of other findings
        return [table, summary]
    if footnote:
        add_footnote(findings.figure, footnote)
    with whole_file(picture) as file:
        findings.figure.savefig(file, format="png", dpi=dpi, metadata={"Software": "jaxsal"})
    return [table, summary, picture]
