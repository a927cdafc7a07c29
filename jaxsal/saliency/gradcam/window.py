"""The heat maps of all domains that one window reaches, from derivatives at its layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.box import Box
from jaxsal.saliency.gradcam.alpha import Derivatives, finite_sum
from jaxsal.saliency.gradcam.diagonals import (
    Diagonals,
    Report,
    UpperAtWindow,
    exact,
    stochastic,
)
from jaxsal.saliency.gradcam.maps import LayerDerivatives, WindowMap
from jaxsal.saliency.gradcam.parts import apart, box_of, frame_of
from jaxsal.saliency.gradcam.sizes import Sizes, takes_diagonals
from jaxsal.saliency.gradcam.upper_network import UpperNetwork
from jaxsal.saliency.gradcam.weights import instance_map_in, pooled_map_in

if TYPE_CHECKING:
    from jaxsal.saliency.gradcam.parts import Part
    from jaxsal.saliency.methods.gradcam import GradCamSettings
    from jaxsal.types import Triple


@dataclass(frozen=True)
class WindowMaps:
    """Computes heat maps on windows of one size.

    Attributes:
        upper: the network above the layer.
        settings: which maps.
        pooled: one weight per channel, rather than one per position.
        sizes: how much is computed at once.
    """

    upper: UpperNetwork
    settings: GradCamSettings
    pooled: bool
    sizes: Sizes

    def steps(self, parameters: Any, window: tuple[int, ...], parts: int) -> int:
        """How many derivatives so many parts take in a window of this shape, at most."""
        if not takes_diagonals(self.upper, self.settings, parameters, window):
            return parts
        if self.settings.derivatives == "stochastic":
            return parts * self.settings.probes
        grid, channels = self.upper.shape(parameters, window)
        return math.prod(grid) * channels

    def __call__(
        self,
        at: UpperAtWindow,
        parts: Sequence[Part],
        placed: Callable[..., WindowMap],
        report: Report,
    ) -> list[WindowMap]:
        """The maps of some domains' parts in one window.

        Args:
            at: the window.
            parts: of the domains.
            placed: makes a `WindowMap` of what is known here of it: what it is on the layer.
            report: called with the number of steps that are done, `steps` in all.
        """
        left = self.steps(at.parameters, at.window.shape, len(parts))

        def advance(count: int) -> None:
            nonlocal left
            left -= count
            report(count)

        grid, _ = self.upper.shape(at.parameters, at.window.shape)
        boxes = [box_of(self.upper, at.parameters, part.points, grid) for part in parts]
        groups = apart(boxes)
        x, y, z, _ = at.window.shape
        domains = _sums_of_logits(parts, groups, (x, y, z))
        activations, linearised = self.upper.linearise(at.parameters, at.window)
        sums = finite_sum(activations)
        own_boxes = [[boxes[index] for index in group] for group in groups]
        derivatives = self._derivatives(at, linearised, domains, own_boxes, advance)
        found: dict[int, WindowMap] = {}
        for group, (first, diagonals) in zip(groups, derivatives, strict=True):
            for index in group:
                inside, start = self._map(activations, sums, boxes[index], first, diagonals)
                kept = self._kept(boxes[index], first, diagonals)
                found[index] = placed(inside, start, grid, derivatives=kept)
        advance(left)
        return [found[index] for index in range(len(parts))]

    def _derivatives(
        self,
        at: UpperAtWindow,
        linearised: Any,
        domains: np.ndarray,
        boxes: list[list[Box]],
        report: Report,
    ) -> Iterator[tuple[jax.Array, Diagonals | None]]:
        """First derivatives of each group over the whole layer, and higher ones if any."""
        settings, batch = self.settings, self.sizes.directions
        firsts = _in_batches(partial(self.upper.gradients, linearised), domains, self.sizes.domains)
        if not takes_diagonals(self.upper, settings, at.parameters, at.window.shape):
            yield from ((first, None) for first in firsts)
        elif settings.derivatives == "stochastic":
            drawn = settings.probes, settings.seed, batch, report
            for domain, first in zip(domains, firsts, strict=True):
                yield first, stochastic(at, domain, first.shape, *drawn)
        else:
            gathered = np.stack([np.asarray(first) for first in firsts])
            found = exact(at, domains, self._wanted(gathered, boxes), batch, report)
            yield from zip(map(jnp.asarray, gathered), found, strict=True)

    def _wanted(self, firsts: np.ndarray, boxes: list[list[Box]]) -> np.ndarray:
        """Unit vectors (B, x, y, z, K) whose derivatives of higher order can change the maps."""
        wanted = np.zeros(firsts.shape, bool)
        for mask, own in zip(wanted, boxes, strict=True):
            for box in own:
                box.cut(mask)[...] = True
        if self.settings.denominator == "paper" and not self.settings.keep_derivatives:
            wanted &= firsts > 0  # elsewhere the weight is zero whatever α is
        return wanted

    def _map(
        self,
        activations: jax.Array,
        sums: jax.Array,
        box: Box,
        first: jax.Array,
        diagonals: Diagonals | None,
    ) -> tuple[np.ndarray, Triple]:
        """The map in a box of the layer, and where the box begins."""
        x, y, z, _ = activations.shape
        frame = frame_of(box, (x, y, z))
        higher = diagonals.trusted() if diagonals else ()
        arguments = (
            Derivatives(first, *higher),
            activations,
            sums,
            jnp.array([frame.start, box.start, box.shape]),
            frame.shape,
        )
        how = self.settings.method, self.settings.denominator
        if self.pooled:
            return np.asarray(pooled_map_in(*arguments, *how)), (0, 0, 0)
        return np.asarray(instance_map_in(*arguments, *how)), frame.start

    def _kept(
        self, box: Box, first: jax.Array, diagonals: Diagonals | None
    ) -> LayerDerivatives | None:
        if not self.settings.keep_derivatives:
            return None
        higher = None if diagonals is None else diagonals.map(box.cut)
        return LayerDerivatives(box.start, box.cut(np.asarray(first)), higher)


def _sums_of_logits(
    parts: Sequence[Part], groups: Sequence[Sequence[int]], window: Triple
) -> np.ndarray:
    """Weights of all logits (B, X, Y, Z) in the sum of each group."""
    domains = np.zeros((len(groups), *window), np.float32)
    for domain, group in zip(domains, groups, strict=True):
        for index in group:
            domain[tuple(parts[index].points.T)] += parts[index].weights
    return domains


def _in_batches(
    compute: Callable[[jax.Array], jax.Array], arrays: np.ndarray, size: int
) -> Iterator[jax.Array]:
    """The results for each array, computed so many at once; the last batch is filled up."""
    for first in range(0, len(arrays), size):
        count = min(size, len(arrays) - first)
        rows = first + np.minimum(np.arange(size), count - 1)
        yield from compute(jnp.asarray(arrays[rows]))[:count]
