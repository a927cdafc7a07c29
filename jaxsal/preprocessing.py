"""What a network expects of its images, and how its logits are read: carried by the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from jaxsal.box import Box
from jaxsal.errors import InputError, require_one_of
from jaxsal.resampling import PERMITS, Permit, Resampling
from jaxsal.settings import WINDOWS, Windows
from jaxsal.types import Triple

SCHEMES = ("zscore", "ct", "rescale", "rgb", "none")
PROBABILITIES = ("softmax", "sigmoid")

_LEAST_STD = 1e-8  # nnU-Net's guard against constant images
_RGB_MAX = 255


@dataclass(frozen=True)
class Normalisation:
    """How the intensities of one channel are normalised.

    Attributes:
        scheme: "zscore" by the image's own mean and standard deviation; "ct" clips to a range and
            uses the training set's; "rescale" to 0 … 1; "rgb" divides by 255; "none".
        masked: "zscore" only: within the voxels that are not 0 in all channels, holes filled;
            the others stay as they are.
        mean: "ct" only, as the following: of the training set's foreground.
        std: its standard deviation.
        lower: intensities below become this.
        upper: intensities above become this.
    """

    scheme: str
    masked: bool = False
    mean: float = 0.0
    std: float = 1.0
    lower: float = 0.0
    upper: float = 0.0

    def __post_init__(self) -> None:
        require_one_of("normalisation", self.scheme, SCHEMES)
        if self.scheme == "ct" and not (self.lower < self.upper and self.std >= 0):
            raise InputError(
                "ct normalisation needs a range of intensities and a standard deviation; got "
                f"{self.lower} to {self.upper} and {self.std}"
            )

    def apply(self, channel: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The normalised channel (X, Y, Z), float32, of one and the scan's mask."""
        x = channel.astype(np.float32)
        if self.scheme == "zscore":
            return _zscore(x, mask if self.masked else np.ones_like(mask))
        if self.scheme == "ct":
            return (np.clip(x, self.lower, self.upper) - self.mean) / max(self.std, _LEAST_STD)
        if self.scheme == "rescale":
            x = x - x.min()
            return x / np.clip(x.max(), _LEAST_STD, None)
        return x / _RGB_MAX if self.scheme == "rgb" else x


def _zscore(x: np.ndarray, where: np.ndarray) -> np.ndarray:
    if not where.any():
        return x
    inside = x[where].astype(np.float64)
    scaled = ((x - inside.mean()) / max(inside.std(), _LEAST_STD)).astype(np.float32)
    return np.where(where, scaled, x)


@dataclass(frozen=True)
class Preprocessing:
    """What the network's training did to images, which its input must undergo as well.

    Attributes:
        normalisation: of each channel; None: z-scored over what is no background, as
            `jaxsal.read_image` says.
        spacing: voxel size in mm along X, Y, Z; None for any, or where the source does not say.
        roi: window size in voxels; None if the source does not say.
        overlap: share of a window that the next one covers again, likewise.
        orientation: axis codes such as "RAS" that images are brought to; None: taken as they are.
        mirror_axes: axes, 0 … 2, along which training mirrored, so that inference may average
            over mirrored images; () if it mirrored along none, None if the source does not say.
        windows: whose rules place and weight windows; see `jaxsal.sliding_window`.
        crop: whether the network is given only the `box` of an image.
        resampling: how images of other voxel sizes are brought to `spacing`; None if the source
            does not say: by cubic splines.
        permit: which images may be; one of `jaxsal.resampling.PERMITS`.
        any_voxel_size: take images, too, whose voxels no scanner makes; see
            `jaxsal.network_grid.require_plausible`.
    """

    normalisation: tuple[Normalisation, ...] | None = None
    spacing: tuple[float, float, float] | None = None
    roi: Triple | None = None
    overlap: float | None = None
    orientation: str | None = None
    mirror_axes: tuple[int, ...] | None = None
    windows: Windows = "monai"
    crop: bool = False
    resampling: Resampling | None = None
    permit: Permit = "moderate"
    any_voxel_size: bool = False

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `to_json`.

        Raises:
            InputError: an entry is missing, unknown or out of its range.
        """
        try:
            values = dict(record)
            channels = values.pop("normalisation")
            lists: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
            }
            schemes = None if channels is None else tuple(Normalisation(**c) for c in channels)
            rules = lists.pop("resampling", None)
            return cls(schemes, **lists, resampling=rules and Resampling.from_json(rules))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the preprocessing is incomplete or was changed: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        record = asdict(self)
        if not self.any_voxel_size:  # as records had it before there was a choice
            del record["any_voxel_size"]
        return record

    def __post_init__(self) -> None:
        sizes = (1.0, 1.0, 1.0) if self.spacing is None else self.spacing
        if len(sizes) != 3 or not all(0 < size < math.inf for size in sizes):
            raise InputError(f"spacing must be three sizes in mm, got {sizes}")
        check_window(self.roi, self.overlap)
        if self.orientation is not None:
            check_axes(self.orientation)
        axes = self.mirror_axes or ()
        if len({*axes} & {0, 1, 2}) != len(axes):
            raise InputError(
                f"mirror_axes must be different ones of 0, 1 and 2, got {self.mirror_axes}"
            )
        for name in ("crop", "any_voxel_size"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be true or false, got {getattr(self, name)!r}")
        require_one_of("windows", self.windows, WINDOWS)
        require_one_of("permit", self.permit, PERMITS)

    def of(self, channel: int) -> Preprocessing:
        """What an image of this channel alone must undergo."""
        return replace(self, normalisation=self.normalisation and (self.normalisation[channel],))

    def completed(
        self, orientation: str | None, spacing: tuple[float, float, float] | None
    ) -> Preprocessing:
        """With axes and voxel size that the network's source does not state; None: not given.

        Raises:
            InputError: it does, and states something else.
        """
        stated = {"orientation": self.orientation, "spacing": self.spacing}
        given = {"orientation": orientation, "spacing": spacing}
        for name, value in given.items():
            if value is not None and stated[name] not in (None, value):
                raise InputError(
                    f"the network's source says that its {name} is {stated[name]}; got {value}: "
                    "leave it out"
                )
        new: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return replace(self, **new)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Normalises every channel of an image (X, Y, Z, C); float32.

        As nnU-Net v2's ``DefaultPreprocessor`` does within the box of the voxels that are not 0
        in all channels; outside of it there is nothing that its networks ever see.

        Raises:
            InputError: the number of channels differs, or no normalisation is known.
        """
        schemes = self.normalisation or ()
        if image.ndim != 4 or image.shape[-1] != len(schemes):
            raise InputError(
                f"an image needs axes (X, Y, Z, C) with {len(schemes)} channels, whose "
                f"normalisation is known; got an array of shape {image.shape}"
            )
        mask = ndimage.binary_fill_holes((image != 0).any(-1))
        inside = (Box.of(mask) or Box.whole(mask.shape)).slices
        result = np.zeros(image.shape, np.float32)
        for c, normalisation in enumerate(schemes):
            result[inside][..., c] = normalisation.apply(image[inside][..., c], mask[inside])
        return result

    def box(self, image: np.ndarray) -> Box:
        """The part of an image (X, Y, Z, C), before it is normalised, that the network is given.

        With ``crop``, the smallest box of all voxels that are not 0 in all channels, as nnU-Net
        v2's ``crop_to_nonzero`` cuts it out; else, and without such voxels, the whole image.
        """
        found = Box.of((image != 0).any(-1)) if self.crop else None
        return found or Box.whole(image.shape[:3])

    @property
    def rules(self) -> Resampling:
        """How images of other voxel sizes are resampled."""
        return self.resampling or Resampling()


