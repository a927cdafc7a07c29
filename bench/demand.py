"""How many windows and pull-backs the maps of a scan take, by the field's plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.case import Case, Job, make_field
from bench.operations import Work
from bench.work import gradient_work
from jaxsal.model import Model
from jaxsal.scan.calibration import synthetic_scan
from jaxsal.types import Triple


@dataclass(frozen=True)
class Demand:
    """What the maps of a scan take, per noise sample.

    Attributes:
        window: size of the windows.
        windows: that reach lesion voxels; each is linearised once.
        pull_backs: one for each voxel and window that reaches it.
    """

    window: Triple
    windows: int
    pull_backs: int


def demand_of(job: Job, model: Model) -> Demand:
    """By the field's own plan of windows."""
    _, labels = synthetic_scan(job.shape, len(model.channels), job.lesions, job.seed)
    plan = make_field(model, job.field, job.roi).plan(job.shape, np.argwhere(labels))
    reached = plan.weights > 0
    return Demand(plan.size, int(reached.any(axis=0).sum()), int(reached.sum()))


def work_of(job: Job, model: Model) -> Work | None:
    """Of one gradient of the scan, by hand count; None if the network is none that is counted."""
    demand, voxels = demand_of(job, model), sum(job.lesions)
    return gradient_work(
        model.config,
        demand.window,
        forwards=demand.windows / voxels,
        pull_backs=demand.pull_backs / voxels,
    )


def window_work(case: Case) -> Work | None:
    """Of one gradient of a case that is a single window."""
    x, y, z, _ = case.image.shape
    forwards = len(case.noise) / case.gradients
    return gradient_work(case.model.config, (x, y, z), forwards=forwards)
