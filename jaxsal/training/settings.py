"""Settings of a training but for those of patches, augmentation, loss and optimiser."""

from __future__ import annotations

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
