"""What a run orders of the workers of a cluster, and the memory budget that all stay within.

The budget decides what is computed together, on which results depend by rounding. A run therefore
goes on with the budget that it began with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal import __version__
from jaxsal.checkpoints import load_model
from jaxsal.errors import InputError
from jaxsal.preprocessing import Preprocessing
from jaxsal.settings import CohortSettings
from jaxsal.store.parsing import parsed_json

if TYPE_CHECKING:
    from jaxsal.cohort.job import CohortJob
    from jaxsal.model import Model
    from jaxsal.settings import PredictSettings


class UnableError(Exception):
    """A worker cannot carry out the order, whatever the scan; another one may.

    Args:
        worker: its address.
        reason: why.
    """

    def __init__(self, worker: str, reason: Exception) -> None:
        super().__init__(worker, reason)  # both are sent
        self.worker, self.reason = worker, reason


@dataclass(frozen=True)
class Order:
    """The job of a run, as workers make it for themselves.

    Attributes:
        model: its directory.
        precision: arithmetic.
        preprocessing: what images undergo, such as how they are resampled; that of the directory
            may say else.
        rematerialise: whether activations are computed again rather than kept.
        mirror_axes: along which logits are averaged over mirrored images.
        prediction: how lesions are found.
        settings: how they are explained.
        identity: that of the job, as JSON; the workers' must be the same.
    """

    model: str
    precision: str
    preprocessing: Preprocessing | None
    rematerialise: bool
    mirror_axes: tuple[int, ...]
    prediction: PredictSettings
    settings: CohortSettings
    identity: str

    @classmethod
    def of(cls, job: CohortJob, model: Path) -> Order:
        """The order to do this job with the model of this directory."""
        return cls(
            str(model.absolute()),
            job.model.precision,
            job.model.preprocessing,
            job.model.rematerialise,
            job.model.mirror_axes,
            job.prediction,
            job.settings,
            _as_json(job.identity),
        )

    def load(self) -> Model:
        """The model, from its directory, as it is to be applied.

        Raises:
            InputError: the directory is not there, or holds no such model.
        """
        model = load_model(self.model, self.precision)
        return replace(
            model,
            preprocessing=self.preprocessing,
            rematerialise=self.rematerialise,
            mirror_axes=self.mirror_axes,
        )

    def require_same(self, identity: Mapping[str, Any]) -> None:
        """Refuses a job that is not the one that was ordered.

        Raises:
            InputError: its identity differs.
        """
        ordered, here = parsed_json(self.identity), parsed_json(_as_json(identity))
        differing = [name for name in ordered if ordered[name] != here.get(name)]
        if differing:
            raise InputError(
                f"this worker has another {' and '.join(differing)} than the run was begun with: "
                "install the same jaxsal everywhere, give a model directory that all machines see, "
                "and restart the workers"
            )


def version() -> str:
    """The worker's version of jaxsal; the call fails on a worker without jaxsal."""
    return __version__


def _as_json(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True)


def with_budget(settings: CohortSettings, now: int, earlier: int | None = None) -> CohortSettings:
    """The settings with a memory budget for each method that has none.

    Args:
        settings: of the run.
        now: bytes that are free for computing maps.
        earlier: the budget that the run began with, if it did. It stands, unless it is more than
            twice what is free now.
    """
    budget = earlier if earlier is not None and earlier <= 2 * now else now
    return _with_memory(settings, lambda own: own or budget)


def at_most(settings: CohortSettings, most: int) -> CohortSettings:
    """The settings with budgets of no more than so many bytes."""
    return _with_memory(settings, lambda own: min(own or most, most))


def _with_memory(settings: CohortSettings, budget: Callable[[int | None], int]) -> CohortSettings:
    methods = tuple(replace(m, memory=budget(m.memory)) for m in settings.saliency)
    return replace(settings, saliency=methods)
