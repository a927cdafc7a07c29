"""``jaxsal experiment``: the paper's questions, asked of one's own network and scans."""

from __future__ import annotations

import argparse
from dataclasses import Field, asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared
from jaxsal.cli import saliency_options
from jaxsal.experiments.settings import SETTINGS, Settings

if TYPE_CHECKING:
    from jaxsal.experiments.findings import Findings
    from jaxsal.experiments.study import Study

_NOTHING, _FAILED_SCANS = 1, 3  # exit status: nothing to report; all is done but some scans


def add_parser(commands: Any) -> None:
    """Adds the command's parser, and those of its verbs, the experiments."""
    parser = commands.add_parser(
        "experiment",
        help="ask the paper's questions of a network and scans: a table and a figure each",
        description="Each experiment writes NAME.tsv, NAME.png and NAME.json (the figures in "
        "brief, with sample sizes, notes and settings) into a folder. Maps are computed as by "
        "`jaxsal cohort run`, recorded as they are done, and shared by the experiments of a "
        "folder: the same command goes on where it ended. A scan that cannot be worked with is "
        "named and left out; the exit status is then 3. It is 1 if there is nothing to report.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="NAME", required=True)
    for name, settings in SETTINGS.items():
        summary = (settings.__doc__ or "").splitlines()[0]
        verb = verbs.add_parser(name, help=summary.rstrip("."), description=summary)
        shared.add_cohort(verb)
        verb.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="folder for the results"
        )
        if settings.uses_maps:
            _add_maps(verb)
        if fields(settings):
            _add_own(verb.add_argument_group("this experiment"), settings)
        if settings.uses_saliency:
            saliency_options.add_smoothgrad(verb)
            shared.add_memory(verb)
        shared.add_prediction(verb, domains=False)
        shared.add_device(verb)
        verb.set_defaults(run=run)


def _add_maps(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--maps",
        type=Path,
        metavar="DIR",
        help="folder of a `jaxsal cohort run` of the same model and options over these scans, and "
        "perhaps others, whose maps are used rather than computed again; nothing is written there",
    )


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    try:
        return _run(options)
    except KeyboardInterrupt as interrupt:
        message = "interrupted; what is recorded stays, the same command goes on from there"
        raise type(interrupt)(message) from interrupt


def _run(options: argparse.Namespace) -> int:
    own = _own_settings(options)
    computed = _maps_settings(options, own)
    from jaxsal.checkpoints import load_model
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.experiments.catalogue import experiment
    from jaxsal.experiments.findings import write_findings
    from jaxsal.experiments.study import Study

    with shared.computing(options, everywhere=True), ProgressBar() as bar:
        bar.stage("starting")
        model = load_model(options.model, options.precision)
        study = Study(
            model,
            shared.model_entries(options, model),
            options.out,
            shared.prediction_settings(options, model),
            monitor=bar,
            **computed,
        )
        with study.opened():
            findings = experiment(options.verb)(study, own)
            facts = _facts(study, own)
            paths = write_findings(findings, options.out, options.verb, facts, study.footnote)
    _show(findings)
    print(f"results: {', '.join(map(str, paths))}")
    if not findings.rows:
        return _NOTHING
    return _FAILED_SCANS if study.left_out else 0


def _maps_settings(options: argparse.Namespace, own: Settings) -> dict[str, Any]:
    """What of a study the experiment's options set, of maps."""
    given: dict[str, Any] = {}
    if own.uses_saliency:
        given |= {"saliency": saliency_options.smoothgrad(options), "field": options.field}
    if own.uses_maps:
        given["maps"] = options.maps
    return given


def _facts(study: Study, own: Settings) -> dict[str, Any]:
    """What the findings depend on."""
    unused = set() if own.uses_saliency else {"saliency"}
    facts = {name: fact for name, fact in study.facts.items() if name not in unused}
    return {"settings": asdict(own), **facts}


def _show(findings: Findings) -> None:
    """Prints what was found in brief: rows of the same names as one table."""
    from itertools import groupby

    from jaxsal.cli.tables import print_rows

    for names, rows in groupby(findings.summary, tuple):
        print_rows(names, list(rows))
        print()
    for note in findings.notes:
        print(f"note: {note}")


def _add_own(group: argparse._ActionsContainer, settings: type[Settings]) -> None:
    for setting in fields(settings):
        group.add_argument(
            f"--{setting.name.replace('_', '-')}",
            dest=f"own_{setting.name}",
            type=_parser_of(setting),
            default=setting.default,
            metavar=setting.metadata["metavar"],
            choices=setting.metadata["choices"],
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


def _own_settings(options: argparse.Namespace) -> Settings:
    kind = SETTINGS[options.verb]
    return kind(**{f.name: getattr(options, f"own_{f.name}") for f in fields(kind)})
