"""The device that is computed on."""

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
def computing_on(name: str | None, precision: str = "float32") -> Iterator[jax.Device]:
    """Makes a device the default within the block.

    Args:
        name: "cpu", "gpu", "tpu", or one of several as "gpu:1"; None: JAX's choice.
        precision: arithmetic that the device must be capable of.

    Raises:
        InputError: there is no such device, or it lacks that arithmetic.
    """
    device = current_device() if name is None else _find(name)
    if precision == "tf32" and device.platform != "gpu":
        raise InputError(
            f"precision tf32 needs an NVIDIA GPU, but the device is {device.platform}; "
            "choose float32 or bfloat16"
        )
    with jax.default_device(device):
        yield device


def _find(name: str) -> jax.Device:
    platform, _, index = name.lower().partition(":")
    platform = "gpu" if platform == "cuda" else platform
    backends = ["cpu"] if platform == "cpu" else [jax.default_backend(), "cpu"]
    found = {
        f"{device.platform}:{i}": device
        for backend in dict.fromkeys(backends)
        for i, device in enumerate(jax.local_devices(backend=backend))
    }
    device = found.get(f"{platform}:{index or 0}")
    if device is None:
        raise InputError(f"there is no device {name!r} here; there are: {', '.join(found)}")
    return device
