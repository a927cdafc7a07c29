"""Reading the architecture off the shapes of a state dict's entries."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxsal.errors import InputError
from jaxsal_converters.state_dict import State


def weight(state: State, module: str) -> np.ndarray:
    """The kernel of a 3D convolution.

    Args:
        state: entries by key.
        module: path of the convolution.

    Raises:
        InputError: it is missing or has not five axes.
    """
    key = f"{module}.weight"
    if key not in state:
        raise InputError(f"{key} is missing, and without it the architecture is not known")
    if state[key].ndim != 5:
        raise InputError(
            f"{key} has the shape {state[key].shape}; a 3D convolution's has five axes, and only "
            "3D networks are supported"
        )
    return state[key]


def norm_name(state: State, module: str, assumptions: list[str], *, default_affine: bool) -> Any:
    """MONAI's ``norm_name``, as far as the entries of one of the network's norms show it.

    Args:
        state: entries by key.
        module: path of the norm.
        assumptions: takes a sentence if something had to be assumed.
        default_affine: whether MONAI's default for this network is an instance norm with learnt
            parameters, or one without.
    """
    affine = f"{module}.weight" in state
    if f"{module}.running_mean" in state:
        return ["batch", {"affine": affine}]
    parameters = "with learnt parameters" if affine else "without learnt parameters"
    default = ", MONAI's default" if affine == default_affine else ""
    other = "group norm" if affine else "a network without any normalisation"
    assumptions.append(
        f"norm_name: instance norm {parameters}{default}; {other} looks the same, --config sets it"
    )
    return ["instance", {"affine": affine}]
