"""The devices that are computed on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import jax
import numpy as np

from jaxsal.accelerators import ADVICE, default_backend
from jaxsal.current_device import current_device
from jaxsal.errors import InputError
from jaxsal.known_answer import require_right_products
from jaxsal.processes import available_cores
from jaxsal.settings import PRECISIONS, PRECISIONS_ON
from jaxsal.wording import counted

_chosen: ContextVar[tuple[jax.Device, ...]] = ContextVar("chosen", default=())
_MOST_CPU_DEVICES = 16  # each needs memory of its own


def default_devices() -> tuple[jax.Device, ...]:
    """The devices to share work between: those chosen, or the default one.

    All of the CPU's, where that is the default: they are one processor's cores.
    """
    if _chosen.get():
        return _chosen.get()
    configured = jax.config.jax_default_device  # type: ignore[attr-defined]
    device = current_device()
    if configured is None and device.platform == "cpu":
        return tuple(jax.local_devices(backend="cpu"))
    return (device,)


def split_cpu() -> None:
    """Lets JAX see each core as a device, for work that is shared between devices.

    XLA runs much of a pull-back on one core; several at a time keep all cores busy. Has no effect
    once JAX has computed something, or where the user has configured this.
    """
    configured = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    if configured > 0 or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    try:
        jax.config.update("jax_num_cpu_devices", min(available_cores(), _MOST_CPU_DEVICES))
    except RuntimeError:  # too late
        return


def computes(device: jax.Device) -> bool:
    """Whether a device computes; after some errors it does not again within the process.

    One whose memory is full does.
    """
    try:
        return float(jax.device_put(np.ones(2, np.float32), device).sum()) == 2
    except Exception as error:
        return ran_out_of_memory(error)


def ran_out_of_memory(error: Exception) -> bool:
    """Whether that is what an error of JAX says."""
    return "RESOURCE_EXHAUSTED" in str(error)


def every_device() -> tuple[jax.Device, ...]:
    """The devices chosen, or all of this host's best kind."""
    kind = best_kind()
    return default_devices() if kind is None else tuple(jax.local_devices(backend=kind))


def best_kind() -> str | None:
    """What all of this host's best devices are called together; None if one was chosen already."""
    configured = jax.config.jax_default_device  # type: ignore[attr-defined]
    return None if _chosen.get() or configured is not None else default_backend()


@contextmanager
def computing_on(name: str | None, precision: str = "float32") -> Iterator[list[jax.Device]]:
    """Makes a device the default within the block.

    Args:
        name: "cpu", "gpu", "tpu": all of this host's; "gpu:1": that one; None: JAX's choice, one
            accelerator or all of the CPU.
        precision: arithmetic that the devices must be capable of.

    Yields:
        The devices to compute on; the first is the default within the block.

    Raises:
        InputError: there is no such device, or it lacks that arithmetic or computes wrongly in it.
    """
    default_backend()  # which says in one sentence if there is none
    devices = list(default_devices()) if name is None else _find(name)
    with computing_with(devices):
        require_precision(precision)
        yield devices


def require_precision(precision: str) -> None:
    """Raises InputError if the current device lacks an arithmetic, or computes wrongly in it."""
    platform = current_device().platform
    known = PRECISIONS_ON.get(platform, PRECISIONS)
    if precision not in known:
        raise InputError(
            f"precision {precision} is not for a {platform.upper()}: choose one of "
            f"{', '.join(known)}"
        )
    require_right_products(precision)


def named(devices: Sequence[jax.Device]) -> str:
    """What devices of one kind are called, and how many there are."""
    if devices[0].platform == "cpu":
        every = len(jax.local_devices(backend="cpu"))
        if len(devices) < every:
            return f"{len(devices)} of {every} devices of the CPU"
        return f"the CPU ({counted(available_cores(), 'core')})"
    count = f"{len(devices)} × " if len(devices) > 1 else ""
    return f"{count}{devices[0].device_kind}"


@contextmanager
def computing_with(devices: Sequence[jax.Device]) -> Iterator[None]:
    """Shares work between these devices within the block, of this thread; the first is default."""
    token = _chosen.set(tuple(devices))
    try:
        with jax.default_device(devices[0]):
            yield
    finally:
        _chosen.reset(token)


def _find(name: str) -> list[jax.Device]:
    wanted = name.lower().replace("cuda", "gpu")
    kind = wanted.partition(":")[0]
    backends = ["cpu"] if kind == "cpu" else [default_backend(), "cpu"]
    found: dict[str, list[jax.Device]] = {}
    for backend in dict.fromkeys(backends):
        try:
            devices = jax.local_devices(backend=backend)
        except RuntimeError:  # JAX_PLATFORMS leaves it out
            continue
        platform = devices[0].platform
        found[platform] = devices
        found |= {f"{platform}:{i}": [device] for i, device in enumerate(devices)}
    if wanted not in found:
        advice = f"; {ADVICE[kind]}" if kind in ADVICE and kind not in found else ""
        raise InputError(f"there is no device {name!r} here; there are: {', '.join(found)}{advice}")
    return found[wanted]
