"""The parts of a run over a cohort, and what they hand to each other.

`jaxsal.cohort.run.run_cohort` composes them: a job says what is done with every scan, machines
compute, and keepers take the results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # for annotations only
    from concurrent.futures import Future

    import numpy as np

    from jaxsal.cohort.job import CohortJob
    from jaxsal.cohort.storage.folder import CohortFolder
    from jaxsal.grid import Grid
    from jaxsal.inputs.entries import Entry
    from jaxsal.inputs.loading import LoadedScan
    from jaxsal.progress import Progress
    from jaxsal.saliency.maps import Crop
    from jaxsal.scan.prediction import Prediction
    from jaxsal.store.records import ScanRecord

OnScan = Callable[["Entry", "Progress"], None]
"""Called with a scan and how far it is, from the threads that compute."""


class Stopped(Exception):  # noqa: N818
    """The run is to end; what is unfinished is left as it is."""


@dataclass(frozen=True)
class Portion:
    """Lesions of a scan whose maps are computed and recorded together.

    Attributes:
        number: its place among the scan's portions.
        method: index of the method.
        labels: of the lesions.
    """

    number: int
    method: int
    labels: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Maps:
    """The maps of a scan, kept in memory.

    Attributes:
        grid: of the scan's files.
        labels: (X, Y, Z) int32, the lesions.
        crops: the maps by method, such as "smoothgrad-max", and label.
    """

    grid: Grid
    labels: np.ndarray
    crops: dict[str, dict[int, Crop]]


@dataclass(frozen=True)
class ScanOutcome:
    """The end of the work on a scan.

    Attributes:
        entry: the scan.
        maps: the scan's, if they are kept in memory.
        record: of its results or its failure; None if the run was stopped before its end.
        fatal: the error for which no further scan can be done; None if there is none.
    """

    entry: Entry
    maps: Maps | None = None
    record: ScanRecord | None = None
    fatal: BaseException | None = None


class Clock:
    """Adds up the seconds of the blocks that it is the context of."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


class Keeper(Protocol):
    """Takes the results of a scan, and knows what an earlier run left of them."""

    @property
    def maps(self) -> Maps | None:
        """The maps, if they are kept in memory."""
        ...

    def restored(self, loaded: LoadedScan) -> Prediction | None:
        """The scan's lesions, if they were found before."""
        ...

    def keep_prediction(self, prediction: Prediction) -> None:
        """Keeps the scan's lesions."""
        ...

    def has(self, portion: Portion) -> bool:
        """Whether a portion was kept before."""
        ...

    def keep_map(self, portion: Portion, label: int, crop: Crop) -> None:
        """Keeps a lesion's map."""
        ...

    def finish_portion(self, portion: Portion, seconds: float) -> None:
        """Ends a portion, all of whose maps were handed over.

        Args:
            portion: the portion.
            seconds: that computing its maps took.
        """
        ...

    def finish(self, seconds: float) -> Future[ScanRecord]:
        """Ends the scan, all of whose portions were finished: makes its results appear.

        Args:
            seconds: that computing took, in this run.
        """
        ...


class Machines(Protocol):
    """The computers of a run."""

    @property
    def ran(self) -> Mapping[str, Any]:
        """Device, or scheduler, and software."""
        ...

    @property
    def busy_share(self) -> float | None:
        """Share of the time in which devices computed, from 0 to 1; None if unknown."""
        ...

    def memory(self) -> int:
        """Bytes for computing maps that each of them has."""
        ...

    def outcomes(
        self, job: CohortJob, entries: Sequence[Entry], folder: CohortFolder | None
    ) -> Generator[ScanOutcome]:
        """Explains these scans; yields the outcome of each, in the order in which they end."""
        ...
