"""The devices that are computed on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from jaxsal.errors import InputError


def current_device() -> jax.Device:
    """The default device; also while a function is being traced."""
    chosen: jax.Device | str | None = jax.config.jax_default_device  # type: ignore[attr-defined]
    if isinstance(chosen, jax.Device):
        return chosen
    return jax.local_devices(backend=chosen)[0]


@contextmanager
def computing_on(name: str | None, precision: str = "float32") -> Iterator[list[jax.Device]]:
    """Makes a device the default within the block.

    Args:
        name: "cpu", "gpu", "tpu": all of this host's; "gpu:1": that one; None: JAX's choice of one.
        precision: arithmetic that the devices must be capable of.

    Yields:
        The devices to compute on; the first is the default within the block.

    Raises:
        InputError: there is no such device, or it lacks that arithmetic.
    """
    devices = [current_device()] if name is None else _find(name)
    platform = devices[0].platform
    if precision == "tf32" and platform != "gpu":
        raise InputError(
            f"precision tf32 needs an NVIDIA GPU, but the device is {platform}; "
            "choose float32 or bfloat16"
        )
    with jax.default_device(devices[0]):
        yield devices


def _find(name: str) -> list[jax.Device]:
    wanted = name.lower().replace("cuda", "gpu")
    backends = ["cpu"] if wanted.partition(":")[0] == "cpu" else [jax.default_backend(), "cpu"]
    found: dict[str, list[jax.Device]] = {}
    for backend in dict.fromkeys(backends):
        try:
            devices = jax.local_devices(backend=backend)
        except RuntimeError:  # JAX was told to do without, by JAX_PLATFORMS
            continue
        platform = devices[0].platform
        found[platform] = devices
        found |= {f"{platform}:{i}": [device] for i, device in enumerate(devices)}
    if wanted not in found:
        raise InputError(f"there is no device {name!r} here; there are: {', '.join(found)}")
    return found[wanted]
