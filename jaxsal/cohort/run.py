"""`run_cohort`: composes job, machines and folder into a `CohortRun`."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax

from jaxsal.checkpoints import load_model
from jaxsal.cohort.cohort_run import CohortRun, ScanResult
from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.machines.cluster import Cluster
from jaxsal.cohort.machines.order import with_budget
from jaxsal.cohort.machines.pipeline import Pipeline, lanes_of
from jaxsal.cohort.machines.task import budget, explain_entry
from jaxsal.cohort.parts import WRITERS_PER_LANE, OnScan, ScanOutcome, Writer
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.keepers import FolderKeeper, Keeper
from jaxsal.devices import every_device
from jaxsal.display import Display
from jaxsal.errors import InputError
from jaxsal.inputs.bids import Select
from jaxsal.inputs.entries import Entry, distinct
from jaxsal.inputs.sources import read_cohort, warn_if_mixed
from jaxsal.model import Model
from jaxsal.saliency.memory import default_budget
from jaxsal.scan.prediction import for_model
from jaxsal.settings import CohortSettings, PredictSettings
from jaxsal.store.lock import Shard
from jaxsal.store.records import Inputs
from jaxsal.versions import software

__all__ = ["CohortRun", "ScanResult", "run_cohort"]


@dataclass
class Local:
    """The devices of this machine.

    Attributes:
        devices: to compute on, all of one kind.
        on_scan: called with how far a scan is, from the threads that compute.
        busy_share: share of the time in which devices computed, from 0 to 1; None before the end.
    """

    devices: tuple[jax.Device, ...]
    on_scan: OnScan = lambda entry, progress: None
    busy_share: float | None = None

    @property
    def ran(self) -> dict[str, Any]:
        """Device and software."""
        return {"device": self.devices[0].device_kind, **software()}

    def outcomes(
        self, job: CohortJob, entries: Sequence[Entry], folder: CohortFolder | None
    ) -> Generator[ScanOutcome]:
        """Explains these scans; yields the outcome of each, in the order in which they end."""
        lanes = lanes_of(self.devices)
        with closing(Writer(WRITERS_PER_LANE * len(lanes))) as writer:

            def keeper_of(entry: Entry, inputs: Inputs) -> Keeper:
                if folder is None:
                    return Keeper(job, entry, inputs)
                return FolderKeeper(job, entry, inputs, folder, writer)

            pipeline = Pipeline(job, lanes, keeper_of, self.on_scan)
            with closing(pipeline.run(entries)) as outcomes:
                yield from outcomes
            if pipeline.lane_seconds:
                self.busy_share = pipeline.busy_seconds / pipeline.lane_seconds

    def memory(self) -> int:
        """Bytes for computing maps."""
        return default_budget(lanes_of(self.devices)[0])


def run_cohort(
    model: Model | str | os.PathLike[str],
    cohort: str | os.PathLike[str] | Sequence[Entry],
    out: str | os.PathLike[str] | None = None,
    *,
    prediction: PredictSettings | None = None,
    settings: CohortSettings | None = None,
    select: Select | None = None,
    shard: Shard | None = None,
    retry_failed: bool = False,
    overwrite: bool = False,
    devices: Sequence[jax.Device] | None = None,
    scheduler: str | None = None,
    model_folder: str | os.PathLike[str] | None = None,
    precision: str = "float32",
    on_scan: OnScan | Literal["auto"] | None = "auto",
) -> CohortRun:
    """Finds and explains the lesions of every scan of a cohort (Spagnolo et al. 2026).

    While a device computes a scan, the next one is read and the results of the last one are
    written. With a folder, results are recorded portion by portion: however a run ends, the same
    call goes on with it. Without a folder, results are yielded and not kept.

    Args:
        model: the network, or its directory.
        cohort: a table of scans (TSV, CSV), a BIDS folder, or entries.
        out: folder for the results, BIDS derivatives; None: nothing is written, and each result
            holds its maps.
        prediction: how lesions are found; None: by the model's defaults.
        settings: how they are explained.
        select: the entities of the images of a BIDS folder; see `jaxsal.read_cohort`.
        shard: only a part of the scans, for several runs into one folder.
        retry_failed: compute scans again that failed before.
        overwrite: begin anew where earlier runs left results; see `jaxsal.store`.
        devices: to compute on, all of one kind; by default all of the best kind that this host
            has, unless others were chosen.
        scheduler: address of a Dask scheduler whose workers compute, such as "tcp://host:8786";
            None: this machine computes. All machines must see the model's directory, the scans and
            `out` under the same paths.
        model_folder: with a scheduler, the directory from which workers load the model, where
            `model` is not itself that directory but was loaded from it, such as to be changed by
            `Model.with_resampling`; workers change it likewise.
        precision: arithmetic, where the model is a directory; see `jaxsal.load_model`.
        on_scan: called with how far a scan is, from the threads that compute; not with a scheduler.
            By default a bar is shown on a terminal and in notebooks; None: nothing is shown.

    Returns:
        An iterator of `ScanResult`, in the order in which scans are complete.

    Raises:
        InputError: the cohort, the folder or a setting cannot be used. A scan that cannot be used
            is no error: its result has the status "failed".
        OutputError: results cannot be written; raised, as most others, by the iteration.
    """
    network = model if isinstance(model, Model) else load_model(model, precision)
    if isinstance(cohort, str | os.PathLike):
        entries = read_cohort(cohort, network.channels, select)
    else:
        entries = list(distinct(cohort))
    warn_if_mixed(entries, network.preprocessing)
    prediction = prediction or for_model(
        PredictSettings(), network, roi=None, overlap=None, target=None
    )
    folder = None if out is None else CohortFolder(Path(out).expanduser())
    display = Display("cohort", wanted=on_scan == "auto")
    machines: Local | Cluster
    if scheduler is None:
        machines = Local(tuple(devices or every_device()), _progress_of(on_scan, display))
    else:
        directory = _shared(model if model_folder is None else model_folder, out, devices)
        machines = Cluster(scheduler, directory, explain_entry, budget)
    earlier = folder.memory() if folder is not None else None
    limited = with_budget(settings or CohortSettings(), machines.memory(), earlier)
    job = CohortJob(network, prediction, limited, machines.ran)
    return CohortRun(
        job, entries, machines, folder, shard or Shard(), retry_failed, overwrite, display
    )


def _progress_of(on_scan: OnScan | Literal["auto"] | None, display: Display) -> OnScan:
    if on_scan is not None and on_scan != "auto":
        return on_scan
    return lambda entry, progress: display.note(
        f"{entry.id}: {progress.lesions_done}/{progress.lesions} maps"
    )


def _shared(
    model: Model | str | os.PathLike[str],
    out: str | os.PathLike[str] | None,
    devices: Sequence[jax.Device] | None,
) -> Path:
    """The model's directory, for workers to load it from."""
    if isinstance(model, Model):
        raise InputError(
            "with a scheduler, give the model as its directory, from which the workers load it, or "
            "name that by model_folder; `jaxsal.save_model` writes one"
        )
    if out is None:
        raise InputError("with a scheduler, give a folder for the results that all workers see")
    if devices is not None:
        raise InputError(
            "with a scheduler, devices are the workers' own: start a worker for each, such as with "
            "CUDA_VISIBLE_DEVICES=0"
        )
    return Path(model)
