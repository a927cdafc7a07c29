"""The tables of ``jaxsal evaluate``: rows for files, and how they look on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli.tables import make_table, print_table
from jaxsal.wording import counted, one_line

if TYPE_CHECKING:
    from jaxsal.evaluation.intervals import IntervalEstimate
    from jaxsal.evaluation.scans import Evaluation

Row = dict[str, Any]

TITLES = {
    "dice": "Dice",
    "ndsc": "nDSC",
    "tp": "TP",
    "fp": "FP",
    "fn": "FN",
    "tpr": "TPR",
    "fdr": "FDR",
    "fnr": "FNR",
    "f1": "F1",
}
_SCAN_COLUMNS = (
    *("scan", "subject", "session", "threshold", *TITLES, "predicted_mm3", "reference_mm3"),
    "reason",
)
_COHORT_COLUMNS = ("figure", "over", "value", "low", "high", "scans")
_CURVE_COLUMNS = ("threshold", "dice", "ndsc", "tpr", "fdr", "fnr", "f1", "scans")


def scan_rows(evaluations: Sequence[Evaluation], threshold: float | None) -> list[Row]:
    """A row per scan; of what is not defined, such as a threshold (None), nothing."""
    return [_scan_row(each, threshold) for each in evaluations]


def _scan_row(evaluation: Evaluation, threshold: float | None) -> Row:
    entities = evaluation.entry.entities
    row: Row = {"scan": evaluation.entry.id, "subject": entities.get("subject", "")}
    row["session"] = entities.get("session", "")
    if not evaluation.scores:
        return row | {"reason": one_line(evaluation.reason)}
    scores = evaluation.scores[threshold]
    lesions = scores.lesions
    row["threshold"] = threshold
    figures = {
        **{"tp": lesions.tp, "fp": lesions.fp, "fn": lesions.fn},
        **scores.figures(),
        **{"predicted_mm3": scores.predicted_mm3, "reference_mm3": scores.reference_mm3},
    }
    return row | _defined(figures)


def _defined(figures: Mapping[str, float]) -> Row:
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def cohort_rows(
    averages: Mapping[str, IntervalEstimate], pooled: Mapping[str, IntervalEstimate]
) -> list[Row]:
    """A row per figure, first their means over scans, then those of all lesions together."""
    return [
        {"figure": name, "over": over, "scans": estimate.scans}
        | _defined({"value": estimate.value})
        | dict(zip(("low", "high"), estimate.interval or (), strict=False))
        for over, estimates in (("scans", averages), ("lesions", pooled))
        for name, estimate in estimates.items()
    ]


def curve_rows(curve: Mapping[float, Mapping[str, float]], scans: int) -> list[Row]:
    """A row per threshold."""
    return [
        {"threshold": threshold, "scans": scans, **_defined(figures)}
        for threshold, figures in curve.items()
    ]


def paths(out: Path, *, tuned: bool) -> tuple[Path, ...]:
    """The tables' files: of scans, of the cohort and, if it was tuned, of thresholds."""
    parts = ("cohort", "thresholds") if tuned else ("cohort",)
    return out, *(out.with_name(f"{out.stem}-{part}{out.suffix}") for part in parts)


def write(out: Path, scans: list[Row], cohort: list[Row], curve: list[Row]) -> tuple[Path, ...]:
    """Writes the tables, see `paths`, which it returns; that of thresholds only if it has rows."""
    from jaxsal.tables import write_table

    columns = (_SCAN_COLUMNS, _COHORT_COLUMNS, _CURVE_COLUMNS)
    files = paths(out, tuned=bool(curve))
    for path, names, rows in zip(files, columns, (scans, cohort, curve), strict=False):
        write_table(path, names, rows)
    return files


def show_scans(rows: Sequence[Row]) -> None:
    """Prints the scans' table."""
    table = make_table("scan", *TITLES.values())
    for row in rows:
        if "reason" not in row:
            table.add_row(row["scan"], *(_number(row.get(name)) for name in TITLES))
    print_table(table)


def show_curve(rows: Sequence[Row], best: float) -> None:
    """Prints what each threshold comes to."""
    names = [name for name in _CURVE_COLUMNS if name in TITLES]
    table = make_table("threshold", *(TITLES[name] for name in names), "")
    for row in rows:
        mark = "best" if row["threshold"] == best else ""
        table.add_row(f"{row['threshold']:g}", *(_number(row.get(n)) for n in names), mark)
    print_table(table)


def show_cohort(
    averages: Mapping[str, IntervalEstimate], pooled: Mapping[str, IntervalEstimate]
) -> None:
    """Prints the cohort's figures."""
    titles = ("mean over scans [95 % CI]", "all lesions together [95 % CI]")
    table = make_table("", *titles, justify="left")
    most = max(estimate.scans for estimate in averages.values())
    for name, mean in averages.items():
        together = _estimate(pooled[name], most) if name in pooled else ""
        table.add_row(TITLES[name], _estimate(mean, most), together)
    print_table(table)


def _estimate(estimate: IntervalEstimate, most: int) -> str:
    """A figure with its interval, and of how many scans if not of all of them."""
    from jaxsal.evaluation.intervals import FEWEST_SCANS

    text = _number(estimate.value)
    if estimate.interval is not None:
        low, high = estimate.interval
        text += f" [{low:.3f}, {high:.3f}]"
    elif estimate.scans >= FEWEST_SCANS:
        text += " [not defined]"  # as some resampled cohorts have no lesion
    scans = counted(estimate.scans, "scan")
    return text + (f" of {scans}" if estimate.scans < most else "")


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
