"""``jaxsal train``: a network from a configuration; the same command goes on where it ended."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared
from jaxsal.errors import InputError
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.training.run import Trained

EXAMPLES = ("unet", "nnunet", "swin-unetr", "phantom")


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "train",
        help="train a network on a cohort with references (needs the extra: jaxsal[train])",
        description="Trains a network as a TOML file says, and validates it on whole scans. DIR "
        "then holds the model directories best and last, and log.tsv. The same command goes on "
        "with a training that was interrupted or killed. Begin with `jaxsal train --example unet > "
        "train.toml`.",
    )
    parser.add_argument("config", type=Path, nargs="?", metavar="CONFIG", help="the TOML file")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--example",
        choices=EXAMPLES,
        help="print a configuration of one of the paper's networks, ready to be adapted, or of a "
        "small one for synthetic patients",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="instead of the file's [run] steps")
    parser.add_argument(
        "--overwrite", action="store_true", help="begin anew, in place of an earlier training"
    )
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="cpu, gpu or tpu for all of this machine, which share each batch, or one of them as "
        "gpu:1; default: all of the best kind",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    if options.example:
        print(_example(options), end="")
        return
    if options.config is None or options.out is None:
        raise InputError(
            "give a configuration and --out DIR, or --example NAME for a configuration"
        )
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.training.config import read_config

    config = read_config(options.config)
    if options.steps is not None:
        config = config.with_steps(options.steps)
    options.precision = config.run.precision
    with shared.computing(options, everywhere=True) as devices, ProgressBar() as bar:
        from jaxsal.training.run import train

        trained = train(
            config,
            options.out,
            devices=devices,
            overwrite=options.overwrite,
            monitor=bar,
        )
    _tell(trained)


def _example(options: argparse.Namespace) -> str:
    from importlib.resources import files

    given = (options.config, options.out, options.device, options.steps)
    if options.overwrite or any(each is not None for each in given):
        raise InputError("--example prints a configuration and takes nothing else")
    folder = files("jaxsal.training") / "configurations"
    return (folder / f"{options.example}.toml").read_text(encoding="utf-8")


def _tell(trained: Trained) -> None:
    """Prints how it ended."""
    print(
        f"{trained.ended}; {counted(trained.training, 'scan')} to train on, {trained.validation} "
        f"to validate on, {counted(trained.devices, 'device')}, "
        f"{trained.seconds:.0f} s in all"
    )
    if trained.patches_per_second is not None:
        print(f"{trained.patches_per_second:.3g} patches per second")
    if best := trained.best:
        print(
            f"best at step {best['step']}: normalised Dice {best['ndsc']:.3f}, Dice "
            f"{best['dice']:.3f}, TPR {best['tpr']:.2f}, FDR {best['fdr']:.2f} at the threshold "
            f"{best['threshold']:g}, chosen on the same "
            f"{counted(int(best['scans']), 'scan')}"
        )
    for name, path in trained.models.items():
        print(f"{name}: {path}")
