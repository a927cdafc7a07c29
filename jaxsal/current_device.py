"""The device that programs are traced for; they choose their forms by it.

It is JAX's default device, or another that `tracing_for` names: also an abstract one, which the
machine lacks, so that programs can be compiled for it ahead of time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax

_traced_for = jax.make_user_context(None)  # JAX keeps what it traces apart by this


def current_device() -> jax.Device:
    """The device that is computed on or traced for; also while a function is being traced."""
    if _traced_for.value is not None:
        return _traced_for.value
    chosen: jax.Device | str | None = jax.config.jax_default_device  # type: ignore[attr-defined]
    if isinstance(chosen, jax.Device):
        return chosen
    return jax.local_devices(backend=chosen)[0]


@contextmanager
def tracing_for(device: jax.Device) -> Iterator[None]:
    """Within the block, of this thread, programs are traced for this device.

    Where anything is computed does not change. Compiled functions are traced for each device
    anew.

    Args:
        device: one that is there, or of `jax.experimental.topologies.get_topology_desc`.
    """
    with _traced_for(device):
        yield
