"""Arguments of Captum's methods as settings of ours; those without a meaning here are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from jaxsal import SmoothGradSettings
from jaxsal.errors import InputError, require_one_of
from jaxsal.registry import METHODS

if TYPE_CHECKING:
    from jaxsal.saliency.maps import Crop

Stdevs = float | torch.Tensor | ArrayLike | tuple[float | torch.Tensor]

_NOISE_TYPES = ("smoothgrad", "smoothgrad_sq", "vargrad")
_KEYWORDS = ("domain", "devices", "on_progress")  # of `jaxsal.gradcam_plus_plus`, no settings
_GIVEN = {"target", "samples", "noise_batch"}  # settings of ours that other arguments give
# of Captum's noise tunnel, and ours
_NOISE = {"nt_type", "nt_samples", "nt_samples_batch_size", "stdevs", "noise_samples"}
# Captum's arguments that may be given with the one value that changes nothing here
_IDLE = {
    "additional_forward_args": None,
    "draw_baseline_from_distrib": False,
    "attribute_to_layer_input": False,
    "attr_dim_summation": True,
    "relu_attributions": True,
    "grad_kwargs": None,
}


def without_idle(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those of Captum's arguments that change nothing.

    Raises:
        InputError: one of these would change what is computed.
    """
    for name in settings.keys() & _IDLE.keys():
        if settings[name] is not _IDLE[name]:
            raise InputError(
                f"{name} must be {_IDLE[name]} or left out, the network being a function of its "
                f"images and a heat map a rectified sum over channels; got {settings[name]!r}"
            )
    return {name: value for name, value in settings.items() if name not in _IDLE}


def refuse_noise(settings: Mapping[str, Any]) -> None:
    """Raises InputError if one of the settings is about noise, where there is none."""
    given = sorted(settings.keys() & _NOISE)
    if given:
        raise InputError(
            f"Saliency adds no noise and takes no {', '.join(given)}: leave it out, or use "
            "InstanceSmoothGrad"
        )


def smoothgrad_settings(
    settings: Mapping[str, Any],
    channels: int,
    *,
    nt_type: str,
    nt_samples: int,
    nt_samples_batch_size: int | None,
    stdevs: Stdevs | None,
) -> SmoothGradSettings:
    """What `jaxsal.smoothgrad` takes.

    Args:
        settings: of ours, by name.
        channels: of the images.
        nt_type: as the following, of ``captum.attr.NoiseTunnel.attribute``.
        nt_samples: number of noisy images.
        nt_samples_batch_size: of them at once.
        stdevs: standard deviation of the noise.

    Raises:
        InputError: an argument is unknown or out of its range.
    """
    require_one_of("nt_type", nt_type, _NOISE_TYPES)
    own: dict[str, Any] = {
        "samples": _count("nt_samples", nt_samples),
    }
    if nt_samples_batch_size is not None:
        own["noise_batch"] = _count("nt_samples_batch_size", nt_samples_batch_size)
    if stdevs is not None:
        own |= {"noise": _deviations(stdevs, channels), "noise_scale": "absolute"}
    names = {field.name for field in fields(SmoothGradSettings)} - own.keys() - _GIVEN
    _check_names(settings, names)
    chosen = SmoothGradSettings(**own, **settings)
    wants_squares = nt_type != "smoothgrad" and nt_samples > 1
    return replace(chosen, standard_error=True) if wants_squares else chosen


def checked_settings(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings of heat maps, all of them keywords of `jaxsal.gradcam_plus_plus`.

    Args:
        settings: by name.
        name: of the method, "gradcam++" or "gradcam".

    Raises:
        InputError: one is unknown, or given by another argument.
    """
    method = METHODS[name]
    own = method.options or [field.name for field in fields(method.settings)]
    _check_names(settings, {*own, *_KEYWORDS} - {"layer", "target", "method"})
    return dict(settings)


def statistic(nt_type: str, crop: Crop) -> np.ndarray:
    """What Captum's noise tunnel makes of the maps of all noisy images, (x, y, z, C)."""
    if nt_type == "smoothgrad":
        return crop.values
    variance = np.zeros_like(crop.values) if crop.variance is None else crop.variance
    return variance if nt_type == "vargrad" else variance + crop.values**2


def channels_last(noise: torch.Tensor) -> np.ndarray:
    """Noise samples (N, C, X, Y, Z) as (N, X, Y, Z, C), float32."""
    if not isinstance(noise, torch.Tensor) or noise.ndim != 5:
        got = tuple(noise.shape) if isinstance(noise, torch.Tensor) else type(noise)
        raise InputError(f"noise_samples must be a tensor (N, C, X, Y, Z), got {got}")
    array: np.ndarray = noise.detach().to("cpu", torch.float32).movedim(1, -1).numpy()
    return array


def _check_names(settings: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(settings) - known)
    if unknown:
        raise InputError(
            f"unknown setting {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value)


def _deviations(stdevs: Stdevs, channels: int) -> float | tuple[float, ...]:
    """One for all channels, or one per channel; Captum has a tuple with an entry per input."""
    given = stdevs
    if isinstance(given, tuple):
        if len(given) != 1:
            raise InputError(
                f"stdevs, if a tuple, has one entry for each input tensor, here 1; got "
                f"{len(given)}: give a tensor for one per channel"
            )
        (given,) = given
    try:
        plain = given.detach().cpu().double() if isinstance(given, torch.Tensor) else given
        values = np.asarray(plain, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"stdevs must be numbers, got {stdevs!r}") from error
    if not (np.isfinite(values) & (values >= 0)).all():
        raise InputError(f"stdevs must be zero or more, got {stdevs!r}")
    if values.size == 1:
        return float(values.reshape(()))
    if values.shape not in {(channels,), (channels, 1, 1, 1), (1, channels, 1, 1, 1)}:
        raise InputError(
            f"stdevs must be one number, or a tensor of one per channel, ({channels},); got the "
            f"shape {values.shape}"
        )
    return tuple(values.ravel().tolist())
