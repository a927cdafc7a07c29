"""Settings of the commands that work on one scan or on a cohort, with their defaults.

Each is declared here once: the command line shows what the docstrings say of it; see
`jaxsal.options`. Imports nothing heavy.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field
from typing import Any, ClassVar, Literal, Protocol, get_args

from jaxsal.errors import InputError, require, require_one_of, require_seed, require_whole
from jaxsal.options import option
from jaxsal.registry import METHODS

Windows = Literal["monai", "nnunet"]
DomainRule = Literal["threshold", "argmax"]
Infill = Literal["mean", "blurred", "zero"]  # `jaxsal.saliency.infill` has them
Outcome = Literal["TP", "FP", "FN"]
MemberKind = Literal["noise", "mirror", "folds", "dropout"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
FIELDS = ("sliding", "whole")
LEVELS = ("instance", "class")
WINDOWS: tuple[Windows, ...] = get_args(Windows)
DOMAIN_RULES: tuple[DomainRule, ...] = get_args(DomainRule)
INFILLS: tuple[Infill, ...] = get_args(Infill)
MEMBER_KINDS: tuple[MemberKind, ...] = get_args(MemberKind)
OUTPUTS = ("table", "cropped", "full")
PRECISIONS = ("float32", "tf32", "bfloat16x3", "bfloat16")
PRECISIONS_ON = {  # what each platform has of them
    "cpu": ("float32", "bfloat16"),
    "gpu": ("float32", "tf32", "bfloat16"),
    "tpu": ("float32", "bfloat16x3", "bfloat16"),
}
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


def seed_option() -> Any:
    """What random numbers are drawn from."""
    return option(0, "N", help="seed of the random numbers: of noise, of probes")


@dataclass(frozen=True)
class PredictSettings:
    """How logits are computed and lesions found.

    Windows are those of `jaxsal.sliding_window`, mirrored ones of `jaxsal.Model.with_mirroring`.

    Attributes:
        field: what the network is applied to: overlapping windows ("sliding"), or the whole volume
            at once ("whole").
        roi: window size in voxels per axis.
        overlap: share of a window that the next one covers again.
        threshold: lesion probability at and above which a voxel is lesion. None: the model's.
        domain: which voxels are lesion. "threshold": those whose lesion probability reaches the
            threshold; "argmax": those where lesion is the most probable of the network's classes.
        target: output channel of the lesion class. None: the model's.
        minimum_volume: lesions must be larger than this, in mm³.
        windows: whose rules place and weight the windows.
        mirror: average logits over mirrored windows, as nnU-Net does by default; takes up to eight
            times as long.
    """

    field: str = option("sliding", choices=FIELDS)
    roi: tuple[int, int, int] = option(
        (96, 96, 96),
        "N",
        help="window size in voxels, one number or one per axis",
        shown=_model_else(96),
    )
    overlap: float = option(0.25, "SHARE", shown=_model_else(0.25))
    threshold: float | None = option(None, "T")
    domain: DomainRule = option("threshold")
    target: int | None = output_option(
        "K", "output channel of the lesion class, by number or name (`jaxsal info`)", _model_else(1)
    )
    minimum_volume: float = option(5.0, "MM3")
    windows: Windows = option("monai", shown=_model_else("monai"))
    mirror: bool = option(False)

    def __post_init__(self) -> None:
        require_one_of("field", self.field, FIELDS)
        require_one_of("windows", self.windows, WINDOWS)
        require_one_of("domain", self.domain, DOMAIN_RULES)
        if self.domain == "argmax" and self.threshold is not None:
            raise InputError(
                "the domain argmax takes the most probable class, whatever its probability: leave "
                f"out the threshold, or the domain; got the threshold {self.threshold}"
            )
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise InputError(f"threshold must be between 0 and 1, got {self.threshold}")
        if not 0 <= self.minimum_volume < math.inf:
            raise InputError(f"minimum volume must be zero or more, got {self.minimum_volume}")


_DRAWN = ("noise", "dropout")  # members of which there are as many as are asked for


@dataclass(frozen=True)
class UncertaintySettings:
    """How uncertain a network is of a scan: by how much its members differ.

    Attributes:
        uncertainty: write maps and columns of uncertainty, from what differs between members: noisy
            copies of the image ("noise"), copies mirrored along each choice of axes ("mirror"), the
            networks of an ensemble ("folds"), or the network with its dropout ("dropout").
        members: how many noisy copies, or draws of the dropout. None: 10.
        member_noise: level of the copies' noise, as SmoothGrad's. None: 0.05.
        member_noise_scale: what the level is relative to, as for SmoothGrad: a fraction of channel
            0's range ("range"), or the standard deviation itself ("absolute"). None: range.
        member_seed: of the noise, or of the dropout. None: 0.
        candidates: write the label map candidates.nii.gz, too, of what may be missed lesions: where
            the entropy is at least this, in nats, off the lesions that were found.

    Raises:
        InputError: a value is out of range, or does not go with the members.
    """

    uncertainty: MemberKind = option("noise", shown="none")
    members: int | None = option(None, "N")
    member_noise: float | None = option(None, "LEVEL")
    member_noise_scale: Literal["range", "absolute"] | None = option(None)
    member_seed: int | None = option(None, "N")
    candidates: float | None = option(None, "NATS")

    def __post_init__(self) -> None:
        require_one_of("uncertainty", self.uncertainty, MEMBER_KINDS)
        self._take(_DRAWN, "members", 10)
        self._take(_DRAWN, "member_seed", 0)
        self._take(("noise",), "member_noise", 0.05)
        self._take(("noise",), "member_noise_scale", "range")
        if self.members is not None:
            require_whole("members", self.members, 2)
        if self.member_seed is not None:
            require_seed(self.member_seed)
        if self.member_noise is not None:
            valid = 0 < self.member_noise < math.inf
            require(valid, "member_noise", "more than zero", self.member_noise)
        if self.candidates is not None:
            valid = 0 < self.candidates < math.log(2)
            rule = "between 0 and 0.693, the natural logarithm of 2, which no entropy exceeds"
            require(valid, "candidates", rule, self.candidates)

    def _take(self, kinds: tuple[str, ...], name: str, default: float | str) -> None:
        """Puts a default in, or refuses a setting that members of these kinds alone have."""
        if self.uncertainty in kinds:
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        elif getattr(self, name) is not None:
            raise InputError(
                f"{name} is for {' and '.join(kinds)}; it does not go with the uncertainty "
                f"{self.uncertainty}: leave it out"
            )


class MethodSettings(Protocol):
    """How a saliency method computes maps: a frozen dataclass, one per method or family of them.

    Fields made by `jaxsal.option` are offered to users.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def method(self) -> str:
        """The method's name, one of `jaxsal.registry.METHODS`."""
        ...

    @property
    def target(self) -> int | None:
        """Output channel whose logit is explained; None: the model's."""
        ...

    @property
    def memory(self) -> int | None:
        """Bytes to stay within; None: a share of what is free."""
        ...


