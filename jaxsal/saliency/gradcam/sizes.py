"""How much of a window's derivatives is computed at once, and on how many devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxsal.errors import InputError
from jaxsal.saliency.gradcam.head import Head
from jaxsal.saliency.memory import (
    GIB,
    array_bytes,
    default_budget,
    linearising_bytes,
    working_bytes,
)
from jaxsal.saliency.memory_plan import power_of_two_within
from jaxsal.saliency.methods.gradcam import GradCamSettings
from jaxsal.shapes import Shapes

_MOST_ON_CPU, _MOST_ELSEWHERE = 1, 32  # domains or directions at once that pay


@dataclass(frozen=True)
class Sizes:
    """How much goes through at once.

    Attributes:
        domains: pull-backs of first derivatives.
        directions: unit vectors or probes.
    """

    domains: int
    directions: int


def takes_diagonals(
    head: Head, settings: GradCamSettings, parameters: Any, window: tuple[int, ...]
) -> bool:
    """Whether derivatives of second and third order are to be computed, and are not all zero."""
    return settings.derivatives != "closed-form" and not head.is_piecewise_linear(
        parameters, window
    )


def sizes_on_devices(
    head: Head,
    settings: GradCamSettings,
    parameters: Any,
    window: tuple[int, ...],
    devices: tuple[jax.Device, ...],
) -> tuple[Sizes, tuple[jax.Device, ...]]:
    """As `sizes_within`, of as many of the devices as the memory suffices for; and these."""
    budget = settings.memory or default_budget(devices)
    count = len(devices)
    while True:
        each = budget // count if devices[0].platform == "cpu" else budget
        try:
            sizes = sizes_within(head, settings, parameters, window, devices[0], each)
        except InputError:
            if count == 1:
                raise
            count //= 2
        else:
            return sizes, devices[:count]


def sizes_within(
    head: Head,
    settings: GradCamSettings,
    parameters: Any,
    window: tuple[int, ...],
    device: jax.Device,
    budget: int,
) -> Sizes:
    """As much at once as pays and fits the memory; powers of two, so that few are compiled.

    Args:
        head: the network above the layer.
        settings: which maps.
        parameters: of the network.
        window: its shape (X, Y, Z, C).
        device: to compute on.
        budget: bytes on it.

    Raises:
        InputError: it does not suffice.
    """
    shapes = Shapes.of(parameters).structs()
    image = jax.ShapeDtypeStruct(window, jnp.float32)
    domain = jax.ShapeDtypeStruct(window[:3], jnp.float32)
    domains = jax.ShapeDtypeStruct((1, *window[:3]), jnp.float32)
    grid, channels = head.shape(parameters, window)
    probes = jax.ShapeDtypeStruct((1, *grid, channels), jnp.float32)
    kept = jax.eval_shape(head.linearise, shapes, image)
    residuals = array_bytes((parameters, image, kept))
    forward = linearising_bytes(head.linearise, shapes, image)
    pull = working_bytes(head.gradients, kept[1], domains)
    if not takes_diagonals(head, settings, parameters, window):
        along = 0
    elif settings.derivatives == "exact":
        entry = jax.ShapeDtypeStruct((1,), jnp.int32)
        along = working_bytes(head.along_units, shapes, image, domains, entry)
    else:
        along = working_bytes(head.along_probes, shapes, image, domain, probes)
    least = residuals + max(forward, pull, along)
    if budget < least:
        raise InputError(
            f"a memory budget of {budget / GIB:.3g} GiB is too small for the layer "
            f"{head.layer!r} on a window of {window[:3]}: it takes about {least / GIB:.3g} GiB; "
            "allow more memory, or take smaller windows"
        )
    most = _MOST_ON_CPU if device.platform == "cpu" else _MOST_ELSEWHERE
    free = budget - residuals
    return Sizes(
        domains=power_of_two_within(min(most, free // pull)),
        directions=power_of_two_within(min(most, free // along)) if along else 1,
    )
