"""Which domains can share a pull-back: those whose derivatives at the layer lie apart.

Where the network is local, a domain's logits depend on a box of the layer's positions. The
derivatives of the summed logits of several domains with disjoint boxes are, in each box, those of
its domain, so that one pull-back serves them all, and it is exact. Where the network is not local
every box is the whole layer, and every domain takes a pull-back of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxsal.locality import receptive_field
from jaxsal.saliency.gradcam.head import Head
from jaxsal.types import Reach, Triple


class LayerBox(NamedTuple):
    """A box of a layer's positions.

    Attributes:
        start: its first position.
        size: in positions.
    """

    start: Triple
    size: Triple

    def cut(self, values: Any) -> Any:
        """The box of an array whose first axes are (x, y, z)."""
        return values[tuple(slice(s, s + n) for s, n in zip(self.start, self.size, strict=True))]

    def within(self, grid: Triple) -> LayerBox:
        """A larger box of a grid, its side a power of two as far as the grid goes.

        There are few of these sizes, so that programs compiled for one domain serve others.
        """
        side = 1 << (max(self.size) - 1).bit_length()
        size = np.minimum(side, grid)
        return LayerBox(_triple(np.minimum(self.start, grid - size)), _triple(size))

    def meets(self, other: LayerBox) -> bool:
        """Whether any position is in both."""
        return all(
            a < b + m and b < a + n
            for a, n, b, m in zip(self.start, self.size, other.start, other.size, strict=True)
        )


def box_of(head: Head, parameters: Any, points: np.ndarray, grid: Triple) -> LayerBox:
    """The positions of a layer that logits depend on.

    Args:
        head: the network above the layer.
        parameters: of the network.
        points: (V, 3) the logits' positions in the window.
        grid: of the layer on this window.
    """
    outputs = Reach(points.min(0), points.max(0))
    reach = receptive_field(head.function, parameters, outputs, head.layer)
    if reach is None:
        return LayerBox((0, 0, 0), grid)
    first = np.maximum(reach.first, 0)
    return LayerBox(_triple(first), _triple(np.minimum(reach.last + 1, grid) - first))


def apart(boxes: Sequence[LayerBox]) -> list[list[int]]:
    """Groups of boxes that do not meet, each box by its number; as few groups as come easily."""
    groups: list[list[int]] = []
    for index, box in enumerate(boxes):
        for group in groups:
            if not any(box.meets(boxes[other]) for other in group):
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def _triple(values: np.ndarray) -> Triple:
    x, y, z = values.tolist()
    return x, y, z
