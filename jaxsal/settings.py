"""Settings of the commands that work on one scan or on a cohort, with their defaults.

Each is declared here once: the command line shows what the docstrings say of it; see
`jaxsal.options`. Imports nothing heavy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal, get_args

from jaxsal.errors import InputError
from jaxsal.options import option

Aggregate = Literal["max", "mean", "sum"]
NoiseScale = Literal["range", "absolute"]
Windows = Literal["monai", "nnunet"]
DomainRule = Literal["threshold", "argmax"]

Outcome = Literal["TP", "FP", "FN"]
CamMethod = Literal["gradcam", "gradcam++"]
Derivation = Literal["closed-form", "exact", "stochastic"]
Denominator = Literal["paper", "monai"]
Alignment = Literal["receptive-field", "half-pixel"]

AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
NOISE_SCALES: tuple[NoiseScale, ...] = get_args(NoiseScale)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
CAM_METHODS: tuple[CamMethod, ...] = get_args(CamMethod)
DERIVATIVES: tuple[Derivation, ...] = get_args(Derivation)
DENOMINATORS: tuple[Denominator, ...] = get_args(Denominator)
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)
FIELDS = ("sliding", "whole")
LEVELS = ("instance", "class")
METHODS = ("smoothgrad", "gradcam++", "gradcam")
WINDOWS: tuple[Windows, ...] = get_args(Windows)
DOMAIN_RULES: tuple[DomainRule, ...] = get_args(DomainRule)
OUTPUTS = ("table", "cropped", "full")
PRECISIONS = ("float32", "tf32", "bfloat16")
EXACT = "exact"  # of a signed maximum over all voxels of a lesion
FEWEST_SAMPLES = 5  # before a standard error is believed
_GIB = 2**30


def _labels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError("labels are whole numbers with commas between, such as 3,7") from error


def _gibibytes(text: str) -> int:
    """Bytes from a number of GiB."""
    try:
        return int(float(text) * _GIB)
    except (ValueError, OverflowError) as error:  # NaN, infinity
        raise ValueError("must be a number of GiB") from error


def _output(text: str) -> int | str:
    """Which of a network's outputs is meant, by number or name."""
    return int(text) if text.lstrip("-").isdigit() else text


def output_option(metavar: str = "NAME|INDEX", help: str = "", shown: str = "") -> Any:
    """One of a network's outputs."""
    return option(None, metavar, parse=_output, help=help, shown=shown)


def memory_option() -> Any:
    """Memory to stay within: bytes, which the command line takes as GiB."""
    text = "memory to stay within"
    return option(None, "GiB", parse=_gibibytes, help=text, shown="a share of what is free")


def _model_else(default: object) -> str:
    return f"the model's, else {default}"


def _seed_option() -> Any:
    return option(0, "N", help="of noise, of the choice of voxels and of probes")


@dataclass(frozen=True)
class PredictSettings:
    """How logits are computed and lesions found.

    Windows are those of `jaxsal.sliding_window`, mirrored ones of `jaxsal.Model.with_mirroring`.

    Attributes:
        field: what the network is applied to: overlapping windows ("sliding"), or the whole volume
            at once ("whole").
        threshold: lesion probability at and above which a voxel is lesion. None: the model's.
        domain: which voxels are lesion. "threshold": those whose lesion probability reaches the
            threshold; "argmax": those where lesion is the most probable of the network's classes.
        target: output channel of the lesion class. None: the model's.
        minimum_volume: lesions must be larger than this, in mm³.
        roi: window size in voxels per axis.
        overlap: share of a window that the next one covers again.
        windows: whose rules place and weight the windows.
        mirror: average logits over mirrored windows, which takes up to eight times as long;
            nnU-Net does so by default.
    """

    field: str = option("sliding", choices=FIELDS)
    threshold: float | None = option(None, "T")
    domain: DomainRule = option("threshold")
    target: int | None = output_option(
        "K", "output channel of the lesion class, by number or name (`jaxsal info`)", _model_else(1)
    )
    minimum_volume: float = option(5.0, "MM3")
    roi: tuple[int, int, int] = option(
        (96, 96, 96),
        "N",
        help="window size in voxels, one number or one per axis",
        shown=_model_else(96),
    )
    overlap: float = option(0.25, "SHARE", shown=_model_else(0.25))
    windows: Windows = option("monai", shown=_model_else("monai"))
    mirror: bool = option(False)

    def __post_init__(self) -> None:
        _one_of("field", self.field, FIELDS)
        _one_of("windows", self.windows, WINDOWS)
        _one_of("domain", self.domain, DOMAIN_RULES)
        if self.domain == "argmax" and self.threshold is not None:
            raise InputError(
                "the domain argmax takes the most probable class, whatever its probability: leave "
                f"out the threshold, or the domain; got the threshold {self.threshold}"
            )
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise InputError(f"threshold must be between 0 and 1, got {self.threshold}")
        if not 0 <= self.minimum_volume < math.inf:
            raise InputError(f"minimum volume must be zero or more, got {self.minimum_volume}")


