"""What each window of a field has to do with which lesions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

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


class Job(NamedTuple):
    """One window's lesions.

    Attributes:
        window: its number in the plan.
        lesions: those that it reaches, by number.
        parts: what it reaches of each.
    """

    window: int
    lesions: tuple[int, ...]
    parts: tuple[Part, ...]


def jobs_of(plan: WindowPlan, domains: Sequence[Domain]) -> list[Job]:
    """Each window with the lesions, by number, that it reaches."""
    owners = np.repeat(np.arange(len(domains)), [len(d.voxels) for d in domains])
    voxels = np.concatenate([d.voxels for d in domains]) + plan.before
    jobs = []
    for window, start in enumerate(plan.starts):
        rows = np.flatnonzero(plan.weights[:, window])
        lesions = np.unique(owners[rows])
        own = [rows[owners[rows] == lesion] for lesion in lesions]
        parts = tuple(Part(voxels[r] - start, plan.weights[r, window]) for r in own)
        jobs.append(Job(window, tuple(lesions.tolist()), parts))
    return jobs
