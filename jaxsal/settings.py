"""Settings of the commands that work on one scan, with their defaults.

Imports nothing heavy, so that the command line can show them at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from jaxsal.errors import InputError

Aggregate = Literal["max", "mean", "sum"]
NoiseScale = Literal["range", "absolute"]

AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
NOISE_SCALES: tuple[NoiseScale, ...] = get_args(NoiseScale)
FIELDS = ("sliding", "whole")
LEVELS = ("instance", "class")
METHODS = ("smoothgrad",)
PRECISIONS = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True)
class PredictSettings:
    """How logits are computed and lesions found.

    Attributes:
        field: "sliding" or "whole": windows as in MONAI's sliding-window inference, or the whole
            volume at once.
        roi: window size in voxels per axis.
        overlap: share of a window that the next one covers again.
        threshold: lesion probability at and above which a voxel is lesion; None: the model's.
        target: output channel of the lesion class.
        minimum_volume: components must be larger than this, in mm³.
    """

    field: str = "sliding"
    roi: tuple[int, int, int] = (96, 96, 96)
    overlap: float = 0.25
    threshold: float | None = None
    target: int = 1
    minimum_volume: float = 5.0

    def __post_init__(self) -> None:
        _one_of("field", self.field, FIELDS)
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise InputError(f"threshold must be between 0 and 1, got {self.threshold}")
        if not 0 <= self.minimum_volume < math.inf:
            raise InputError(f"minimum volume must be zero or more, got {self.minimum_volume}")


@dataclass(frozen=True)
class ExplainSettings:
    """How the maps are computed; see `jaxsal.smoothgrad` for the meaning of most.

    Attributes:
        method: one of `METHODS`.
        level: "instance": a map per lesion; "class": one of all segmented voxels.
        aggregate: of single-voxel gradients over a lesion; for the instance level only.
        samples: number of noisy images.
        noise: level of the noise.
        noise_scale: what it is relative to.
        seed: of the noise.
        labels: which lesions to explain; None: all.
        field: what is differentiated: the sliding window's blended logits, or the whole volume's.
            Lesions are found by the sliding window in any case, as in the published scripts.
        full_grid: write maps on the image's grid rather than cropped.
        memory: bytes to stay within; None: a share of what the device has.
        pictures: draw a picture of every lesion, and a page over them.
    """

    method: str = "smoothgrad"
    level: str = "instance"
    aggregate: Aggregate = "max"
    samples: int = 50
    noise: float = 0.05
    noise_scale: NoiseScale = "range"
    seed: int = 0
    labels: tuple[int, ...] | None = None
    field: str = "sliding"
    full_grid: bool = False
    memory: int | None = None
    pictures: bool = True

    def __post_init__(self) -> None:
        _one_of("method", self.method, METHODS)
        _one_of("level", self.level, LEVELS)
        _one_of("aggregate", self.aggregate, AGGREGATES)
        _one_of("noise scale", self.noise_scale, NOISE_SCALES)
        _one_of("field", self.field, FIELDS)
        if self.samples < 1:
            raise InputError(f"samples must be at least 1, got {self.samples}")
        if not 0 <= self.noise < math.inf:
            raise InputError(f"noise must be a level of zero or more, got {self.noise}")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"seed must be from 0 to 2147483647, got {self.seed}")
        if self.memory is not None and self.memory <= 0:
            raise InputError(f"memory must be more than zero, got {self.memory} bytes")
        if self.level == "class" and self.labels is not None:
            raise InputError("labels choose lesions; they do not go with the class level")

    @property
    def name(self) -> str:
        """The method as it appears in file names."""
        return f"{self.method}-{self.aggregate}" if self.level == "instance" else self.method


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}; got {value!r}")