@dataclass(frozen=True)
class SmoothGradSettings:
    """How SmoothGrad maps are computed (Spagnolo et al. 2026, Eqs. 1-3).

    Attributes:
        target: output channel whose logit is explained; for networks with a single output
            channel, 0 and 1 both mean that one. None: the model's; see `jaxsal.Model`.
        aggregate: of the single-voxel gradients over a lesion. "max": at each voxel of the map the
            one of largest magnitude, with its sign (quantitative, Eq. 3); "mean" (Eq. 2); or "sum".
        samples: number N of noisy images; with a tolerance, the largest number.
        noise: level of the Gaussian noise, or a tuple of levels, one per channel.
        noise_scale: what the level is relative to. "range": a fraction of channel 0's range;
            "absolute": it is the standard deviation, in units of the z-scored image.
        seed: of the noise, and of the choice of voxels; equal seeds give equal noise in any batch,
            window or device.
        voxels_per_lesion: an approximation of "max", for lesions of thousands of voxels: only so
            many voxels of each lesion are differentiated, a stratified sample, the same for all
            noisy images. None: all voxels, exact.
        group_size: another approximation of "max", the published scripts' own: the maximum is
            taken over gradients of the summed logits of so many consecutive voxels; 1 is exact.
        tolerance: no more noisy images are added to a lesion's map when its standard error,
            relative to the map's peak, is below this, such as 0.05. None: always all samples.
        standard_error: compute the standard error of each map over the noisy images, too.
        memory: bytes to stay within. None: a share of what is free on the device.
        voxel_batch: gradients computed at once. None: the largest batch that fits the memory and
            still lowers the time per gradient.
        noise_batch: noisy images computed at once per device. None: one, and more where lesions
            have too few voxels to make full use of a device. Results do not depend on either.
    """

    target: int | None = None
    aggregate: Aggregate = option("max")
    samples: int = option(50, "N")
    noise: float | tuple[float, ...] = option(0.05, "LEVEL", help="level of the Gaussian noise")
    noise_scale: NoiseScale = option("range")
    seed: int = _seed_option()
    voxels_per_lesion: int | None = option(None, "K")
    group_size: int = option(1, "G")
    tolerance: float | None = option(None, "T")
    standard_error: bool = option(
        False, help="save the standard error of each map beside it, as ..._se.nii.gz"
    )
    memory: int | None = memory_option()
    voxel_batch: int | None = None
    noise_batch: int | None = None

    def __post_init__(self) -> None:
        _one_of("aggregate", self.aggregate, AGGREGATES)
        _one_of("noise scale", self.noise_scale, NOISE_SCALES)
        for name in ("samples", "group_size"):
            _whole(name, getattr(self, name))
        for name in ("voxels_per_lesion", "voxel_batch", "noise_batch"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name))
        self._check_noise()
        _seed(self.seed)
        _memory(self.memory)
        self._check_approximation()
        self._check_standard_error()

    def approximation(self, voxels: int) -> str:
        """Of a lesion of so many voxels: "30 of 2984 voxels", "sums of 8 voxels", or "exact"."""
        if self.voxels_per_lesion is not None and voxels > self.voxels_per_lesion:
            return f"{self.voxels_per_lesion} of {voxels} voxels"
        if self.group_size > 1 and voxels > 1:
            return f"sums of {min(self.group_size, voxels)} voxels"
        return EXACT

    def _check_noise(self) -> None:
        if isinstance(self.noise, list):  # as JSON has it
            object.__setattr__(self, "noise", tuple(self.noise))
        levels = self.noise if isinstance(self.noise, tuple) else (self.noise,)
        if not levels or not all(0 <= level < math.inf for level in levels):
            raise InputError(
                f"noise must be a level of zero or more, or one per channel; got {self.noise}"
            )

    def gradients(self, voxels: int) -> int:
        """How many gradients a lesion of so many voxels takes per noisy image, and window."""
        if self.aggregate != "max":
            return 1
        return min(-(-voxels // self.group_size), self.voxels_per_lesion or voxels)

    def _check_approximation(self) -> None:
        used = [
            f"{name} {value}"
            for name, value, exact in (
                ("voxels_per_lesion", self.voxels_per_lesion, None),
                ("group_size", self.group_size, 1),
            )
            if value != exact
        ]
        if len(used) > 1:
            raise InputError(f"approximate in one way, not in two: {' and '.join(used)}")
        if used and self.aggregate != "max":
            raise InputError(
                f"{used[0]} approximates the signed maximum; it does not go with the aggregate "
                f"{self.aggregate!r}, whose exact map takes no longer"
            )

    def _check_standard_error(self) -> None:
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise InputError(
                f"tolerance must be between 0 and 1, a share of the peak, got {self.tolerance}"
            )
        if self.samples < 2 and self.standard_error:
            raise InputError(f"a standard error needs 2 samples or more, got {self.samples}")
        if self.samples <= FEWEST_SAMPLES and self.tolerance is not None:
            raise InputError(
                f"a tolerance is looked at after {FEWEST_SAMPLES} samples; allow more than that, "
                f"got {self.samples}"
            )


@dataclass(frozen=True)
class GradCamSettings:
    """How heat maps are computed (Spagnolo et al. 2026, Eqs. 4-10).

    Attributes:
        layer: whose activations are weighted: its name in `jaxsal info`, or the source's module
            path.
        target: as in `SmoothGradSettings`.
        method: "gradcam++", or "gradcam" for the weights of Selvaraju et al. 2017.
        derivatives: of second and third order along the layer's unit vectors, for gradcam++.
            "closed-form": taken for zero, which is exact where the network is piecewise linear
            above the layer; "exact" for any network, one unit vector after the other; or
            "stochastic", estimated by random probes.
        denominator: of the weights of gradcam++. "paper": Eq. 7, with the third derivative at the
            position itself; "monai": with its sum over all positions together with the
            activations, to compare with older maps.
        probes: number of random probes, for stochastic derivatives.
        seed: of the probes.
        keep_derivatives: keep the derivatives that maps were computed from.
        memory: bytes to stay within. None: a share of what is free on the device.
        alignment: where the layer's cells lie in the image. "receptive-field": at the centres of
            what they read; "half-pixel": dividing the window evenly, as PyTorch's ``interpolate``
            with ``align_corners=False``, MONAI and pytorch-grad-cam have it, to compare with their
            maps.
    """

    layer: str = option(metavar="NAME")
    target: int | None = None
    method: CamMethod = "gradcam++"
    derivatives: Derivation = option("closed-form")
    denominator: Denominator = option("paper")
    probes: int = option(64, "N")
    seed: int = _seed_option()
    keep_derivatives: bool = False
    memory: int | None = memory_option()
    alignment: Alignment = option("receptive-field")

    def __post_init__(self) -> None:
        _one_of("method", self.method, CAM_METHODS)
        _one_of("alignment", self.alignment, ALIGNMENTS)
        _one_of("derivatives", self.derivatives, DERIVATIVES)
        _one_of("denominator", self.denominator, DENOMINATORS)
        _whole("probes", self.probes, 2)
        _seed(self.seed)
        _memory(self.memory)
        if self.method == "gradcam" and (self.derivatives, self.denominator) != (
            "closed-form",
            "paper",
        ):
            raise InputError(
                "derivatives and denominator are those of gradcam++'s weights; gradcam has none; "
                f"got {self.derivatives!r} and {self.denominator!r}"
            )


@dataclass(frozen=True)
class ExplainSettings:
    """How a scan is explained: the settings of a method, and what becomes of its maps.

    The target is that of the prediction's settings, whatever is given here.

    Attributes:
        saliency: how maps are computed, which determines the method.
        level: a map per lesion ("instance"), or one of all segmented voxels ("class"), to which
            SmoothGrad's aggregate and its approximations do not apply.
        labels: which lesions to explain, by their labels. None: all.
        kinds: which of them, by what they are against the reference: found (TP), false alarms (FP),
            missed (FN). None: of any kind.
        max_voxels: which of them, by size: those of at most so many voxels. None: of any size.
        field: what is differentiated: the blended logits of the windows ("sliding"), or those of
            the whole volume ("whole"). Lesions are found by sliding window in any case, as in the
            published scripts.
        full_grid: write maps on the image's grid, not cropped to where they can be non-zero.
        pictures: draw a picture of every lesion, and a page over them.
        portion: lesions are computed, and kept, together until they take this many gradients per
            noisy image: what an interrupted run has to do again at most, but for larger lesions
            and for heat maps, of which all are computed together.
    """

    saliency: SmoothGradSettings | GradCamSettings = field(default_factory=SmoothGradSettings)
    level: str = option("instance", choices=LEVELS)
    labels: tuple[int, ...] | None = option(None, "3,7", parse=_labels)
    kinds: tuple[Outcome, ...] | None = option(None, flag="kind")
    max_voxels: int | None = option(None, "N")
    field: str = option("sliding", choices=FIELDS)
    full_grid: bool = option(False)
    pictures: bool = option(True, help="write no pictures and no page")
    portion: int = 30

    def __post_init__(self) -> None:
        _one_of("level", self.level, LEVELS)
        _one_of("field", self.field, FIELDS)
        _whole("portion", self.portion)
        for kind in self.kinds or ():
            _one_of("kind", kind, OUTCOMES)
        if self.max_voxels is not None:
            _whole("max_voxels", self.max_voxels)
        if self.level == "class" and (self.labels, self.kinds, self.max_voxels) != (None,) * 3:
            raise InputError(
                "labels, kinds and a largest number of voxels choose lesions; they do not go with "
                "the class level"
            )
        if self.level == "class" and self._is_approximate():
            raise InputError(
                "voxels_per_lesion and group_size approximate the signed maximum of a lesion; "
                "they do not go with the class level"
            )

    def _is_approximate(self) -> bool:
        of = self.saliency
        if not isinstance(of, SmoothGradSettings):
            return False
        return of.voxels_per_lesion is not None or of.group_size != 1

    @property
    def method(self) -> str:
        """One of `METHODS`."""
        of = self.saliency
        return "smoothgrad" if isinstance(of, SmoothGradSettings) else of.method

    @property
    def name(self) -> str:
        """The method as it appears in file names."""
        if self.level == "instance" and isinstance(self.saliency, SmoothGradSettings):
            return f"{self.method}-{self.saliency.aggregate}"
        return self.method


@dataclass(frozen=True)
class CohortSettings:
    """How the scans of a cohort are explained: lesion by lesion, by one or more methods.

    Attributes:
        saliency: the methods; SmoothGrad, Grad-CAM++ and Grad-CAM once each at most. Their target
            is that of the prediction's settings, as in `ExplainSettings`.
        field: as in `ExplainSettings`.
        output: what is kept. "table": statistics of each lesion's maps; "cropped": also the maps
            where they can be non-zero; "full": also the maps, on the image's grid.
        portion: lesions of a scan are computed, and recorded, together until they have this many
            voxels. It is what an interrupted run has to do again at most, but for larger lesions
            and for heat maps, of which all of a scan's are computed together.
    """

    saliency: tuple[SmoothGradSettings | GradCamSettings, ...] = field(
        default_factory=lambda: (SmoothGradSettings(),)
    )
    field: str = "sliding"
    output: str = option("cropped", choices=OUTPUTS)
    portion: int = option(500, "VOXELS")

    def __post_init__(self) -> None:
        _one_of("field", self.field, FIELDS)
        _one_of("output", self.output, OUTPUTS)
        _whole("portion", self.portion)
        methods = [method.method for method in self.methods]
        if not methods or len(set(methods)) < len(methods):
            raise InputError(
                f"give one or more methods, each of them once; got {', '.join(methods) or 'none'}"
            )

    @property
    def methods(self) -> tuple[ExplainSettings, ...]:
        """The settings of each method."""
        return tuple(
            ExplainSettings(saliency, field=self.field, pictures=False)
            for saliency in self.saliency
        )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}; got {value!r}")


def _whole(name: str, value: object, least: int = 1) -> None:
    if not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value}")


def _seed(value: int) -> None:
    if not isinstance(value, Integral) or not 0 <= value < 2**31:
        raise InputError(f"seed must be from 0 to 2147483647, got {value}")


def _memory(value: int | None) -> None:
    if value is not None and value <= 0:
        raise InputError(f"memory must be more than zero, got {value} bytes")
