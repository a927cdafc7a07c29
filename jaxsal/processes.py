"""Processes that work without JAX, and their cores; imports none, since they import it first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from typing import TypeVar

from jaxsal.errors import InputError


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


@contextmanager
def in_processes(
    work: Callable[[_Job], _Result], jobs: Sequence[_Job], processes: int | None = None
) -> Iterator[Iterator[_Result]]:
    """The results in the order of the jobs; within the block, of which leaving ends the processes.

    Args:
        work: done to each job, which are both pickled; its module should not import JAX.
        jobs: what there is to do.
        processes: how many work at once; with one, it is this process. None: one per CPU core.

    Raises:
        InputError: the number of processes is not positive, or a process was ended from outside.
    """
    if processes is not None and processes < 1:
        raise InputError(f"processes must be at least 1, got {processes}")
    processes = min(processes or available_cores(), len(jobs))
    if processes <= 1:
        yield map(work, jobs)
        return
    with closing(_results(work, jobs, processes)) as results:
        yield results


def _results(
    work: Callable[[_Job], _Result], jobs: Sequence[_Job], processes: int
) -> Generator[_Result]:
    # Spawned: a fork of a process with JAX's threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=live_with_the_parent) as pool:
        try:
            yield from pool.map(work, jobs)
        except BrokenProcessPool as error:
            raise InputError(
                "a process that reads images was ended from outside, perhaps for want of memory: "
                f"let fewer than {processes} read at once"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def live_with_the_parent() -> None:
    """Has a process of `multiprocessing` leave interrupts to its parent, and end if that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
