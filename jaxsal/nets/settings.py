"""Checks of a network's configuration, shared by all networks.

Each function takes an argument's name and the value given for it, and returns the value in a form
that can be hashed, or raises `InputError`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any

from jaxsal.errors import InputError
from jaxsal.nets.activations import ACTIVATIONS
from jaxsal.types import Triple

_LONGEST = 200  # entries of a list: levels of a network, or blocks of a level
_MOST = 2**20  # of what is counted: channels, voxels along an axis

# A layer's name with its keyword arguments, in a form that can be hashed and written as JSON.
Setting = tuple[str, tuple[tuple[str, Any], ...]]

_SAME_AT_INFERENCE = {"syncbatch": "batch", "instance_nvfuser": "instance", "silu": "swish"}
_NORM_ARGUMENTS = {
    "batch": {"eps", "momentum", "affine", "track_running_stats"},
    "group": {"eps", "affine", "num_groups"},
    "instance": {"eps", "momentum", "affine", "track_running_stats"},
    "layer": {"eps", "normalized_shape", "elementwise_affine"},
}


def as_sequence(name: str, value: Any) -> tuple[Any, ...]:
    """A list or tuple, not longer than any network is deep."""
    if not isinstance(value, list | tuple):
        raise InputError(f"{name} must be a list, got {value!r}")
    if len(value) > _LONGEST:
        raise InputError(f"{name} must have at most {_LONGEST} entries, got {len(value)}")
    return tuple(value)


def as_count(name: str, value: Any, least: int = 1, most: int = _MOST) -> int:
    """A whole number from ``least`` to ``most``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if value > most:
        raise InputError(f"{name} must be at most {most:,}, got {value!r}")
    return value


