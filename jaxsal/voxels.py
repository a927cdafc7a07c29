"""What voxels must hold, and which of them a network segments."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from jaxsal.errors import InputError
from jaxsal.wording import counted

WHOLE_TOLERANCE = 1e-3
"""How far a label may lie from a whole number: scale factors and float32 leave 0.9999999 of 1."""

OF_LABELS = "0 is background, lesions have labels from 1 on"
_NEAREST = "resample labels with nearest neighbour, save them as integers without a scale factor"


def require_finite(data: np.ndarray, name: str, advice: str) -> None:
    """Raises InputError if a voxel is NaN or infinite."""
    require_none(~np.isfinite(data), data, name, "finite", advice)


def whole_numbers(data: np.ndarray, name: str, advice: str) -> np.ndarray:
    """The labels that an array of any type holds: the nearest whole numbers.

    Args:
        data: (X, Y, Z).
        name: what an error calls the data, e.g. a path.
        advice: what labels are to be like.

    Returns:
        (X, Y, Z) of the type of `data`, whole numbers from 0 on.

    Raises:
        InputError: a value is NaN, infinite, negative, or further than `WHOLE_TOLERANCE` from a
            whole number.
    """
    nearest = data
    if data.dtype.kind == "f":
        require_finite(data, name, advice)
        nearest = np.rint(data)
        fractional = np.abs(data - nearest) > WHOLE_TOLERANCE
        require_none(fractional, data, name, "whole", _NEAREST)
    require_none(nearest < 0, data, name, "non-negative", advice)
    return nearest


def require_none(wrong: np.ndarray, data: np.ndarray, name: str, rule: str, advice: str) -> None:
    """Raises InputError if any voxel is `wrong`, naming how many and the first."""
    count = int(np.count_nonzero(wrong))
    if count:
        first = tuple(int(index) for index in np.unravel_index(int(wrong.argmax()), wrong.shape))
        raise InputError(
            f"{name} must be {rule} in every voxel, which fails in {counted(count, 'voxel')}, the "
            f"first at {first} with the value {data[first]}: {advice}."
        )


def most_probable(logits: ArrayLike, target: int, probability: str = "softmax") -> np.ndarray:
    """Where one output channel is the most probable of all; of equally probable ones the first is.

    Args:
        logits: (X, Y, Z, K).
        target: the channel.
        probability: as for `jaxsal.lesions.lesion_probability`.

    Returns:
        (X, Y, Z) bool.

    Raises:
        InputError: the channels do not exclude each other.
    """
    logits = np.asarray(logits)
    require_classes(logits.shape[-1], probability)
    result: np.ndarray = logits.argmax(-1) == target
    return result


def require_classes(outputs: int, probability: str) -> None:
    """Refuses the domain argmax for a network whose output channels are no classes.

    Raises:
        InputError: there is a single channel, or they do not exclude each other.
    """
    if outputs == 1 or probability == "sigmoid":
        raise InputError(
            "the domain argmax takes the most probable of several classes that exclude each other; "
            f"this network has {counted(outputs, 'output')} with a sigmoid each: "
            "leave it out, a threshold then says which voxels are lesion"
        )


def nothing_segmented(
    highest: float, threshold: float | None, outputs: int, probability: str
) -> str:
    """Says that no voxel is segmented, and what else to try.

    Args:
        highest: lesion probability of all voxels.
        threshold: that none reaches; None: lesion is nowhere the most probable class.
        outputs: number of output channels.
        probability: as for `jaxsal.lesions.lesion_probability`.
    """
    if threshold is None:
        return (
            "no voxel is segmented: lesion is nowhere the most probable class; its highest "
            f"probability is {highest:.3g}"
        )
    said = f"no voxel is segmented: the highest lesion probability is {highest:.3g}, below the "
    said += f"threshold {threshold:g}"
    if outputs < 3 or probability == "sigmoid":
        return said
    return (
        f"{said}, which the most probable of {outputs} classes may not reach; the domain argmax "
        "takes the voxels where that is lesion"
    )
