"""y' of Eqs. 5 and 9, window by window: which voxels of which domains a window reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

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
