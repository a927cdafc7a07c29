"""``jaxsal experiment``: the paper's questions, asked of one's own network and scans."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import methods
from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Commands, Given, group
from jaxsal.cli.interruption import keeping
from jaxsal.experiments.catalogue import EXPERIMENTS, experiment
from jaxsal.options import option
from jaxsal.registry import METHODS
from jaxsal.settings import PredictSettings

if TYPE_CHECKING:
    from jaxsal.experiments.findings import Findings
    from jaxsal.experiments.study import Study

_METHOD = "smoothgrad"  # by the aggregates that each experiment chooses
_NOTHING, _FAILED_SCANS = 1, 3  # exit status: nothing to report; all is done but some scans


@dataclass(frozen=True)
class _Maps:
    """Maps that are there.

    Attributes:
        maps: folder of a `jaxsal cohort run` of the same model and options over these scans, and
            perhaps others, whose maps are used rather than computed again; nothing is written
            there.
    """

    maps: Path | None = option(None, "DIR")


def run(name: str, given: Given) -> int:
    """Runs an experiment; returns the exit status."""
    asked, out = experiment(name), given["out"]
    own: Any = given.of(asked.settings)
    computed: dict[str, Any] = {}
    if asked.uses_saliency:
        computed["saliency"] = given.of(METHODS[_METHOD].settings)
        computed["field"] = given.get("field", "sliding")
    if asked.uses_maps:
        computed["maps"] = given.get("maps")
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.experiments.findings import write_findings
    from jaxsal.experiments.study import Study
    from jaxsal.experiments.study_folder import opened

    kept = "what is recorded stays, the same command goes on from there"
    with keeping(lambda: kept), shared.computing(given, everywhere=True), ProgressBar() as bar:
        bar.stage("starting")
        model = shared.load_model(given)
        study = Study(
            model,
            shared.model_entries(given, model),
            out,
            shared.prediction_settings(given, model),
            monitor=bar,
            **computed,
        )
        with opened(out):
            findings = asked.ask(study, own)
            facts = facts_of(study, own, uses_saliency=asked.uses_saliency)
            paths = write_findings(findings, out, name, facts, study.footnote)
    show_findings(findings)
    print(f"results: {', '.join(map(str, paths))}")
    if not findings.rows:
        return _NOTHING
    return _FAILED_SCANS if study.left_out else 0


def facts_of(study: Study, own: Any, *, uses_saliency: bool = True) -> dict[str, Any]:
    """What the findings depend on."""
    unused = set() if uses_saliency else {"saliency"}
    facts = {name: fact for name, fact in study.facts.items() if name not in unused}
    return {"settings": {name: _plain(value) for name, value in asdict(own).items()}, **facts}


def _plain(value: Any) -> Any:
    """A setting, ready for JSON."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def show_findings(findings: Findings) -> None:
    """Prints what was found in brief: rows of the same names as one table."""
    from itertools import groupby

    from jaxsal.cli.tables import print_rows

    for names, rows in groupby(findings.summary, tuple):
        print_rows(names, list(rows))
        print()
    for note in findings.notes:
        print(f"note: {note}")


def _command(name: str) -> Command:
    asked = experiment(name)
    groups = [shared.MODEL, shared.COHORT, group(shared.Results, only=("out",))]
    groups += [group(_Maps)] if asked.uses_maps else []
    groups += [group(asked.settings, "this experiment")]
    if asked.uses_saliency:
        unused = ("aggregate", "standard_error", *(() if asked.takes_tolerance else ("tolerance",)))
        groups += methods.of_method(_METHOD, without=unused)
    groups += [group(PredictSettings, "finding lesions", without=("field", "domain"))]
    groups += [shared.COMPUTING]
    return Command(f"{EXPERIMENTS[name]}.", tuple(groups), partial(run, name))


COMMAND = Commands(
    "Each experiment writes NAME.tsv, NAME.png and NAME.json (the figures in brief, with sample "
    "sizes, notes and settings) into a folder. Maps are computed as by `jaxsal cohort run`, "
    "recorded as they are done, and shared by the experiments of a folder: the same command goes "
    "on where it ended. Scans that fail are named and skipped; the exit status is then 3. It is 1 "
    "if there is nothing to report.",
    EXPERIMENTS,
    _command,
    metavar="NAME",
)
