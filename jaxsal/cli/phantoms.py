"""``jaxsal phantoms``: synthetic patients as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxsal.cli.command import Command, Given, group
from jaxsal.options import option
from jaxsal.wording import counted


@dataclass(frozen=True)
class _Phantoms:
    """Patients.

    Attributes:
        out: folder, new or empty.
        scans: number of patients.
        lesions: lesions of each.
        seed: seed of the first patient; the others take the next numbers.
        spacing: voxel size in mm, from 1 to 4.
    """

    out: Path = option(metavar="DIR")
    scans: int = option(4, "N")
    lesions: int = option(12, "N")
    seed: int = option(0, "N")
    spacing: float = option(1.5, "MM")


def run(given: Given) -> None:
    """Runs the command."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.demo.cohort import write_cohort
    from jaxsal.demo.phantom import field_of_view

    wanted = given.of(_Phantoms)
    with ProgressBar() as bar:
        bar.stage("drawing")
        table = write_cohort(
            wanted.out,
            wanted.scans,
            lesions=wanted.lesions,
            seed=wanted.seed,
            shape=field_of_view(wanted.spacing),
            spacing=wanted.spacing,
            on_scan=lambda done: bar.count(done, wanted.scans, "patients"),
        )
    print(f"{counted(wanted.scans, 'patient')} in {table}")


COMMAND = Command(
    "Writes synthetic heads with lesions, FLAIR and T1 with the true lesions of each, and "
    "scans.tsv, a table of them as the other commands take it.",
    (group(_Phantoms),),
    run,
    configurable=False,
)
