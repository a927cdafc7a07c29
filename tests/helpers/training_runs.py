"""A tiny cohort with references, and tiny trainings on it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from helpers.tiny import SHAPE, make_scan, oblique_affine, save

from jaxsal.model import Model
from jaxsal.progress import Silence
from jaxsal.training.config import read_config
from jaxsal.training.run import Trained, train

__all__ = ["CONFIG", "Model", "Trained", "train"]

CONFIG = """
[data]
cohort = "scans.tsv"
channels = ["flair", "t1"]
validation = ["s2"]

[network]
kind = "unet"
channels = [4, 6]
strides = [2]
norm = "batch"
kernel_size = 1
up_kernel_size = 1

[patches]
size = 16
workers = 0

[augmentation]
rotations = false
affine_probability = 0.0

[loss]
lesion_load = 0.03

[optimiser]
rate = 0.02
warm_up = 0

[run]
steps = 6
log_every = 2
save_every = 3
validate_every = 3
"""


def make_cohort(folder: Path) -> Path:
    """Three scans with their lesions, listed in a table beside them."""
    lines = ["scan\tsubject\tflair\tt1\treference"]
    lesions = np.zeros(SHAPE, np.uint8)
    for x, y, z in ((8, 10, 9), (15, 18, 11), (14, 7, 6)):  # where `make_scan` has its spots
        lesions[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = 1
    for number in range(3):
        place = folder / f"s{number}"
        place.mkdir(parents=True)
        scan = make_scan(place, seed=number)
        reference = save(place / "lesions.nii.gz", lesions, oblique_affine())
        lines.append(
            "\t".join([f"s{number}", f"s{number}", *map(str, scan.images), str(reference)])
        )
    table = folder / "scans.tsv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table


def write_config(folder: Path, changes: dict[str, str] | None = None, more: str = "") -> Path:
    """The configuration with some text replaced, and more of it at the end."""
    text = CONFIG
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "train.toml"
    path.write_text(text + more, encoding="utf-8")
    return path


class Watched(Silence):
    """A monitor that calls functions instead of showing.

    Args:
        step: called with the number of batches so far.
        stage: with what is being done.
    """

    def __init__(
        self,
        step: Callable[[int], object] = lambda done: None,
        stage: Callable[[str], object] = lambda name: None,
    ) -> None:
        self._step, self._stage = step, stage
        self.said: list[str] = []
        self.read: list[tuple[int, int]] = []

    def stage(self, name: str) -> None:
        self._stage(name)

    def say(self, line: str) -> None:
        self.said.append(line)

    def count(self, done: int, total: int, things: str) -> None:
        if things == "scans":
            self.read.append((done, total))
        else:
            self._step(done)


def run(config: Path, out: Path, **options: Any) -> Trained:
    """A training on one device."""
    return train(read_config(config), out, devices=jax.devices()[:1], **options)


if __name__ == "__main__":  # python runs.py CONFIG OUT STEP: killed when it comes to that step
    import os
    import signal

    def die(done: int) -> None:
        if done == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

    run(Path(sys.argv[1]), Path(sys.argv[2]), monitor=Watched(die))
