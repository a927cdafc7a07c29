"""y' of Eqs. 5 and 9, window by window: which voxels of which domains a window reaches.

Where the network is local, a domain's logits depend on a box of the layer's cells. If the boxes of
several domains are disjoint, the derivatives of their summed logits are, in each box, those of its
domain: one pull-back serves them all, and is exact. Where the network is not local every box is the
whole layer, and every domain takes a pull-back of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxsal.box import Box
from jaxsal.locality.boxes import receptive_field
from jaxsal.saliency.gradcam.upper_network import UpperNetwork
from jaxsal.types import Triple

if TYPE_CHECKING:
    from jaxsal.field.plan import WindowPlan
    from jaxsal.saliency.domains import Domain


class Part(NamedTuple):
    """What of a domain a window reaches.

    Attributes:
        points: (V, 3) voxels in the window.
        weights: (V,) factor of each voxel's logit.
    """

    points: np.ndarray
    weights: np.ndarray


class WindowParts(NamedTuple):
    """One window's lesions.

    Attributes:
        window: its number in the plan.
        lesions: those that it reaches, by number.
        parts: what it reaches of each.
    """

    window: int
    lesions: tuple[int, ...]
    parts: tuple[Part, ...]


def parts_by_window(plan: WindowPlan, domains: Sequence[Domain]) -> list[WindowParts]:
    """Each window with the lesions, by number, that it reaches."""
    owners = np.repeat(np.arange(len(domains)), [len(d.voxels) for d in domains])
    voxels = np.concatenate([d.voxels for d in domains]) + plan.before
    found = []
    for window, start in enumerate(plan.starts):
        rows = np.flatnonzero(plan.weights[:, window])
        lesions = np.unique(owners[rows])
        own = [rows[owners[rows] == lesion] for lesion in lesions]
        parts = tuple(Part(voxels[r] - start, plan.weights[r, window]) for r in own)
        found.append(WindowParts(window, tuple(lesions.tolist()), parts))
    return found


def box_of(upper: UpperNetwork, parameters: Any, points: np.ndarray, grid: Triple) -> Box:
    """The cells of a layer that logits depend on.

    Args:
        upper: the network above the layer.
        parameters: of the network.
        points: (V, 3) the logits' positions in the window.
        grid: of the layer on this window.
    """
    reach = receptive_field(upper.function, parameters, Box.around(points), upper.layer)
    return Box.whole(grid) if reach is None else reach.clip(grid)


def frame_of(box: Box, grid: Triple) -> Box:
    """A larger box of a grid, its side a power of two as far as the grid goes.

    There are few of these sizes, so that programs compiled for one domain serve others.
    """
    side = 1 << (max(box.shape) - 1).bit_length()
    size = np.minimum(side, grid)
    return Box.at(np.minimum(box.start, grid - size), size)


def apart(boxes: Sequence[Box]) -> list[list[int]]:
    """Groups of disjoint boxes, by their numbers; each box joins the first group that it fits."""
    groups: list[list[int]] = []
    for index, box in enumerate(boxes):
        for group in groups:
            if all((box & boxes[other]).is_empty for other in group):
                group.append(index)
                break
        else:
            groups.append([index])
    return groups
