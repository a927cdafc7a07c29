"""How much memory there is, and how much a computation needs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import psutil
from jax.extend.core import Literal

if TYPE_CHECKING:
    from jaxsal.saliency.derivative import Derivative
    from jaxsal.shapes import Shapes

GIB = 2**30
_CPU_SHARE = 0.5  # of the memory that is free now: other programs need some too
DEVICE_SHARE = 0.8
# XLA keeps more alive than an ideal schedule: by its own account, on CPU, up to 2.2 times as much
# in pull-backs, and 1.25 times in linearising, most of which is what is kept.
_SCHEDULE_FACTOR = 2.5
_LINEARISING_FACTOR = 1.5


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
        pull_back: while one item is pulled back.
    """

    prepared: int
    linearise: int
    linearised: int
    pull_back: int


@lru_cache(maxsize=64)
def needs_of(
    derivative: Derivative, parameters: Shapes, windows: tuple[int, ...], length: int
) -> Needs:
    """What a derivative takes on windows (N, X, Y, Z, C), for items of ``length`` voxels."""
    arguments = parameters.structs(), jax.ShapeDtypeStruct(windows, jnp.float32)
    prepared = jax.eval_shape(derivative.prepare, arguments[0])
    linearised = jax.eval_shape(derivative.linearise, *arguments)
    cotangents = jax.eval_shape(
        derivative.cotangents,
        jax.ShapeDtypeStruct((1, length, 3), jnp.int32),
        jax.ShapeDtypeStruct((1, length), jnp.float32),
    )
    return Needs(
        prepared=array_bytes(prepared),
        linearise=linearising_bytes(derivative.linearise, *arguments),
        linearised=array_bytes(linearised),
        pull_back=working_bytes(derivative.pull_back, prepared, linearised, cotangents),
    )


def working_bytes(function: Any, *arguments: Any) -> int:
    """An estimate of the memory that a function needs besides its arguments.

    Args:
        function: traceable by JAX; nothing is computed or compiled.
        arguments: arrays, or their shapes.
    """
    return int(_SCHEDULE_FACTOR * _live_bytes(jax.make_jaxpr(function)(*arguments).jaxpr))


def linearising_bytes(function: Any, *arguments: Any) -> int:
    """As `working_bytes`, of a function whose results are kept, and without these."""
    live = _live_bytes(jax.make_jaxpr(function)(*arguments).jaxpr)
    kept = array_bytes(jax.eval_shape(function, *arguments))
    return max(int(_LINEARISING_FACTOR * live) - kept, 0)


def array_bytes(tree: Any) -> int:
    """Total size of all arrays, or shapes of arrays, in a pytree."""
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(tree))


def _live_bytes(jaxpr: Any) -> int:
    """The largest total size of intermediate values alive at once, in the order of the jaxpr."""
    last_use: dict[Any, int] = {}
    for index, equation in enumerate(jaxpr.eqns):
        last_use.update(dict.fromkeys(_variables(equation.invars), index))
    last_use.update(dict.fromkeys(_variables(jaxpr.outvars), len(jaxpr.eqns)))
    computed: set[Any] = set()
    alive = peak = 0
    for index, equation in enumerate(jaxpr.eqns):
        results = [v for v in equation.outvars if v in last_use]
        computed.update(results)
        alive += array_bytes([v.aval for v in results])
        peak = max(peak, alive + max(map(_live_bytes, _inner(equation)), default=0))
        ended = {v for v in _variables(equation.invars) if v in computed and last_use[v] == index}
        alive -= array_bytes([v.aval for v in ended])
    return peak


def _variables(atoms: Any) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def _inner(equation: Any) -> Iterator[Any]:
    """The jaxprs that an equation calls, such as the body of a jitted function."""
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(item, "jaxpr", item)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr
