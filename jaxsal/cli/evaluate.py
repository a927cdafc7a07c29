"""``jaxsal evaluate``: how good a network is, and which threshold suits it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxsal.cli import evaluation_tables as tables
from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.errors import InputError
from jaxsal.options import option
from jaxsal.wording import counted, one_line

if TYPE_CHECKING:
    from jaxsal.evaluation.scans import Evaluation

_FAILED_SCANS, _NO_SCAN = 3, 1  # exit status: all is done but some scans; nothing is
_STEP = 0.05


def _span(text: str) -> tuple[float, ...]:
    full = text if text.count(":") > 1 else f"{text}:{_STEP}"
    try:
        low, high, step = map(float, full.split(":"))
    except ValueError as error:
        raise ValueError("must be like 0.1:0.5 or 0.1:0.5:0.02") from error
    return low, high, step


@dataclass(frozen=True)
class _Threshold:
    """The choice of the threshold.

    Attributes:
        tune_threshold: find the threshold with the best mean normalised Dice, such as 0.1:0.5, in
            steps of 0.05 if no other is given.
        store: write that threshold into the model directory.
    """

    tune_threshold: tuple[float, ...] | None = option(None, "LOW:HIGH[:STEP]", parse=_span)
    store: bool = option(False)


@dataclass(frozen=True)
class _Tables:
    """Results.

    Attributes:
        out: write the scans' figures into this table, and those of the cohort (and of the
            thresholds) into TABLE-cohort.tsv (TABLE-thresholds.tsv) beside it.
    """

    out: Path | None = option(None, "TABLE.tsv")
    overwrite: bool = shared.overwrite_option()


def run(given: Given) -> int:
    """Runs the command; returns the exit status."""
    _check(given)
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.evaluation.scans import evaluate, with_reference
    from jaxsal.evaluation.thresholds import thresholds_between

    tuned = given.get("tune_threshold")
    thresholds = thresholds_between(*tuned) if tuned else None
    with shared.computing(given), ProgressBar() as bar:
        bar.stage("starting")
        model = shared.load_model(given)
        everything = shared.model_entries(given, model)
        entries = with_reference(everything)
        for entry in everything:
            if entry.scan.reference is None:
                bar.say(f"{entry.id}: left out, it has no reference")
        settings = shared.prediction_settings(given, model, given.get("field", "sliding"))
        bar.stage("evaluating")
        done: list[Evaluation] = []
        for evaluation in evaluate(model, entries, settings, thresholds):
            done.append(evaluation)
            if evaluation.reason:
                bar.say(f"{evaluation.entry.id} FAILED: {one_line(evaluation.reason)}")
            for note in evaluation.notes:
                bar.say(f"{evaluation.entry.id}: {note}")
            bar.count(len(done), len(entries), "scans")
    return _deliver(given, done, len(everything), thresholds or [])


def _check(given: Given) -> None:
    """What would be in vain otherwise is refused before anything is computed."""
    asked, model = given.of(_Threshold), given["model"]
    tuned = asked.tune_threshold is not None
    if asked.store and not tuned:
        raise InputError("--store writes what --tune-threshold finds: give both")
    if tuned and "threshold" in given:
        raise InputError("give --threshold or --tune-threshold, not both")
    if tuned and given.get("domain") == "argmax":
        raise InputError("--domain argmax has no threshold: leave it or --tune-threshold out")
    if asked.store and model.is_dir() and not os.access(model, os.W_OK):
        raise InputError(f"{model} cannot be written to: leave out --store")
    results = given.of(_Tables)
    if results.out is not None:
        _check_tables(results.out, tuned, results.overwrite, given["cohort"])


def _check_tables(out: Path, tuned: bool, overwrite: bool, cohort: Path) -> None:
    if out.suffix.lower() != ".tsv":
        raise InputError(f"the table's name must end in .tsv, got {out}")
    if not out.parent.is_dir():
        raise InputError(f"there is no folder {out.parent} for the table: make it first")
    for path in tables.paths(out, tuned=tuned):
        if path.resolve() == cohort.resolve():
            raise InputError(f"{path} lists the scans: give another name for the results")
        if path.is_dir() or (path.exists() and not overwrite):
            raise InputError(f"{path} exists: give another name, or a table's with --overwrite")


def _deliver(given: Given, done: Sequence[Evaluation], scans: int, tried: Sequence[float]) -> int:
    """Prints, writes and stores what was found; returns the exit status.

    Args:
        given: the options.
        done: what became of each scan.
        scans: their number, those without a reference included.
        tried: the thresholds to choose from; none if it is not to be chosen.
    """
    from jaxsal.checkpoints import store_threshold
    from jaxsal.evaluation.intervals import averages, pooled
    from jaxsal.evaluation.thresholds import best_threshold, tuning_curve

    good = [each for each in done if each.scores]
    if not good:
        print("no scan could be evaluated")
        return _NO_SCAN
    curve = tuning_curve(good, tried)
    best = best_threshold(curve) if curve else None
    thresholds = tables.curve_rows(curve, len(good))
    if best is not None:
        tables.show_curve(thresholds, best)
        print()
    used = next(iter(good[0].scores)) if best is None else best
    rows = tables.scan_rows(done, used)
    tables.show_scans(rows)
    rule = "domain argmax" if used is None else f"threshold {used:g}"
    print(f"\n{len(good)} of {counted(scans, 'scan')}, {rule}")
    scores = [each.scores[used] for each in good]
    means, together = averages(scores), pooled(scores)
    tables.show_cohort(means, together)
    _print_notes(len(good), best, tried)
    if "out" in given:
        written = tables.write(given["out"], rows, tables.cohort_rows(means, together), thresholds)
        print(f"tables: {', '.join(map(str, written))}")
    if given.get("store") and best is not None:
        store_threshold(given["model"], best)
        print(f"{given['model']} now has the threshold {best:g}")
    return _FAILED_SCANS if len(good) < len(done) else 0


def _print_notes(scans: int, threshold: float | None, tried: Sequence[float]) -> None:
    """How the figures are to be read."""
    from jaxsal.evaluation.intervals import FEWEST_SCANS

    if scans < FEWEST_SCANS:
        print(f"no confidence intervals: they need {FEWEST_SCANS} scans or more")
    if threshold is None or len(tried) == 1:
        return
    print(
        f"the threshold {threshold:g} was chosen on these scans, which flatters the figures: "
        "report those of other scans"
    )
    if threshold in (tried[0], tried[-1]):
        print("it is at the end of the range: a wider one may have a better one")


COMMAND = Command(
    "Compares predicted lesions with the scans' references: Dice, normalised Dice and lesion-wise "
    "rates per scan and over the cohort, with 95 % confidence intervals by the bootstrap over "
    "scans. Scans without a reference are left out. Scans that fail are named and skipped; the "
    "exit status is then 3.",
    (
        *(shared.MODEL, shared.COHORT, group(_Tables)),
        group(_Threshold, "choosing the threshold"),
        *(shared.FINDING_WITH_FIELD, shared.RESAMPLE, shared.COMPUTING),
    ),
    run,
)
