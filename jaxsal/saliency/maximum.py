"""Signed-maximum maps of many lesions at once (Spagnolo et al. 2026, Eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.field import WindowPlan
from jaxsal.saliency.aggregate import LesionSum, accumulate, place
from jaxsal.saliency.engine import SLOTS, Batch, Work, portions
from jaxsal.saliency.queue import Domain, WindowGroup, by_lesions, window_groups
from jaxsal.saliency.vjp import Linearisations, pull_back_voxels


def signed_maximum_maps(work: Work, domains: Sequence[Domain]) -> list[LesionSum]:
    """For each lesion the signed maximum of its voxels' gradients, summed over noise samples.

    Voxels go through in batches filled from all lesions. Each is pulled back through every
    window that its logit comes from, and the weighted gradients are added before the maximum.

    Args:
        work: field, noisy images and portions.
        domains: the lesions.
    """
    voxels = np.concatenate([domain.voxels for domain in domains])
    owners = np.repeat(np.arange(len(domains)), [len(domain.voxels) for domain in domains])
    plan = work.field.plan(work.shape, voxels)
    groups = window_groups(plan, owners)
    last_group = {owner: i for i, group in enumerate(groups) for owner in owners[group.rows]}
    maps = [
        LesionSum(*plan.footprint(voxels, np.flatnonzero(owners == i)), work.channels)
        for i in range(len(domains))
    ]
    batch, keep = portions(work, plan, SLOTS)
    for first, count in work.sample_batches():
        pulls = work.linearisations(plan, first, count, keep)
        for index, group in enumerate(groups):
            gradients = _GroupGradients(plan, voxels, pulls, group, count)
            for rows in by_lesions(group.rows, owners, SLOTS):
                lesions, maxima = _maxima(work, gradients, rows, owners, batch)
                for lesion, maximum in zip(lesions, maxima, strict=False):
                    maps[lesion].combine_maximum(maximum, gradients.origin)
                    if last_group[lesion] == index:
                        maps[lesion].finish_samples()
    return maps


class _GroupGradients:
    """Gradients of single-voxel logits, for voxels that the same windows reach.

    Attributes:
        origin: position in the image (3,) at which the gradients' frame begins.
    """

    def __init__(
        self,
        plan: WindowPlan,
        voxels: np.ndarray,
        pulls: Linearisations,
        group: WindowGroup,
        samples: int,
    ) -> None:
        self._plan, self._pulls, self._group, self._samples = plan, pulls, group, samples
        self._corner = plan.starts[list(group.windows)].min(axis=0)
        self._inside = voxels + plan.before
        self.origin = self._corner - plan.before

    @property
    def frame(self) -> tuple[int, int, int]:
        """Size of the frame: one window's, if there is but one."""
        return self._plan.size if len(self._group.windows) == 1 else self._plan.frame

    def __call__(self, rows: np.ndarray) -> jax.Array:
        """(B, N, X, Y, Z, C) on the frame, for these voxels."""
        parts = ((w, self._window_gradients(rows, w)) for w in self._group.windows)
        if len(self._group.windows) == 1:
            return next(parts)[1]
        frames: jax.Array | None = None
        for window, gradients in parts:
            if frames is None:
                batch, samples, *_, channels = gradients.shape
                frames = jnp.zeros((batch, samples, *self.frame, channels), gradients.dtype)
            offset = self._plan.starts[window] - self._corner
            frames = place(frames, gradients, jnp.asarray(offset))
        assert frames is not None  # a group has at least one window
        return frames

    def _window_gradients(self, rows: np.ndarray, window: int) -> jax.Array:
        start = self._plan.starts[window]
        return pull_back_voxels(
            self._pulls.at(start),
            jnp.asarray(self._inside[rows] - start),
            jnp.asarray(self._plan.weights[rows, window]),
            samples=self._samples,
            size=self._plan.size,
        )


def _maxima(
    work: Work, gradients: _GroupGradients, rows: np.ndarray, owners: np.ndarray, batch: Batch
) -> tuple[np.ndarray, np.ndarray]:
    """The lesions (at most `SLOTS`) that these voxels belong to, and their maxima on the frame."""
    lesions = np.unique(owners[rows])
    maxima: jax.Array | None = None
    for filled, count, values in batch.run(rows, gradients):
        if maxima is None:
            maxima = jnp.zeros((SLOTS, *values.shape[1:]), values.dtype)
        # Repeated voxels that fill up a batch do not change a maximum.
        slots = np.searchsorted(lesions, owners[filled])
        maxima = accumulate(maxima, values, jnp.asarray(slots))
        work.report(count * values.shape[1])
    return lesions, np.asarray(maxima)
