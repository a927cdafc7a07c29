"""The functions by which nnU-Net's plans resample images and logits -> `jaxsal.resampling`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxsal.errors import InputError
from jaxsal.resampling import Resampling, Spline

# Arguments of nnU-Net's functions -> ours.
_ARGUMENTS = {
    "order": "order",
    "order_z": "order_apart",
    "force_separate_z": "apart",
    "separate_z_anisotropy_threshold": "anisotropy",
}
_NO_MATTER = ("is_seg", "num_threads", "device", "memefficient_seg_resampling")


@dataclass(frozen=True)
class _Function:
    """One of nnU-Net's functions.

    Attributes:
        default: what it does without arguments.
        planned: what it does with those that nnU-Net's planner gives it for images.
        logits: for logits, likewise.
        only: values that its other arguments must have.
    """

    default: Spline
    planned: Spline
    logits: Spline
    only: Mapping[str, Any]


_FUNCTIONS = {
    "resample_data_or_seg_to_shape": _Function(
        Spline(), Spline(3, apart=None), Spline(1, apart=None), {}
    ),
    # linear along an axis, and the nearest voxel along one that is resampled by itself
    "resample_torch_fornnunet": _Function(
        Spline(1, apart=None),
        Spline(1),
        Spline(1),
        {"mode": "linear", "aniso_axis_mode": "nearest-exact"},
    ),
}


def resamples(configuration: Mapping[str, Any]) -> bool:
    """Whether images are resampled at all.

    Functions that leave images as they are have such names: ``no_resampling_hack`` of nnU-Net's
    own planner, ``no_resampling_data_or_seg_to_shape`` of published extensions.
    """
    return "no_resampling" not in str(configuration.get("resampling_fn_data"))


def read_resampling(configuration: Mapping[str, Any]) -> Resampling | None:
    """How images are brought to the plans' voxel size, and logits back; None if they never are.

    Args:
        configuration: of the plans.

    Raises:
        InputError: a function is not known, or its arguments are not.
    """
    if not resamples(configuration):
        return None
    images, logits = (_spline(configuration, what) for what in ("data", "probabilities"))
    return Resampling(images, logits, tolerance=0.0)


def _spline(configuration: Mapping[str, Any], what: str) -> Spline:
    """What one of the plans' functions does; where they give no arguments, the planner's."""
    key = f"resampling_fn_{what}"
    name = configuration.get(key, next(iter(_FUNCTIONS)))
    if name not in _FUNCTIONS:
        known = ", ".join(_FUNCTIONS)
        raise InputError(f"the plans resample {what} with {name}; supported: {known}")
    function, given = _FUNCTIONS[name], configuration.get(f"{key}_kwargs")
    if given is None:
        return function.logits if what == "probabilities" else function.planned
    taken = {_ARGUMENTS[k]: value for k, value in given.items() if k in _ARGUMENTS}
    others = {k: v for k, v in given.items() if k not in (*_ARGUMENTS, *_NO_MATTER)}
    wrong = {k: v for k, v in others.items() if k not in function.only or v != function.only[k]}
    if wrong or (function.only and {"order", "order_z"} & given.keys()):
        raise InputError(f"the plans resample {what} by {name} with {given}, which is not known")
    return Spline(**{**vars(function.default), **taken})
