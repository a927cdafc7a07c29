"""Which voxels a network segments by the domain argmax, and what to say where there are none."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from jaxsal.errors import InputError
from jaxsal.wording import counted


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