def as_flag(name: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, got {value!r}")
    return value


def as_triple(name: str, value: Any) -> Triple:
    """One whole number for all axes, or one per axis."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * 3
    if len(values) != 3:
        raise InputError(f"{name} must be one number or one per axis (3), got {value!r}")
    x, y, z = (as_count(name, v) for v in values)
    return x, y, z


def as_odd_triple(name: str, value: Any) -> Triple:
    """As `as_triple`, odd along every axis, so that "same" padding exists."""
    sizes = as_triple(name, value)
    if any(k % 2 == 0 for k in sizes):
        raise InputError(f"{name} must be odd along every axis, got {value!r}")
    return sizes


def as_activation(name: str, value: Any) -> Setting | None:
    """An activation function: its name, or [name, {arguments}]."""
    setting = _as_setting(name, value)
    if setting is None:
        return None
    if setting[0] == "prelu":
        allowed = {"num_parameters", "init"}
    elif setting[0] in ACTIVATIONS:
        allowed = set(inspect.signature(ACTIVATIONS[setting[0]]).parameters) - {"x"}
    else:
        known = ", ".join(sorted((*ACTIVATIONS, "prelu")))
        raise InputError(f"{name} must be one of {known}; got {value!r}")
    arguments = {k: v for k, v in setting[1] if k != "inplace"}
    _check_arguments(name, arguments, allowed)
    return setting[0], tuple(arguments.items())


def as_triples(name: str, value: Any) -> tuple[Triple, ...]:
    """A list of sizes, each one number for all axes or one per axis."""
    return tuple(as_triple(name, entry) for entry in as_sequence(name, value))


def check_odd(name: str, sizes: tuple[Triple, ...]) -> None:
    """Kernels that are odd along every axis, as sizes that add up need them."""
    if any(k % 2 == 0 for size in sizes for k in size):
        shown = [list(size) for size in sizes]
        raise InputError(f"{name} must be odd along every axis, got {shown}")


def check_known(
    network: str, given: Iterable[str], required: Iterable[str], optional: Iterable[str]
) -> None:
    """All required arguments of the source's constructor, and none that it does not have."""
    names = set(given)
    missing = [name for name in required if name not in names]
    unknown = sorted(names - set(required) - set(optional))
    if missing or unknown:
        raise InputError(
            f"the configuration takes the arguments of {network}; "
            + (f"missing: {', '.join(missing)}. " if missing else "")
            + (f"unknown: {', '.join(unknown)}." if unknown else "")
        )


def check_widths(norm: Setting | None, act: Setting | None, widths: Iterable[int]) -> None:
    """Group norm and slopes per channel must fit every number of channels they work on."""
    found = sorted(set(widths))
    groups = dict(norm[1]).get("num_groups", 1) if norm else 1
    if any(width % groups for width in found):
        raise InputError(f"num_groups must divide the channels {found}, got {groups}")
    slopes = dict(act[1]).get("num_parameters", 1) if act else 1
    if slopes != 1 and found != [slopes]:
        raise InputError(
            f"num_parameters of PReLU must be 1 or the number of channels, {found}; got {slopes}"
        )


def setting_as_json(setting: Setting | None) -> list[Any] | None:
    """A layer's name and arguments as JSON holds them."""
    return None if setting is None else [setting[0], dict(setting[1])]


def product(strides: tuple[Triple, ...]) -> Triple:
    """The product of strides along each axis."""
    x, y, z = (math.prod(s[a] for s in strides) for a in range(3))
    return x, y, z


def as_norm(name: str, value: Any) -> Setting | None:
    """A normalisation layer: its name, or [name, {arguments}]."""
    setting = _as_setting(name, value)
    if setting is None:
        return None
    kind, arguments = setting[0], dict(setting[1])
    if kind not in _NORM_ARGUMENTS:
        raise InputError(f"{name} must be one of {', '.join(_NORM_ARGUMENTS)}; got {value!r}")
    _check_arguments(name, arguments, _NORM_ARGUMENTS[kind])
    needed = {"group": "num_groups", "layer": "normalized_shape"}.get(kind)
    if needed and needed not in arguments:
        raise InputError(f'{name} "{kind}" needs {needed}: ["{kind}", {{"{needed}": …}}]')
    if kind == "group":
        as_count("num_groups", arguments["num_groups"])
    if kind == "layer":
        arguments["normalized_shape"] = _trailing_shape(arguments["normalized_shape"])
    tracks = arguments.pop("track_running_stats", kind == "batch")
    if kind == "batch" and not tracks:
        raise InputError(f"{name}: batch norm without running statistics depends on the batch")
    if kind == "instance" and tracks:  # at inference it uses them, which makes it a batch norm
        kind, arguments = "batch", {"affine": False, **arguments}
    return kind, tuple(sorted(arguments.items()))


def _trailing_shape(value: Any) -> tuple[int, ...]:
    """Sizes of the last axes of (C, X, Y, Z)."""
    shape = as_sequence("normalized_shape", [value] if isinstance(value, int) else value)
    if not 1 <= len(shape) <= 4:
        raise InputError(f"normalized_shape has one to four sizes, got {value!r}")
    return tuple(as_count("normalized_shape", size) for size in shape)


def as_dropout(name: str, value: Any) -> float:
    """A dropout rate: a number, or ["dropout", {"p": rate}]."""
    rate = 0.0 if value is None else value
    if isinstance(value, str | list | tuple):
        setting = _as_setting(name, value)
        rate = dict(setting[1]).get("p", 0.5) if setting else 0.0
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise InputError(f"{name} must be a rate in [0, 1), got {value!r}")
    return float(rate)


def _as_setting(name: str, value: Any) -> Setting | None:
    if value is None or value == "":
        return None
    pair = (value, {}) if isinstance(value, str) else value
    if not isinstance(pair, list | tuple) or len(pair) not in (1, 2):
        raise InputError(f"{name} must be a name or [name, {{arguments}}], got {value!r}")
    kind, arguments = (*pair, {})[:2]
    if not isinstance(kind, str) or not isinstance(arguments, dict):
        raise InputError(f"{name} must be a name or [name, {{arguments}}], got {value!r}")
    kind = _SAME_AT_INFERENCE.get(kind.lower(), kind.lower())
    hashable = {k: _hashable(f"{name}'s {k}", v) for k, v in arguments.items()}
    return kind, tuple(sorted(hashable.items()))


def _hashable(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(as_count(name, v) for v in value)
    if not isinstance(value, int | float | str):
        raise InputError(f"{name} must be a number, a name or a list of numbers, got {value!r}")
    return value


def _check_arguments(name: str, arguments: dict[str, Any], allowed: set[str]) -> None:
    unknown = sorted(set(arguments) - allowed)
    if unknown:
        raise InputError(
            f"{name} does not take {', '.join(unknown)}; it takes {', '.join(sorted(allowed))}"
        )
