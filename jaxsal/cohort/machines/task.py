"""The task of a worker of a Dask cluster: it reads a scan, explains it and writes its results.

A worker may be given two scans at once, so that one is read and written while the other is
computed; they take turns at the device.
"""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from jaxsal.accelerators import warn_of_unused
from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.machines.order import Order, UnableError, at_most
from jaxsal.cohort.parts import WRITERS_PER_LANE, Clock, ScanOutcome, Writer
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.keepers import FolderKeeper
from jaxsal.cohort.storage.work import ScanWork
from jaxsal.compilation import keep_compiled_programs
from jaxsal.current_device import current_device
from jaxsal.devices import computing_on, default_devices, split_cpu
from jaxsal.errors import InputError, JaxsalError
from jaxsal.inputs.entries import Entry
from jaxsal.saliency.memory import default_budget
from jaxsal.store.claims import Claim, Withdrawn
from jaxsal.store.records import ScanRecord, are_same
from jaxsal.versions import software

_CPU_SHARE = 0.5  # of the memory that a worker may take: scans and results are held in it, too

_computing = threading.Lock()  # held by the task whose turn it is
_loading = threading.Lock()


def explain_entry(order: Order, entry: Entry, root: str, run: str) -> ScanOutcome:
    """Explains a scan and writes its results; a task.

    Args:
        order: what to do.
        entry: the scan.
        root: the cohort's folder.
        run: the run that granted the right to the scan; see `jaxsal.store.claims`.

    Returns:
        The outcome; the record of a failed scan is not written yet. There is no record if the right
        to the scan was taken back.

    Raises:
        UnableError: this worker has another jaxsal or model, or cannot write results.
        Exception: another error, which may not occur again.
    """
    folder = CohortFolder(Path(root))
    try:
        claim = Claim(folder.claim_path(entry.stem), run)
        with claim.locked():
            return ScanOutcome(entry, record=_record(order, entry, folder, claim))
    except Withdrawn:
        return ScanOutcome(entry)
    except (JaxsalError, ImportError, OSError) as error:  # those of the scan are in its record
        raise UnableError(worker_address(), error) from error


def budget(dask_worker: Any = None) -> int:
    """Bytes for computing maps that a worker has, always the same in one process.

    Args:
        dask_worker: by this name Dask hands over the worker.
    """
    if dask_worker is None:
        from distributed import get_worker

        dask_worker = get_worker()
    with _loading:
        return _budget(dask_worker.memory_manager.memory_limit)


@cache  # what is free changes, and results depend on it by rounding
def _budget(limit: int | None) -> int:
    split_cpu()
    keep_compiled_programs()
    devices = default_devices()
    now = default_budget(devices)
    if devices[0].platform != "cpu" or not limit:
        return now
    return min(now, int(limit * _CPU_SHARE))  # a worker that exceeds its limit is killed


def worker_address() -> str:
    """The address of the worker that runs this task."""
    from distributed import get_worker

    return str(get_worker().address)


def _record(order: Order, entry: Entry, folder: CohortFolder, claim: Claim) -> ScanRecord:
    job = ordered_job(order, budget())
    done = _published(entry, folder)
    if done is not None and are_same(done.inputs, entry.scan, job.model.channels):
        return done
    inputs, loaded = job.load(entry)
    try:
        if isinstance(loaded, Exception):
            raise loaded
        with closing(Writer(WRITERS_PER_LANE)) as writer:
            clock, keeper = Clock(), FolderKeeper(job, entry, inputs, folder, writer)
            with _computing, computing_on(None, order.precision):
                claim.check(at_once=True)
                job.explain(loaded, keeper, clock, lambda progress: claim.check())
            claim.check(at_once=True)
            return keeper.finish(clock.seconds).result()
    except InputError as error:  # of the scan; others may be the worker's
        return job.failure(entry, inputs, error)


def _published(entry: Entry, folder: CohortFolder) -> ScanRecord | None:
    """The record by a worker that was lost while it published the scan, or just after."""
    ScanWork(folder, entry.stem).settle()
    record = folder.record(entry.stem)
    return record if record is not None and record.status == "finished" else None


def ordered_job(order: Order, memory: int) -> CohortJob:
    """The job of an order, made once and kept.

    Raises:
        InputError: the model cannot be loaded, or the job is another one than was ordered.
    """
    with _loading:
        try:
            return _made(order, memory)
        except InputError as error:
            raise InputError(f"{socket.gethostname()}: {error}") from error


@lru_cache(maxsize=1)
def _made(order: Order, memory: int) -> CohortJob:
    warn_of_unused()
    with computing_on(None, order.precision):
        model = order.load()
        ran = {"host": socket.gethostname(), "device": current_device().device_kind, **software()}
    # A worker that came late may have less memory than the run's budget: its results then differ by
    # rounding.
    job = CohortJob(model, order.prediction, at_most(order.settings, memory), ran)
    order.require_same(job.identity)
    return job
