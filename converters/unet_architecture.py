"""The architecture of a MONAI ``UNet`` as far as its state dict shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from jaxsal.errors import InputError
from jaxsal_converters.state_dict import State, weight

_HOW = "write it into a JSON file, such as {}, and give that with --config"


def level_path(level: int) -> str:
    """MONAI's path of the module that holds this level and all below it."""
    return "model" + ".1.submodule" * level


def infer_arguments(state: State, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """As `MonaiNetwork.infer_arguments` describes it.

    Raises:
        InputError: an entry that is needed is missing, the network is not 3D, or the activation
            or normalisation does not show in the entries and is not given.
    """
    arguments: dict[str, Any] = _structure(state)
    assumptions: list[str] = []
    if "act" not in given:
        arguments["act"] = _activation(state)
    if "norm" not in given:
        arguments["norm"] = _norm(state, arguments["channels"][0], assumptions)
    norm = given.get("norm", arguments.get("norm"))
    if "adn_ordering" not in given and norm is not None:
        arguments["adn_ordering"] = _ordering(state, assumptions)
    if "strides" not in given:
        fixed_size = isinstance(norm, list | tuple) and str(norm[0]).lower() == "layer"
        arguments["strides"] = _strides(state, arguments, fixed_size, assumptions)
    return {**arguments, **given}, assumptions


def _structure(state: State) -> dict[str, Any]:
    """What the shapes show for certain."""
    levels = 0
    while any(key.startswith(level_path(levels + 1) + ".") for key in state):
        levels += 1
    units = len({m[0] for key in state if (m := re.match(r"model\.0\.conv\.unit\d+\.", key))})
    kernels = [weight(state, _first_convolution(i, levels, units)) for i in range(levels + 1)]
    up = weight(state, "model.2.0.conv" if units else "model.2.conv")
    return {
        "spatial_dims": 3,
        "in_channels": kernels[0].shape[1],
        "out_channels": up.shape[1],
        "channels": [kernel.shape[0] for kernel in kernels],
        "kernel_size": list(kernels[0].shape[2:]),
        "up_kernel_size": list(up.shape[2:]),
        "num_res_units": units,
        "bias": any(re.search(r"(conv|residual)\.bias$", key) for key in state),
    }


def _first_convolution(level: int, levels: int, units: int) -> str:
    block = level_path(level) + (".0" if level < levels else "")
    return f"{block}.conv.unit0.conv" if units else f"{block}.conv"


def _first_adn(state: State) -> str:
    """Path of the first block's normalisation and activation."""
    residual = any(key.startswith("model.0.conv.unit0.") for key in state)
    return "model.0.conv.unit0.adn" if residual else "model.0.adn"


def _activation(state: State) -> list[Any]:
    slope = state.get(f"{_first_adn(state)}.A.weight")
    if slope is None:
        raise InputError(
            "the checkpoint holds no PReLU slopes, and other activation functions leave no trace "
            f"in it: {_HOW.format(_json('act', 'relu'))}"
        )
    return ["prelu", {"num_parameters": slope.size}]


def _norm(state: State, channels: int, assumptions: list[str]) -> Any:
    prefix = f"{_first_adn(state)}.N"
    scale = state.get(f"{prefix}.weight")
    if f"{prefix}.running_mean" in state:  # an instance norm that tracks them uses them as well
        return ["batch", {"affine": scale is not None}]
    if scale is None:
        assumptions.append(
            "norm: instance norm without learnt parameters, MONAI's default; a network without "
            "any normalisation looks the same"
        )
        return "instance"
    if scale.shape != (channels,):
        return ["layer", {"normalized_shape": list(scale.shape)}]
    example = _json("norm", ["instance", {"affine": True}])
    other = _json("norm", ["group", {"num_groups": 4}])
    raise InputError(
        "the checkpoint's normalisation could be instance norm, group norm or layer norm: "
        f"{_HOW.format(f'{example} or {other}')}"
    )


def _ordering(state: State, assumptions: list[str]) -> str:
    """State dicts keep the order in which modules were added, unless somebody sorted them."""
    prefix = _first_adn(state)
    letters = [m[1] for key in state if (m := re.match(rf"{re.escape(prefix)}\.([AN])\.", key))]
    if {"A", "N"} == set(letters) and list(state) != sorted(state):
        return "NDA" if letters[0] == "N" else "ADN"
    assumptions.append('adn_ordering: "NDA", normalisation before activation, MONAI\'s default')
    return "NDA"


def _strides(
    state: State, arguments: Mapping[str, Any], fixed_size: bool, assumptions: list[str]
) -> list[int]:
    levels = len(arguments["channels"]) - 1
    if fixed_size:  # a layer norm of one size at every level
        return [1] * levels
    strides = [
        2 if _may_be_strided(state, arguments, level_path(level)) else 1 for level in range(levels)
    ]
    assumptions.append(f"strides: {strides}; the checkpoint does not show them, --config sets them")
    return strides


def _may_be_strided(state: State, arguments: Mapping[str, Any], path: str) -> bool:
    """Shortcuts of unstrided residual blocks have kernels of one voxel, or do not exist."""
    if arguments["num_res_units"] == 0:
        return True
    shortcut = state.get(f"{path}.0.residual.weight")
    return shortcut is not None and list(shortcut.shape[2:]) == arguments["kernel_size"]


def _json(name: str, value: Any) -> str:
    """One argument as the text of a JSON file."""
    return json.dumps({name: value})
