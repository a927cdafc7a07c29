"""How many windows and pull-backs the maps of a scan take, by the field's plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.case import Case, Job, make_field
from bench.operations import Effort
from bench.work import gradient_work
from jaxsal.model import Model
from jaxsal.scan.calibration import synthetic_scan
from jaxsal.types import Triple


@dataclass(frozen=True)
class Visits:
    """How often the maps of a scan visit the network, per noise sample.

    Attributes:
        window: size of the windows.
        windows: that reach lesion voxels; each is linearised once.
        pull_backs: one for each voxel and window that reaches it.
    """

    window: Triple
    windows: int
    pull_backs: int


def visits_of(job: Job, model: Model) -> Visits:
    """By the field's own plan of windows."""
    _, labels = synthetic_scan(job.shape, len(model.channels), job.lesions, job.seed)
    plan = make_field(model, job.field, job.roi).plan(job.shape, np.argwhere(labels))
    reached = plan.weights > 0
    return Visits(plan.size, int(reached.any(axis=0).sum()), int(reached.sum()))


def work_of(job: Job, model: Model) -> Effort | None:
    """Of one gradient of the scan, by hand count; None if the network is none that is counted."""
    visits, voxels = visits_of(job, model), sum(job.lesions)
    return gradient_work(
        model.config,
        visits.window,
        forwards=visits.windows / voxels,
        pull_backs=visits.pull_backs / voxels,
    )


def window_work(case: Case) -> Effort | None:
    """Of one gradient of a case that is a single window."""
    x, y, z, _ = case.image.shape
    forwards = len(case.noise) / case.gradients
    return gradient_work(case.model.config, (x, y, z), forwards=forwards)
