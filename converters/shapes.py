"""Reading the architecture off the shapes of a state dict's entries."""

from __future__ import annotations

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
        raise InputError(f"{key} is missing, and without it the architecture cannot be told")
    if state[key].ndim != 5:
        raise InputError(
            f"{key} has the shape {state[key].shape}; a 3D convolution's has five axes, and only "
            "3D networks are supported"
        )
    return state[key]
