"""``jaxsal bids BIDS_DIR OUT_DIR LEVEL``: cohorts, by the command line that BIDS-Apps have.

Gorgolewski et al., "BIDS apps: improving ease of use, accessibility, and reproducibility of
neuroimaging data analysis methods", PLOS Computational Biology 13 (2017).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jaxsal.cli import options as shared
from jaxsal.cli.cohort.run import Again
from jaxsal.cli.command import Command, Given, Group, group
from jaxsal.cli.following import FAILED_SCANS, follow, summary
from jaxsal.cli.methods import cohort_settings, of_cohort
from jaxsal.cli.report import Drawing, make_report
from jaxsal.errors import InputError
from jaxsal.options import option

if TYPE_CHECKING:
    from jaxsal.cohort.run import CohortRun
    from jaxsal.inputs.entries import Entry
    from jaxsal.model import Model


@dataclass(frozen=True)
class _App:
    """What every BIDS-App is given.

    Attributes:
        bids_dir: root of the BIDS dataset.
        output_dir: folder for the results, BIDS derivatives.
        analysis_level: participant finds and explains the lesions of scans; group, once that is
            done, writes the tables over all of them and report.html.
    """

    bids_dir: Path = option(metavar="BIDS_DIR", positional=True)
    output_dir: Path = option(metavar="OUT_DIR", positional=True)
    analysis_level: Literal["participant", "group"] = option(
        metavar="{participant,group}", positional=True
    )


@dataclass(frozen=True)
class _Participants:
    """Whom the participant level takes.

    Attributes:
        model: a converted model.
        participant_label: participants, with or without sub-. None: all.
        session_label: sessions, with or without ses-. None: all.
    """

    model: Path | None = option(None, "MODEL_DIR")
    participant_label: tuple[str, ...] | None = option(
        None, "LABEL", repeated=True, also=("participant_label",)
    )
    session_label: tuple[str, ...] | None = option(
        None, "LABEL", repeated=True, also=("session_label",)
    )
    overwrite: bool = shared.overwrite_option("maps and pictures")


def _names(*groups: Group) -> set[str]:
    return {each.name for options in groups for each in options.options}


_DRAWING = _names(group(Drawing))


def _of_participants() -> tuple[Group, ...]:
    """The options of the participant level."""
    select = group(shared.Cohort, only=("select",))
    return group(_Participants), select, group(Again), *of_cohort(), shared.UNCERTAINTY


def run(given: Given) -> int:
    """Runs the command; returns the exit status."""
    from jaxsal.inputs.participants import require_dataset

    app = given.of(_App)
    require_dataset(app.bids_dir)
    is_group = app.analysis_level == "group"
    others = (_names(*_of_participants()) if is_group else _DRAWING) & given.keys()
    if others:
        flag, level = min(others).replace("_", "-"), "participant" if is_group else "group"
        raise InputError(f"--{flag} is for the {level} level; leave it out")
    if is_group:
        _gather(app.output_dir, given.of(Drawing))
        return 0
    return _explain(app, given)


def _gather(out: Path, drawing: Drawing) -> None:
    """The group level."""
    from jaxsal.cohort.group import gather_tables

    if not (out / "run.json").exists():
        raise InputError(
            f"{out} has no results of the participant level: run `jaxsal bids BIDS_DIR OUT_DIR "
            "participant --model MODEL_DIR` first"
        )
    gather_tables(out)
    make_report(out, drawing)


def _explain(app: _App, given: Given) -> int:
    """The participant level; returns the exit status."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.inputs.participants import chosen

    asked = given.of(_Participants)
    if asked.model is None:
        raise InputError("the participant level needs --model MODEL_DIR, a converted model")
    labels = asked.participant_label or (), asked.session_label or ()
    if asked.overwrite and any(labels):
        raise InputError(
            "--overwrite begins anew with all participants; leave out --participant-label and "
            "--session-label, or --overwrite"
        )
    with shared.computing(given, everywhere=True), ProgressBar() as bar:
        bar.stage("starting")
        model = shared.load_model(given)
        dataset = Given(given | {"cohort": app.bids_dir})
        entries = shared.cohort_entries(dataset, model.channels)
        places = chosen(entries, *labels)
        runs = _runs(app.output_dir, given, model, entries, places)
        counts = follow(runs, len(places), bar, overwrite=asked.overwrite)
    print(summary(counts, len(places), app.output_dir))
    return FAILED_SCANS if counts["failed"] else 0


def _runs(
    out: Path, given: Given, model: Model, entries: list[Entry], places: list[int]
) -> Iterator[CohortRun]:
    """A run over all scans, or one for each of some: others may do others meanwhile."""
    from jaxsal.cohort.run import run_cohort
    from jaxsal.store.lock import Shard

    every = len(places) == len(entries)
    for shard in [Shard()] if every else [Shard(i + 1, len(entries)) for i in places]:
        yield run_cohort(
            model,
            entries,
            out,
            prediction=shared.prediction_settings(given, model),
            settings=cohort_settings(given),
            shard=shard,
            retry_failed=given.of(Again).retry_failed,
            overwrite=given.of(_Participants).overwrite,
            on_scan=None,
        )


COMMAND = Command(
    "Works on a BIDS dataset as every BIDS-App does, by the engine of `jaxsal cohort run`, whose "
    "folder the results are: runs of other participants may go on at the same time, and whatever "
    "ends one, the same command goes on where it ended. Scans that fail are skipped; the exit "
    "status is then 3.",
    lambda: (group(_App), *_of_participants(), group(Drawing, "for the group level")),
    run,
)
