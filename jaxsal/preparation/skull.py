"""Whether an image shows a brain alone, as BIDS wants stated beside every prepared image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxsal.store.files import content_of
from jaxsal.store.parsing import parsed_json
from jaxsal.volumes import Volume

LARGEST_BRAIN = 2200.0  # ml; heads with their skulls are larger, unless only a part was imaged


def is_skull_stripped(volume: Volume) -> bool:
    """Whether an image shows a brain alone: as the file beside it says, else by its volume.

    Args:
        volume: the image as it was given. All that differs from its first voxel, at a corner,
            counts as its content.
    """
    stated = _stated(volume.path)
    if stated is not None:
        return stated
    content = np.count_nonzero(volume.data != volume.data[0, 0, 0])
    return bool(content * volume.grid.voxel_volume / 1000 <= LARGEST_BRAIN)


def _stated(image: Path) -> bool | None:
    """What BIDS's sidecar of an image says, if there is one that does."""
    name = image.name.removesuffix(".gz").removesuffix(".nii")
    try:
        stated = parsed_json(content_of(image.with_name(f"{name}.json")))["SkullStripped"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return stated if isinstance(stated, bool) else None
