"""The line from a lesion's baseline to the image, and the mean of gradients along it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.box import Box
from jaxsal.field.network import window_logits
from jaxsal.field.plan import pad_image
from jaxsal.saliency.engine import Engine
from jaxsal.saliency.items import items_of
from jaxsal.saliency.layout import Work
from jaxsal.saliency.noise import NoisyImages

if TYPE_CHECKING:
    from jaxsal.field.plan import LogitField
    from jaxsal.saliency.domains import Domain


@dataclass(frozen=True, eq=False)
class Path:
    """The images ``x_0 + t (x - x_0)`` for t from 0 to 1, and a lesion's logits along them.

    Attributes:
        field: the logits as a function of the image.
        target: output channel.
        image: (X, Y, Z, C), x.
        baseline: (X, Y, Z, C), x_0.
        changed: the box outside of which the two are the same.
        domain: the lesion.
        devices: to share the work between.
        budget: bytes to stay within.
    """

    field: LogitField
    target: int
    image: np.ndarray
    baseline: np.ndarray
    changed: Box
    domain: Domain
    devices: tuple[jax.Device, ...]
    budget: int

    @cached_property
    def change(self) -> float:
        """y'(x) - y'(x_0), y' the sum of the lesion's logits; by forward passes."""
        with jax.default_device(self.devices[0]):
            return self._score(self.image) - self._score(self.baseline)

    def _score(self, image: np.ndarray) -> float:
        """The sum of the lesion's logits, from the windows that reach it."""
        field, voxels = self.field, self.domain.voxels
        x, y, z = image.shape[:3]
        plan = field.plan((x, y, z), voxels)
        padded, total = pad_image(jnp.asarray(image), plan), 0.0
        for start, weights in zip(plan.starts, plan.weights.T, strict=True):
            logits = window_logits(field.function, field.parameters, padded, start, plan.size)
            reached = weights > 0
            points = tuple((voxels[reached] + plan.before - start).T)
            found = np.asarray(logits[..., self.target])[points]
            total += float(weights[reached].astype(np.float64) @ found)
        return total

    def integrated(self, steps: int, report: Callable[[int], None]) -> tuple[np.ndarray, Box]:
        """The mean gradient at so many points, times ``x - x_0``.

        The points lie in the middle of as many equal parts of the path (midpoint rule).

        Args:
            steps: K.
            report: called with the number of gradients that are done.

        Returns:
            The map (x, y, z, C), and the box of the image that it is of; elsewhere it is zero.

        Raises:
            InputError: the memory does not suffice.
        """
        x, y, z, channels = self.image.shape
        with jax.default_device(self.devices[0]):
            points = NoisyImages(self.image, steps, _points, (self.baseline, steps), np.asarray)
            work = Work(
                field=self.field,
                target=self.target,
                noisy=points,
                shape=(x, y, z),
                channels=channels,
                devices=self.devices,
                budget=self.budget,
                item_batch=None,
                noise_batch=None,
                squares=False,
                tolerance=None,
                report=report,
            )
            voxels = self.domain.voxels
            engine = Engine(work, voxels, items_of([self.domain], [[np.arange(len(voxels))]]))
            (found,) = engine.maps([0])
        box = engine.footprint(0) & self.changed
        return found.mean(box, 1) * (box.cut(self.image) - box.cut(self.baseline)), box


def _points(end: jax.Array, path: tuple[jax.Array, jax.Array], numbers: jax.Array) -> jax.Array:
    """The images of these numbers (N,), of all on a path from its start: (N, X, Y, Z, C)."""
    start, steps = path
    shares = (numbers + 0.5) / steps
    return jax.vmap(lambda share: start + share * (end - start))(shares)
