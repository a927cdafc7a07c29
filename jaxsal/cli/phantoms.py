"""``jaxsal phantoms``: synthetic patients as files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "phantoms",
        help="write synthetic patients, to train on or to try commands with",
        description="Writes synthetic heads with lesions, FLAIR and T1 with the true lesions of "
        "each, and scans.tsv, a table of them as the other commands take it.",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder, new or empty"
    )
    parser.add_argument(
        "--scans", type=int, default=4, metavar="N", help="patients; default: %(default)s"
    )
    parser.add_argument(
        "--lesions", type=int, default=12, metavar="N", help="of each; default: %(default)s"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the first patient, the others take the next numbers; default: %(default)s",
    )
    parser.add_argument(
        "--spacing",
        type=float,
        default=1.5,
        metavar="MM",
        help="voxel size, from 1 to 4; default: %(default)s",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.demo.cohort import write_cohort
    from jaxsal.demo.phantom import field_of_view

    with ProgressBar() as bar:
        bar.stage("drawing")
        table = write_cohort(
            options.out,
            options.scans,
            lesions=options.lesions,
            seed=options.seed,
            shape=field_of_view(options.spacing),
            spacing=options.spacing,
            on_scan=lambda done: bar.count(done, options.scans, "patients"),
        )
    print(f"{options.scans} patient{'' if options.scans == 1 else 's'} in {table}")
