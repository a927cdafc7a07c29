"""What planning itself will take, from the time of the network on a single window."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.planning.attempt import settled
from jaxsal.cohort.planning.counting import spread_over
from jaxsal.devices import default_devices
from jaxsal.errors import InputError
from jaxsal.field.plan import WindowPlan
from jaxsal.inputs.entries import Entry
from jaxsal.scan.calibration import LESION_VOXELS
from jaxsal.scan.methods import cost_of
from jaxsal.scan.prediction import as_run, make_field
from jaxsal.settings import ExplainSettings
from jaxsal.types import Triple
from jaxsal.volumes import read_grid

_AVERAGE_LESION = 93  # voxels (Spagnolo et al. 2026)
_SOME_VOXELS, _VOXELS_AT_ONCE = 256, 64
_CALLS = 2  # of a method: one that compiles, and one that is timed


@dataclass(frozen=True)
class Effort:
    """How much of the work planning does.

    Attributes:
        sample: scans that are tried, of those with label maps, with reference masks and without.
        least_seconds: how long the part of a method that is done is to take at least.
        voxels: of lesions that are explained at once, about; None: as many as a run does.
    """

    sample: int = 2
    least_seconds: float = 5.0
    voxels: int | None = None


FULL = Effort()
QUICK = Effort(sample=1, least_seconds=0.0, voxels=LESION_VOXELS)
"""One scan, of which a lesion's worth of voxels is explained."""


@dataclass(frozen=True)
class Work:
    """What the network does for a scan, in its runs over one window of a field.

    Attributes:
        seconds: that a run takes.
        compiling: seconds that it took to compile the network.
        windows: runs that find the lesions of a scan.
        reached: runs that the gradient of a voxel's logit takes, about: pulling back through a
            window takes about as long as running over it.
    """

    seconds: float
    compiling: float
    windows: int
    reached: float

    def planning(self, job: CohortJob, effort: Effort, groups: int = 1) -> float:
        """Seconds that planning will take, about, without compiling.

        Args:
            job: what a run does.
            effort: how much of it is done.
            groups: of scans, of each of which a sample is tried.
        """
        scan = self.windows * self.seconds
        scan += sum(self._method(job, method, effort) for method in job.methods)
        return groups * effort.sample * scan

    def _method(self, job: CohortJob, method: ExplainSettings, effort: Effort) -> float:
        cost = cost_of(method)
        if cost is None:  # such a method is left off in time
            return _CALLS * effort.least_seconds
        voxels = job.settings.portion if effort.voxels is None else effort.voxels
        lesions = math.ceil(voxels / _AVERAGE_LESION)
        gradients = lesions * cost.gradients(round(voxels / lesions))
        images = min(cost.images, max(2, len(default_devices())))
        once = images * gradients * self.reached * self.seconds
        return _CALLS * max(once, effort.least_seconds)


def work_of(job: CohortJob, entries: Sequence[Entry]) -> Work | None:
    """Times the network on one window; None if no scan tells how many there are.

    Raises:
        InputError: the settings do not fit the model.
    """
    shape = next((s for s in map(_shape, spread_over(entries, len(entries))) if s), None)
    if shape is None:
        return None
    field = make_field(as_run(job.model, job.prediction), job.prediction)
    every = _plans(field.layer_plan, shape, _one_in_each_window(shape, job.prediction.roi))
    some = np.random.default_rng(0).integers(0, shape, (_SOME_VOXELS, 3))
    reaching = _plans(field.plan, shape, some)
    size, channels = every[0].size, len(job.model.channels)
    image = jax.random.normal(jax.random.key(0), (*size, channels), jnp.float32)
    _, seconds, compiling = settled(lambda: jax.block_until_ready(field(image)))
    share = math.prod(reaching[0].size) / math.prod(size)
    reached = sum(np.count_nonzero(plan.weights) for plan in reaching) / _SOME_VOXELS
    windows = len({tuple(start) for plan in every for start in plan.starts.tolist()})
    return Work(seconds, compiling, windows, share * reached)


def _one_in_each_window(shape: Triple, roi: Triple) -> np.ndarray:
    """(V, 3) voxels of a scan, of which one at least lies in every window of this size."""
    axes = [np.arange(0, n, r) for n, r in zip(shape, roi, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _plans(
    plan: Callable[[Triple, np.ndarray], WindowPlan], shape: Triple, voxels: np.ndarray
) -> list[WindowPlan]:
    """The plans of voxels (V, 3), a few at a time: each holds all windows for each voxel."""
    parts = np.array_split(voxels, -(-len(voxels) // _VOXELS_AT_ONCE))
    return [plan(shape, part) for part in parts]


def _shape(entry: Entry) -> Triple | None:
    """The grid of a scan by the header of its first image; None if it cannot be read."""
    try:
        return read_grid(entry.scan.images[0]).shape
    except InputError:
        return None
