"""What the run and the workers of a cluster send each other, beside scans and their outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal import __version__
from jaxsal.errors import InputError

if TYPE_CHECKING:
    from jaxsal.cohort.job import CohortJob
    from jaxsal.settings import CohortSettings, PredictSettings


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
        prediction: how lesions are found.
        settings: how they are explained.
        identity: that of the job, as JSON; the workers' must be the same.
    """

    model: str
    precision: str
    prediction: PredictSettings
    settings: CohortSettings
    identity: str

    @classmethod
    def of(cls, job: CohortJob, model: Path) -> Order:
        """The order to do this job with the model of this directory."""
        return cls(
            str(model.absolute()),
            job.model.precision,
            job.prediction,
            job.settings,
            _as_json(job.identity),
        )

    def require_same(self, identity: Mapping[str, Any]) -> None:
        """Refuses a job that is not the one that was ordered.

        Raises:
            InputError: its identity differs.
        """
        ordered, here = json.loads(self.identity), json.loads(_as_json(identity))
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
