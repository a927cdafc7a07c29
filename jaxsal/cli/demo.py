"""``jaxsal demo``: the whole job on a bundled model and a synthetic brain."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsal.cli import options as shared
from jaxsal.cli.explain import keeping_lesions


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "demo",
        help="the whole job on a bundled model and a synthetic brain; needs no file",
        description="Writes a synthetic FLAIR and T1 scan with its true lesions under DIR/scan, "
        "and explains it with a small bundled network into DIR/results.",
    )
    parser.add_argument("--out", type=Path, default=Path("jaxsal-demo"), metavar="DIR")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier demo")
    shared.add_device(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.demo.run import run_demo

    with (
        shared.computing(options),
        ProgressBar() as bar,
        keeping_lesions(options.out / "results"),
    ):
        results = run_demo(
            options.out,
            precision=options.precision,
            overwrite=options.overwrite,
            on_stage=bar.stage,
            on_progress=bar.update,
            on_note=bar.say,
        )
    print(f"Open {results / 'index.html'} in a browser; the maps are under {results / 'maps'}.")
