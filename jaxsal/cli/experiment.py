"""``jaxsal experiment``: the paper's questions, asked of one's own network and scans."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared
from jaxsal.cli import saliency_options
from jaxsal.experiments.settings import SETTINGS
from jaxsal.settings import CohortSettings

if TYPE_CHECKING:
    from jaxsal.experiments.findings import Findings

_NOTHING = 1  # exit status: there is nothing to tell


def add_parser(commands: Any) -> None:
    """Adds the command's parser, and those of its verbs, the experiments."""
    parser = commands.add_parser(
        "experiment",
        help="ask the paper's questions of a network and scans: a table and a figure each",
        description="Each experiment writes NAME.tsv, NAME.png and NAME.json (the figures in "
        "brief, with sample sizes, notes and settings) into a folder. Maps are computed as by "
        "`jaxsal cohort run`, recorded as they are done, and shared by the experiments of a "
        "folder: the same command goes on where it ended.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="NAME", required=True)
    for name, settings in SETTINGS.items():
        summary = (settings.__doc__ or "").splitlines()[0]
        verb = verbs.add_parser(name, help=summary.rstrip("."), description=summary)
        shared.add_cohort(verb)
        verb.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="folder for the results"
        )
        verb.add_argument(
            "--maps",
            type=Path,
            metavar="DIR",
            help="folder of a `jaxsal cohort run` of the same model, scans and options, whose maps "
            "are used rather than computed again",
        )
        _add_own(verb.add_argument_group("this experiment"), settings)
        saliency_options.add_smoothgrad(verb)
        shared.add_prediction(verb)
        shared.add_device(verb)
        shared.add_memory(verb)
        verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    own = _own_settings(options)
    saliency = saliency_options.smoothgrad(options)
    from jaxsal.checkpoints import load_model
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.experiments.catalogue import EXPERIMENTS
    from jaxsal.experiments.findings import write_findings
    from jaxsal.experiments.study import Study

    with shared.computing(options, everywhere=True), ProgressBar() as bar:
        bar.stage("starting")
        model = load_model(options.model, options.precision)
        study = Study(
            model,
            shared.cohort_entries(options, model.channels),
            options.out,
            shared.prediction_settings(options, model),
            saliency,
            portion=CohortSettings.portion,
            maps=options.maps,
            monitor=bar,
            field=options.field,
        )
        try:
            with study.opened():
                findings = EXPERIMENTS[options.verb](study, own)
                paths = write_findings(findings, options.out, options.verb, study.facts)
        except KeyboardInterrupt as interrupt:
            message = "interrupted; what is recorded stays, the same command goes on from there"
            raise type(interrupt)(message) from interrupt
    _show(findings)
    print(f"results: {', '.join(map(str, paths))}")
    return 0 if findings.rows else _NOTHING


def _show(findings: Findings) -> None:
    """Prints what was found in brief: rows of the same names as one table."""
    from itertools import groupby

    for names, rows in groupby(findings.summary, tuple):
        _print_table(names, list(rows))
    for note in findings.notes:
        print(f"note: {note}")


def _print_table(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in names:
        numbers = all(not isinstance(row[name], str) for row in rows)
        table.add_column(name, justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(_text(row[name]) for name in names))
    console = Console()
    unlimited = console.options.update(width=1000)
    width = Measurement.get(console, unlimited, table).maximum  # columns are not broken
    Console(width=max(console.width, width)).print(table, "")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _add_own(group: argparse._ActionsContainer, settings: type) -> None:
    for setting in fields(settings):
        group.add_argument(
            f"--{setting.name.replace('_', '-')}",
            dest=f"own_{setting.name}",
            type=_parser_of(setting),
            default=setting.default,
            metavar=setting.metadata["metavar"],
            help=f"{setting.metadata['help']}{_shown(setting.default)}",
        )


def _shown(default: Any) -> str:
    if default is None:
        return ""
    text = ":".join(f"{part:g}" for part in default) if isinstance(default, tuple) else default
    return f"; default: {text}"


def _parser_of(setting: Field[Any]) -> Any:
    if isinstance(setting.default, tuple):
        return _pair
    return str if setting.default is None else type(setting.default)


def _pair(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(":"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be two numbers with a colon between, such as 90:120; got {text!r}"
        ) from error
    return low, high


def _own_settings(options: argparse.Namespace) -> Any:
    kind = SETTINGS[options.verb]
    return kind(**{f.name: getattr(options, f"own_{f.name}") for f in fields(kind)})
