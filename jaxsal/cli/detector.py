"""``jaxsal detector VERB``: false lesions, told by their maps."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from jaxsal.cli.command import Command, Commands, Given, group
from jaxsal.cli.interruption import keeping
from jaxsal.detector.settings import FitSettings
from jaxsal.errors import InputError
from jaxsal.options import option
from jaxsal.wording import counted, one_line

_FAILED_SCANS = 3  # exit status: all is done but some scans
_KEPT = "nothing was written, the same command begins again"


@dataclass(frozen=True)
class _Fit:
    """What it is fitted on.

    Attributes:
        cohort: the folder of `jaxsal cohort run` over scans with references, with its maps.
        out: the detector, a new JSON file.
    """

    cohort: Path = option(metavar="COHORT", positional=True)
    out: Path = option(metavar="DETECTOR")


@dataclass(frozen=True)
class _Apply:
    """What it is applied to.

    Attributes:
        detector: of `jaxsal detector fit`.
        cohort: the folder of `jaxsal cohort run`, with its maps; nothing is written there.
        out: a new folder for the table and the masks. None: COHORT-pruned, beside the cohort's.
    """

    detector: Path = option(metavar="DETECTOR", positional=True)
    cohort: Path = option(metavar="COHORT", positional=True)
    out: Path | None = option(None, "DIR")


def fit(given: Given) -> None:
    """Fits a detector, and prints what it was fitted on."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.detector.detector import write_detector
    from jaxsal.detector.fit import fit_detector

    asked = given.of(_Fit)
    if asked.out.exists():
        raise InputError(f"--out {asked.out} exists: give another name for the detector")
    if not asked.out.absolute().parent.is_dir():
        raise InputError(f"there is no folder for --out {asked.out}: make it first")
    with keeping(lambda: _KEPT), ProgressBar() as bar:
        bar.stage("measuring")
        detector = fit_detector(
            asked.cohort, given.of(FitSettings), lambda done, scans: bar.count(done, scans, "scans")
        )
    write_detector(asked.out, detector)
    print(
        f"{asked.out}: fitted on maps of {detector.method} of {detector.true_lesions} TP and "
        f"{detector.false_lesions} FP of {counted(detector.patients, 'patient')}; lesions with "
        f"p_true below {detector.threshold:.3g} count as false. `jaxsal experiment detector` "
        "measures how well that does in patients that it was not fitted on"
    )


def apply(given: Given) -> int:
    """Applies a detector; returns the exit status."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.detector.apply import apply_detector

    asked = given.of(_Apply)
    out = asked.out or asked.cohort.absolute().with_name(f"{asked.cohort.absolute().name}-pruned")
    with keeping(lambda: _KEPT), ProgressBar() as bar:
        bar.stage("judging")
        applied = apply_detector(
            asked.detector, asked.cohort, out, lambda done, scans: bar.count(done, scans, "scans")
        )
    for scan, reason in applied.failed.items():
        print(
            f"jaxsal detector apply: warning: {scan} has no results: {one_line(reason)}",
            file=sys.stderr,
        )
    judged = [row for row in applied.rows if row["p_true"] is not None]
    kept = sum(row["kept"] for row in judged)
    print(
        f"{counted(len(judged), 'lesion')} in {counted(applied.scans, 'scan')}: {kept} kept, "
        f"{len(judged) - kept} count as false; table and masks: {out}"
    )
    return _FAILED_SCANS if applied.failed else 0


_VERBS = {
    "fit": Command(
        "Fits a logistic regression that tells true lesions (TP) from false ones (FP) by their "
        "maps, on the results of a cohort with references (needs the extra: jaxsal[statistics]).",
        (group(_Fit), group(FitSettings, "how it is fitted")),
        fit,
        configurable=False,
    ),
    "apply": Command(
        "Writes a table with the probability of being true of each lesion in a cohort's results, "
        "and a mask per scan without the lesions that the detector holds for false. Refuses "
        "results of another method, model, settings or channels than it was fitted on.",
        (group(_Apply),),
        apply,
        configurable=False,
    ),
}

COMMAND = Commands(
    "Tells false lesions from true ones by their maps.",
    {
        "fit": "fit a detector on a cohort's results with references",
        "apply": "judge a cohort's lesions, and write masks without the false ones",
    },
    _VERBS.__getitem__,
    metavar="VERB",
    epilog="`jaxsal detector VERB --help` describes a verb.",
)
