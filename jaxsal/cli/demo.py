"""``jaxsal demo``: the whole job on a bundled model and a synthetic brain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.cli.explain import lesions_of
from jaxsal.cli.interruption import keeping
from jaxsal.options import option


@dataclass(frozen=True)
class _Demo:
    """Where it goes."""

    out: Path = option(Path("jaxsal-demo"), "DIR", help="folder for the scan and its results")
    overwrite: bool = shared.overwrite_option("maps and pictures")


def run(given: Given) -> None:
    """Runs the command."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.demo.run import run_demo

    demo = given.of(_Demo)
    with (
        shared.computing(given),
        ProgressBar() as bar,
        keeping(lesions_of(demo.out / "results")),
    ):
        results = run_demo(
            demo.out,
            precision=given.of(shared.Computing).precision,
            overwrite=demo.overwrite,
            on_stage=bar.stage,
            on_progress=bar.update,
            on_note=bar.say,
        )
    print(f"Open {results / 'index.html'} in a browser; the maps are under {results / 'maps'}.")


COMMAND = Command(
    "Writes a synthetic FLAIR and T1 scan with its true lesions under DIR/scan, and explains it "
    "with a small bundled network into DIR/results.",
    (group(_Demo), shared.COMPUTING),
    run,
    configurable=False,
)