def _default_method() -> MethodSettings:
    settings: MethodSettings = METHODS["smoothgrad"].settings()
    return settings


@dataclass(frozen=True)
class ExplainSettings:
    """How a scan is explained: the settings of a method, and what becomes of its maps.

    The target is that of the prediction's settings, whatever is given here.

    Attributes:
        saliency: the method, and how it computes maps.
        level: a map per lesion ("instance"), or one of all segmented voxels ("class").
        labels: which lesions to explain, by their labels in instances.nii.gz. None: all.
        kinds: explain only lesions that are of these kinds against the reference: found (TP), false
            alarms (FP), missed (FN). None: all.
        max_voxels: explain only lesions of at most this many voxels. None: all.
        field: what is differentiated: the blended logits of the windows ("sliding"), or those of
            the whole volume ("whole"). Lesions are found by sliding window in any case, as in the
            published scripts.
        full_grid: write maps on the image's grid, not cropped to where they can be non-zero.
        pictures: draw a picture of every lesion, and a page over them.
        view: have the page hold the scan and the maps, to be looked at slice by slice.
        portion: lesions are computed, and kept, together until they take this many gradients per
            noisy image: what an interrupted run has to do again at most, but for larger lesions
            and for heat maps, of which all are computed together. `CohortSettings` counts voxels.
        uncertainty: how uncertain the network is; None: that is not asked.
    """

    saliency: MethodSettings = field(default_factory=_default_method)
    level: str = option("instance", choices=LEVELS)
    labels: tuple[int, ...] | None = option(None, "3,7", parse=_labels)
    kinds: tuple[Outcome, ...] | None = option(None, flag="kind")
    max_voxels: int | None = option(None, "N")
    field: str = option("sliding", choices=FIELDS)
    full_grid: bool = option(False)
    pictures: bool = option(True, help="write no pictures and no page")
    view: bool = option(
        True, help="write the page without its interactive view, which holds the scan and the maps"
    )
    portion: int = 30
    uncertainty: UncertaintySettings | None = None

    def __post_init__(self) -> None:
        require_one_of("level", self.level, LEVELS)
        require_one_of("field", self.field, FIELDS)
        require_whole("portion", self.portion)
        for kind in self.kinds or ():
            require_one_of("kind", kind, OUTCOMES)
        if self.max_voxels is not None:
            require_whole("max_voxels", self.max_voxels)
        if self.level == "class" and (self.labels, self.kinds, self.max_voxels) != (None,) * 3:
            raise InputError(
                "labels, kinds and a largest number of voxels choose lesions; they do not go with "
                "the class level"
            )
        METHODS[self.method].refuse(self.saliency, self.level, ())

    @property
    def method(self) -> str:
        """The method's name, one of `jaxsal.registry.METHODS`."""
        return self.saliency.method

    @property
    def name(self) -> str:
        """The method as it appears in file names."""
        return METHODS[self.method].variant(self.saliency, self.level)


@dataclass(frozen=True)
class CohortSettings:
    """How the scans of a cohort are explained: lesion by lesion, by one or more methods.

    A portion is counted in voxels; that of `ExplainSettings`, in gradients per noisy image.

    Attributes:
        saliency: the methods, each of them once. Their target is that of the prediction's settings,
            as in `ExplainSettings`.
        field: as in `ExplainSettings`.
        output: what is kept. "table": statistics of each lesion's maps; "cropped": also the maps
            where they can be non-zero; "full": also the maps, on the image's grid.
        portion: lesions of a scan are computed and recorded together until they have this many
            voxels. An interrupted run does at most these again, or a single larger lesion; heat
            maps are computed together for all of a scan's lesions.
        uncertainty: as in `ExplainSettings`.
    """

    saliency: tuple[MethodSettings, ...] = field(default_factory=lambda: (_default_method(),))
    field: str = "sliding"
    output: str = option("cropped", choices=OUTPUTS)
    portion: int = option(500, "VOXELS")
    uncertainty: UncertaintySettings | None = None

    def __post_init__(self) -> None:
        require_one_of("field", self.field, FIELDS)
        require_one_of("output", self.output, OUTPUTS)
        require_whole("portion", self.portion)
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
