"""``jaxsal train``: a network from a configuration; the same command goes on where it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given, group
from jaxsal.errors import InputError
from jaxsal.options import option
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.training.run import Trained

EXAMPLES = ("unet", "nnunet", "swin-unetr", "phantom")


@dataclass(frozen=True)
class _Training:
    """A training.

    Attributes:
        config: the TOML file.
        out: folder for the results.
        example: print a configuration of one of the paper's networks, ready to be adapted, or of a
            small one for synthetic patients.
        steps: number of batches, instead of the file's [run] steps.
        device: cpu, gpu or tpu for all of this machine, which share each batch, or one of them as
            gpu:1. None: all of the best kind.
    """

    config: Path | None = option(None, "CONFIG", positional=True)
    out: Path | None = option(None, "DIR")
    example: str | None = option(None, choices=EXAMPLES)
    steps: int | None = option(None, "N")
    overwrite: bool = shared.overwrite_option()
    device: str | None = option(None, "NAME")


def run(given: Given) -> None:
    """Runs the command."""
    asked = given.of(_Training)
    if asked.example:
        if len(given.keys() & {"config", "out", "steps", "overwrite", "device"}):
            raise InputError("--example prints a configuration and takes nothing else")
        from importlib.resources import files

        example = files("jaxsal.training") / "configurations" / f"{asked.example}.toml"
        print(example.read_text(encoding="utf-8"), end="")
        return
    if asked.config is None or asked.out is None:
        raise InputError(
            "give a configuration and --out DIR, or --example NAME for a configuration"
        )
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.training.config import read_config

    config = read_config(asked.config)
    if asked.steps is not None:
        config = config.with_steps(asked.steps)
    computing = Given(given, precision=config.run.precision)
    with shared.computing(computing, everywhere=True) as devices, ProgressBar() as bar:
        from jaxsal.training.run import train

        trained = train(config, asked.out, devices=devices, overwrite=asked.overwrite, monitor=bar)
    _print_end(trained)


def _print_end(trained: Trained) -> None:
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


COMMAND = Command(
    "Trains a network as a TOML file says, and validates it on whole scans. DIR then holds the "
    "model directories best and last, and log.tsv. The same command, without --overwrite, goes on "
    "with a training that was interrupted or killed. Begin with `jaxsal train --example unet "
    "> train.toml`.",
    (group(_Training),),
    run,
    configurable=False,
)
