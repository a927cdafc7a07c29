"""``jaxsal preprocess``: scans registered and freed from bias fields, ready for a network."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared
from jaxsal.errors import InputError

if TYPE_CHECKING:
    from jaxsal.store.records import ScanRecord

_FIXED = "t1"
_FAILED_SCANS = 3  # exit status: all is done but these


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "preprocess",
        help="register a cohort's images to each other and remove bias fields",
        description="Registers the images of each scan to one of them by elastix and removes bias "
        "fields by N4, with a picture of each scan to check it by. DIR/cohort.tsv lists the "
        "results and is a COHORT for the other commands. Whatever ends it, the same command goes "
        "on where it ended. A scan that cannot be worked with is listed in DIR/failed.tsv and "
        "left out; the exit status is then 3.",
    )
    shared.add_cohort_source(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the results"
    )
    parser.add_argument(
        "--channels",
        nargs="+",
        default=["flair", "t1"],
        metavar="CHANNEL",
        help="the images of a scan, by the table's columns; default: flair t1",
    )
    parser.add_argument(
        "--fixed",
        metavar="CHANNEL",
        help="the image that the others are registered to, whose grid the results have; default: "
        f"{_FIXED}",
    )
    parser.add_argument(
        "--mask-on",
        metavar="CHANNEL",
        help="the image that references or instances were drawn on; they are resampled with it; "
        "default: the fixed one",
    )
    parser.add_argument(
        "--transform",
        choices=("rigid", "affine"),
        default="rigid",
        help="default: %(default)s, which suits images of one session",
    )
    parser.add_argument(
        "--skip-registration",
        action="store_true",
        help="the images of a scan lie on one grid already",
    )
    parser.add_argument("--skip-bias", action="store_true", help="leave bias fields as they are")
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="how many scans are prepared at once, on a core each; default: one per CPU core",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="prepare all scans again, also those that are done"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.preparation.run import prepare_cohort
    from jaxsal.preparation.settings import PreparationSettings

    settings = PreparationSettings(
        channels=tuple(options.channels),
        fixed=_fixed(options),
        transform=options.transform,
        register=not options.skip_registration,
        correct_bias=not options.skip_bias,
        mask_on=options.mask_on,
    )
    _check(options)
    counts: Counter[str] = Counter()
    with ProgressBar() as bar:
        bar.stage("finding scans")
        entries = shared.cohort_entries(options, settings.channels, "--channels")
        bar.stage("preparing")

        def show(record: ScanRecord, is_new: bool) -> None:
            counts[record.status] += 1
            counts["new"] += is_new
            if is_new:
                bar.say(_line(record))
            bar.count(counts["finished"] + counts["failed"], len(entries), "scans")

        try:
            prepare_cohort(
                entries, options.out, settings, options.processes, show, overwrite=options.overwrite
            )
        except KeyboardInterrupt as interrupt:
            done = f"{counts['finished']} of {len(entries)} scans are finished"
            message = f"interrupted; {done}, the same command goes on from there"
            raise type(interrupt)(message) from interrupt
    print(_summary(counts, options.out))
    return _FAILED_SCANS if counts["failed"] else 0


def _fixed(options: argparse.Namespace) -> str:
    if options.fixed is None and _FIXED not in options.channels:
        raise InputError(
            f"the default of --fixed, {_FIXED}, is not among --channels "
            f"{' '.join(options.channels)}: name the image to register to with --fixed"
        )
    return options.fixed or _FIXED


def _check(options: argparse.Namespace) -> None:
    """The cohort must not be written over."""
    source, out = options.cohort.resolve(), options.out.resolve()
    if source == out or source.parent == out:
        raise InputError(f"{options.cohort} is what is to be prepared: give another --out")


def _line(record: ScanRecord) -> str:
    reason = " ".join(record.reason.split())
    if record.status == "failed":
        return f"{record.id} FAILED: {reason}"
    return f"{record.id}: {record.seconds:.1f} s{f'; {reason}' if reason else ''}"


def _summary(counts: Counter[str], out: Path) -> str:
    scans = counts["finished"] + counts["failed"]
    parts = [
        f"{scans} scan{'' if scans == 1 else 's'}, {counts['new']} of them now: "
        f"{counts['finished']} finished"
    ]
    if counts["failed"]:
        parts.append(f"{counts['failed']} failed, see {out / 'failed.tsv'}")
    if counts["finished"]:
        parts.append(f"look at the pictures in {out}/sub-*/figures")
    return f"{'; '.join(parts)}; the prepared cohort is {out / 'cohort.tsv'}"
