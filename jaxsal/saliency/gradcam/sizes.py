"""How much of a window's derivatives is computed at once, and on how many devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxsal.errors import InputError
from jaxsal.saliency.memory import (
    GIB,
    array_bytes,
    default_budget,
    linearising_bytes,
    working_bytes,
)
from jaxsal.saliency.memory_plan import on_devices, power_of_two_within
from jaxsal.shapes import Shapes

if TYPE_CHECKING:
    from jaxsal.saliency.gradcam.upper_network import UpperNetwork
    from jaxsal.saliency.methods.gradcam import GradCamSettings

Devices = tuple[jax.Device, ...]
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
    upper: UpperNetwork, settings: GradCamSettings, parameters: Any, window: tuple[int, ...]
) -> bool:
    """Whether derivatives of second and third order are to be computed, and are not all zero."""
    return settings.derivatives != "closed-form" and not upper.is_piecewise_linear(
        parameters, window
    )


def sizes_on_devices(
    upper: UpperNetwork,
    settings: GradCamSettings,
    parameters: Any,
    window: tuple[int, ...],
    devices: Devices,
) -> tuple[Sizes, Devices]:
    """How much goes at once on as many of the devices as the memory suffices for; and these.

    Args:
        upper: the network above the layer.
        settings: which maps.
        parameters: of the network.
        window: its shape (X, Y, Z, C).
        devices: to share the work between.

    Raises:
        InputError: the memory does not suffice for one device.
    """
    needs = _needs_of(upper, settings, parameters, window)
    most = _MOST_ON_CPU if devices[0].platform == "cpu" else _MOST_ELSEWHERE

    def attempt(devices: Devices, budget: int) -> tuple[Sizes, Devices] | None:
        return (needs.within(budget, most), devices) if budget >= needs.least else None

    budget = settings.memory or default_budget(devices)
    found = on_devices(devices, budget, attempt)
    if found is None:
        raise InputError(
            f"a memory budget of {budget / GIB:.3g} GiB is too small for the layer "
            f"{upper.layer!r} on a window of {window[:3]}: it takes about "
            f"{needs.least / GIB:.3g} GiB; allow more memory, or take smaller windows"
        )
    return found


@dataclass(frozen=True)
class _Needs:
    """Bytes that the steps of a window take.

    Attributes:
        kept: the parameters, the image, and what is kept of linearising.
        linearise: while the window is linearised, besides what is kept.
        pull_back: of one domain.
        along: one unit vector or probe; 0 where no derivatives of higher order are computed.
    """

    kept: int
    linearise: int
    pull_back: int
    along: int

    @property
    def least(self) -> int:
        """With one domain and one direction at a time."""
        return self.kept + max(self.linearise, self.pull_back, self.along)

    def within(self, budget: int, most: int) -> Sizes:
        """What fits; powers of two, so that few programs are compiled, and ``most`` at most."""
        free = budget - self.kept
        return Sizes(
            domains=power_of_two_within(min(most, free // self.pull_back)),
            directions=power_of_two_within(min(most, free // self.along)) if self.along else 1,
        )


def _needs_of(
    upper: UpperNetwork, settings: GradCamSettings, parameters: Any, window: tuple[int, ...]
) -> _Needs:
    shapes = Shapes.of(parameters).structs()
    image = jax.ShapeDtypeStruct(window, jnp.float32)
    domain = jax.ShapeDtypeStruct(window[:3], jnp.float32)
    domains = jax.ShapeDtypeStruct((1, *window[:3]), jnp.float32)
    grid, channels = upper.shape(parameters, window)
    probes = jax.ShapeDtypeStruct((1, *grid, channels), jnp.float32)
    kept = jax.eval_shape(upper.linearise, shapes, image)
    if not takes_diagonals(upper, settings, parameters, window):
        along = 0
    elif settings.derivatives == "exact":
        entry = jax.ShapeDtypeStruct((1,), jnp.int32)
        along = working_bytes(upper.along_units, shapes, image, domains, entry)
    else:
        along = working_bytes(upper.along_probes, shapes, image, domain, probes)
    return _Needs(
        kept=array_bytes((parameters, image, kept)),
        linearise=linearising_bytes(upper.linearise, shapes, image),
        pull_back=working_bytes(upper.gradients, kept[1], domains),
        along=along,
    )
