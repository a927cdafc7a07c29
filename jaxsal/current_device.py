"""The device that JAX computes on by default; programs choose by it while they are traced."""

from __future__ import annotations

import jax


def current_device() -> jax.Device:
    """The default device; also while a function is being traced."""
    chosen: jax.Device | str | None = jax.config.jax_default_device  # type: ignore[attr-defined]
    if isinstance(chosen, jax.Device):
        return chosen
    return jax.local_devices(backend=chosen)[0]
