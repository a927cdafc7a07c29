"""How much memory there is, and how much a computation needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import psutil

from jaxsal.current_device import current_device
from jaxsal.saliency.live_bytes import live_bytes, stored_bytes

if TYPE_CHECKING:
    from jaxsal.saliency.derivative import Derivative
    from jaxsal.shapes import Shapes

GIB = 2**30
_CPU_SHARE = 0.5  # of the memory that is free now: other programs need some too
DEVICE_SHARE = 0.8
_SEVERAL = 32  # items of the batch that tells how much each takes on a GPU or TPU


def default_budget(devices: Sequence[jax.Device]) -> int:
    """Bytes that may be used on each of these devices, on a CPU on all together, by default."""
    if devices[0].platform == "cpu":
        return int(min(psutil.virtual_memory().available, _container_limit()) * _CPU_SHARE)
    return int(min(map(_free_bytes, devices)) * DEVICE_SHARE)


def _free_bytes(device: jax.Device) -> int:
    statistics = device.memory_stats() or {}
    return int(statistics.get("bytes_limit", 4 * GIB) - statistics.get("bytes_in_use", 0))


def _container_limit(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes left to the control group that this process runs in, such as a container or a job."""
    for group, limit, used in (
        (root, "memory.max", "memory.current"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            held = int((group / used).read_text())
            left = int((group / limit).read_text()) - held
        except (OSError, ValueError):  # no such group, or no limit ("max")
            continue
        return left + min(_cached_files(group / "memory.stat"), held)
    return math.inf


def _cached_files(statistics: Path) -> int:
    """Bytes of a group that are copies of files and are given up when memory is needed."""
    try:
        lines = dict(line.split() for line in statistics.read_text().splitlines())
        return int(lines.get("total_inactive_file", lines.get("inactive_file", 0)))
    except (OSError, ValueError):
        return 0


@dataclass(frozen=True)
class Needs:
    """Bytes that the steps of a derivative take on one device.

    Attributes:
        prepared: what is kept of the parameters besides themselves.
        linearise: while a window is linearised, besides what is kept of it.
        linearised: what is kept of it.
        shared: while items are pulled back, however many.
        pull_back: for each of these items.
    """

    prepared: int
    linearise: int
    linearised: int
    shared: int
    pull_back: int


def needs_of(derivative: Derivative, parameters: Shapes, windows: tuple[int, ...]) -> Needs:
    """What a derivative takes on windows (N, X, Y, Z, C).

    On the current device; nothing is compiled.
    """
    return _needs_of(derivative, parameters, windows, current_device())


@lru_cache(maxsize=64)
def _needs_of(
    derivative: Derivative,
    parameters: Shapes,
    windows: tuple[int, ...],
    device: jax.Device,
) -> Needs:
    arguments = parameters.structs(), jax.ShapeDtypeStruct(windows, jnp.float32)
    prepared = jax.eval_shape(derivative.prepare, arguments[0])
    linearised = jax.eval_shape(derivative.linearise, *arguments)

    def taken(items: int) -> int:
        cotangents = derivative.cotangent_shapes(items)
        return working_bytes(derivative.pull_back, prepared, linearised, cotangents)

    one = each = taken(1)
    if device.platform != "cpu":  # there a batch takes its items one by one
        each = (taken(_SEVERAL) - one) // (_SEVERAL - 1)
    return Needs(
        prepared=stored_bytes(prepared),
        linearise=linearising_bytes(derivative.linearise, *arguments),
        linearised=stored_bytes(linearised),
        shared=max(one - each, 0),
        pull_back=each,
    )


def working_bytes(function: Any, *arguments: Any) -> int:
    """An estimate of the memory that a function needs besides its arguments.

    Args:
        function: traceable by JAX; nothing is computed or compiled.
        arguments: arrays, or their shapes.
    """
    return sum(live_bytes(function, *arguments))


def linearising_bytes(function: Any, *arguments: Any) -> int:
    """As `working_bytes`, of a function whose results are kept, and without these."""
    return live_bytes(function, *arguments)[0]


def array_bytes(tree: Any) -> int:
    """Total size of all arrays, or shapes of arrays, in a pytree."""
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(tree))
