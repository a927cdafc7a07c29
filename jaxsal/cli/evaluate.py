"""``jaxsal evaluate``: how good a network is, and which threshold suits it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import evaluation_tables as tables
from jaxsal.cli import options as shared
from jaxsal.errors import InputError

if TYPE_CHECKING:
    from jaxsal.evaluation.scans import Evaluation, Scores

_FAILED_SCANS, _NO_SCAN = 3, 1  # exit status: all is done but some scans; nothing is
_STEP = 0.05

Span = tuple[float, float, float]


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "evaluate",
        help="measure how good a network is, and choose its threshold",
        description="Compares predicted lesions with the scans' references: Dice, normalised Dice "
        "and lesion-wise rates per scan and over the cohort, with 95 % confidence intervals by the "
        "bootstrap over scans. Scans without a reference are left out. A scan that cannot be "
        "worked with is named and left out; the exit status is then 3.",
    )
    shared.add_cohort(parser)
    group = parser.add_argument_group("choosing the threshold")
    group.add_argument(
        "--tune-threshold",
        type=_span,
        metavar="LOW:HIGH[:STEP]",
        help="find the threshold with the best mean normalised Dice, such as 0.1:0.5; "
        f"default step: {_STEP}",
    )
    group.add_argument(
        "--store", action="store_true", help="write that threshold into the model directory"
    )
    group = parser.add_argument_group("results")
    group.add_argument(
        "--out",
        type=Path,
        metavar="TABLE.tsv",
        help="write the scans' figures into this table, and those of the cohort (and of the "
        "thresholds) into TABLE-cohort.tsv (TABLE-thresholds.tsv) beside it",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="replace the tables if they are there already"
    )
    shared.add_field(parser, "windows, or the whole volume at once")
    shared.add_prediction(parser)
    shared.add_device(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    _check(options)
    from jaxsal.checkpoints import load_model
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.evaluation.scans import evaluate, with_reference
    from jaxsal.evaluation.thresholds import thresholds_between

    thresholds = options.tune_threshold and thresholds_between(*options.tune_threshold)
    with shared.computing(options), ProgressBar() as bar:
        bar.stage("starting")
        model = load_model(options.model, options.precision)
        everything = shared.model_entries(options, model)
        entries = with_reference(everything)
        for entry in everything:
            if entry.scan.reference is None:
                bar.say(f"{entry.id}: left out, it has no reference")
        settings = shared.prediction_settings(options, model, options.field)
        bar.stage("evaluating")
        done: list[Evaluation] = []
        for evaluation in evaluate(model, entries, settings, thresholds):
            done.append(evaluation)
            if evaluation.reason:
                bar.say(f"{evaluation.entry.id} FAILED: {' '.join(evaluation.reason.split())}")
            for note in evaluation.notes:
                bar.say(f"{evaluation.entry.id}: {note}")
            bar.count(len(done), len(entries), "scans")
    return _deliver(options, done, len(everything), thresholds or [])


def _check(options: argparse.Namespace) -> None:
    """What would be in vain otherwise is refused before anything is computed."""
    if options.store and not options.tune_threshold:
        raise InputError("--store writes what --tune-threshold finds: give both")
    if options.tune_threshold and options.threshold is not None:
        raise InputError("give --threshold or --tune-threshold, not both")
    if options.tune_threshold and options.domain == "argmax":
        raise InputError("--domain argmax has no threshold: leave it or --tune-threshold out")
    if options.store and options.model.is_dir() and not os.access(options.model, os.W_OK):
        raise InputError(f"{options.model} cannot be written to: leave out --store")
    if options.out is None:
        return
    _check_tables(tables.paths(options.out, tuned=bool(options.tune_threshold)), options)


def _check_tables(paths: Sequence[Path], options: argparse.Namespace) -> None:
    if options.out.suffix.lower() != ".tsv":
        raise InputError(f"the table's name must end in .tsv, got {options.out}")
    if not options.out.parent.is_dir():
        raise InputError(f"there is no folder {options.out.parent} for the table: make it first")
    for path in paths:
        if path.resolve() == options.cohort.resolve():
            raise InputError(f"{path} lists the scans: give another name for the results")
        if path.is_dir() or (path.exists() and not options.overwrite):
            raise InputError(f"{path} exists: give another name, or a table's with --overwrite")


def _deliver(
    options: argparse.Namespace, done: Sequence[Evaluation], scans: int, tried: Sequence[float]
) -> int:
    """Prints, writes and stores what was found; returns the exit status.

    Args:
        options: of the command.
        done: what became of each scan.
        scans: their number, those without a reference included.
        tried: the thresholds to choose from; none if it is not to be chosen.
    """
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
    print(f"\n{len(good)} of {scans} scan{'' if scans == 1 else 's'}, {rule}")
    cohort = _show_cohort([each.scores[used] for each in good])
    _print_notes(len(good), best, tried)
    if options.out is not None:
        written = tables.write(options.out, rows, cohort, thresholds)
        print(f"tables: {', '.join(map(str, written))}")
    if options.store and best is not None:
        _store(options.model, best)
    return _FAILED_SCANS if len(good) < len(done) else 0


def _show_cohort(scores: Sequence[Scores]) -> list[dict[str, Any]]:
    """Prints the cohort's figures; returns the rows of their table."""
    from jaxsal.evaluation.cohort import averages, pooled

    means, together = averages(scores), pooled(scores)
    tables.show_cohort(means, together)
    return tables.cohort_rows(means, together)


def _store(model: Path, threshold: float) -> None:
    from jaxsal.checkpoints import store_threshold

    store_threshold(model, threshold)
    print(f"{model} now has the threshold {threshold:g}")


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


def _span(text: str) -> Span:
    full = text if text.count(":") > 1 else f"{text}:{_STEP}"
    try:
        low, high, step = map(float, full.split(":"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be like 0.1:0.5 or 0.1:0.5:0.02, got {text!r}"
        ) from error
    return low, high, step
