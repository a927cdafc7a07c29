"""Settings of a training but for those of patches, augmentation and loss."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from jaxsal.errors import InputError, require
from jaxsal.evaluation.thresholds import thresholds_between
from jaxsal.settings import PRECISIONS


@dataclass(frozen=True)
class DataSettings:
    """Which scans a network is trained and validated on.

    Attributes:
        cohort: a table of scans or a BIDS folder, as for ``jaxsal cohort``.
        channels: a name per channel of the images, in the network's order; () for those of the
            model that training begins from.
        validation: share of the subjects to validate on, or names of subjects or scans.
        select: of a BIDS folder, which images are meant, by channel or "reference".
        cache: folder for uncompressed copies of the scans; None: within the folder of the run.
    """

    cohort: Path
    channels: tuple[str, ...] = ()
    validation: float | tuple[str, ...] = 0.2
    select: dict[str, dict[str, str]] = field(default_factory=dict)
    cache: Path | None = None

    def __post_init__(self) -> None:
        if isinstance(self.validation, float) and not 0 <= self.validation < 1:
            raise InputError(
                "validation must be a share from 0 to below 1, or names of subjects; got "
                f"{self.validation:g}"
            )


@dataclass(frozen=True)
class RunSettings:
    """How long a training takes, and what is done on the way. A step is one batch of patches.

    Attributes:
        steps: number of batches.
        log_every: steps between rows of the table of losses.
        save_every: steps between checkpoints to resume from.
        validate_every: steps between validations.
        patience: training ends after so many validations without a better one; 0: never early.
        keep: number of checkpoints that are kept.
        seed: of initial weights, split, patches, augmentation and dropout.
        precision: arithmetic of the network, one of `jaxsal.settings.PRECISIONS`; weights, losses
            and updates are float32.
        rematerialise: for Swin UNETR: compute activations again rather than keep them.
        thresholds: lowest, highest and step of the lesion probabilities that validation chooses
            the model's threshold from.
        overlap: share of a window that the next one covers again, in validation.
        minimum_volume: predicted lesions must be larger than this, in mm³.
        tensorboard: write the figures for TensorBoard, too.
    """

    steps: int = 20_000
    log_every: int = 50
    save_every: int = 500
    validate_every: int = 1000
    patience: int = 0
    keep: int = 2
    seed: int = 0
    precision: str = "float32"
    rematerialise: bool = False
    thresholds: tuple[float, float, float] = (0.1, 0.5, 0.05)
    overlap: float = 0.25
    minimum_volume: float = 5.0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "save_every", "validate_every", "keep"):
            require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        require(self.patience >= 0, "patience", "0 (never) or more", self.patience)
        require(0 <= self.seed < 2**31, "seed", "from 0 to 2147483647", self.seed)
        known = ", ".join(PRECISIONS)
        require(self.precision in PRECISIONS, "precision", f"one of {known}", self.precision)
        require(0 <= self.overlap < 1, "overlap", "in [0, 1)", self.overlap)
        require(self.minimum_volume >= 0, "minimum_volume", "0 or more", self.minimum_volume)
        thresholds_between(*self.thresholds)


@dataclass(frozen=True)
class OptimiserSettings:
    """How weights follow their gradients.

    Attributes:
        rate: the highest learning rate, reached after the warm-up and decaying to 0 by a cosine.
        warm_up: number of updates over which the rate rises.
        weight_decay: of all weights, as in ``torch.optim.AdamW``.
        clip: gradients of a larger norm, that of all weights together, are scaled down to it; 0
            for none.
        accumulate: an update is made of the mean gradient of so many batches.
        momentum: what batch norm's running statistics keep at each update. 0.98 averages them over
            the last 50 updates or so, in which the decaying rate has all but stopped the weights:
            they fit the final weights. PyTorch's default, 0.1 there, is 0.9 here.
    """

    rate: float = 1e-3
    warm_up: int = 100
    weight_decay: float = 1e-2
    clip: float = 1.0
    accumulate: int = 1
    momentum: float = 0.98

    def __post_init__(self) -> None:
        require(0 < self.rate < math.inf, "rate", "more than 0", self.rate)
        require(self.warm_up >= 0, "warm_up", "0 or more", self.warm_up)
        require(0 <= self.weight_decay < 1, "weight_decay", "in [0, 1)", self.weight_decay)
        require(0 <= self.clip < math.inf, "clip", "0 (none) or more", self.clip)
        require(self.accumulate >= 1, "accumulate", "1 or more", self.accumulate)
        require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)

    @property
    def momentum_per_batch(self) -> float:
        """The momentum at each batch: several of an update must not count as several updates."""
        return float(self.momentum ** (1 / self.accumulate))