def check_window(roi: Triple | None, overlap: float | None) -> None:
    """Raises InputError unless these can be a window's size and overlap; None stands for any."""
    if roi is not None and (len(roi) != 3 or not all(isinstance(n, int) and n > 0 for n in roi)):
        raise InputError(f"roi must be three whole numbers of voxels, got {roi}")
    if overlap is not None and not 0 <= overlap < 1:
        raise InputError(f"overlap must be in [0, 1), got {overlap}")


def check_axes(axes: str) -> None:
    """Raises InputError unless these are axis codes, such as "RAS"."""
    sides = sorted("LR" if c in "LR" else "AP" if c in "AP" else "IS" for c in str(axes))
    if len(str(axes)) != 3 or set(axes) - set("LRAPIS") or len({*sides}) != 3:
        raise InputError(
            "an orientation is three letters, where the array axes run to: one of L and R, of A "
            f"and P, and of I and S, such as RAS; got {axes!r}"
        )


@dataclass(frozen=True)
class Outputs:
    """What the network's output channels mean.

    Attributes:
        names: of each channel.
        probability: how probabilities come of logits: "softmax" over the channels, which exclude
            each other, or "sigmoid" of each channel, which is a region of its own.
        target: the channel of the lesion class; None if the source does not say.

    Raises:
        InputError: there is no name, two are the same, or the target is none of the channels.
    """

    names: tuple[str, ...]
    probability: str = "softmax"
    target: int | None = None

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Outputs:
        """The inverse of `to_json`.

        Raises:
            InputError: an entry is missing or unknown.
        """
        try:
            return cls(tuple(record["names"]), record["probability"], record.get("target"))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the outputs are incomplete or were changed: {error!r}") from error

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    def __post_init__(self) -> None:
        require_one_of("probability", self.probability, PROBABILITIES)
        if not self.names or not all(isinstance(n, str) and n.strip() for n in self.names):
            raise InputError(f"each output needs a name, got {list(self.names)}")
        if len(set(self.names)) < len(self.names):
            raise InputError(f"names of outputs must differ, got {', '.join(self.names)}")
        if self.target is not None and self.target not in range(len(self.names)):
            raise InputError(
                f"target must be one of the {len(self.names)} outputs, counted from 0; got "
                f"{self.target!r}"
            )

    @property
    def lesion(self) -> int | None:
        """The channel of the lesion class: the target, else 1, or the only one.

        None where several regions overlap and the source does not say which one is the lesion.
        """
        if self.target is not None:
            return self.target
        if len(self.names) == 1:
            return 0
        return 1 if self.probability == "softmax" else None

    def index(self, name: str) -> int:
        """The channel of that name.

        Raises:
            InputError: there is none.
        """
        if name not in self.names:
            raise InputError(
                f"the network has no output {name!r}; its outputs are {', '.join(self.names)}"
            )
        return self.names.index(name)
