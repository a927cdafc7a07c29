"""Maps of the summed logits of lesions (Spagnolo et al. 2026, Eqs. 1 and 2).

Sums are linear: a lesion's indicator, weighted as the field blends its windows, is pulled back
through each of its windows once, whatever the lesion's size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.field import WindowPlan
from jaxsal.saliency.aggregate import LesionSum
from jaxsal.saliency.engine import Batch, Work, portions
from jaxsal.saliency.queue import Domain
from jaxsal.saliency.vjp import Linearisations, pull_back
from jaxsal.types import Triple


@dataclass(frozen=True)
class _Part:
    """The part of a lesion's sum that comes from one window."""

    lesion: int
    positions: np.ndarray  # (V, 3) within the window
    weights: np.ndarray  # (V,)


def sum_maps(work: Work, domains: Sequence[Domain]) -> list[LesionSum]:
    """For each lesion the gradient of the sum of its logits, summed over noise samples.

    Args:
        work: field, noisy images and portions.
        domains: the lesions.
    """
    plans = [work.field.plan(work.shape, domain.voxels, together=True) for domain in domains]
    maps = [
        LesionSum(*plan.footprint(domain.voxels, np.arange(len(domain.voxels))), work.channels)
        for plan, domain in zip(plans, domains, strict=True)
    ]
    sizes = {plan.size: plan for plan in plans}
    parts = {size: _parts_by_window(plans, domains, size) for size in sizes}
    batches = {size: _batch(work, plan, parts[size]) for size, plan in sizes.items()}
    for first, count in work.sample_batches():
        for size, plan in sizes.items():
            pulls = work.linearisations(plan, first, count, keep=1)
            for start, lesions in parts[size].items():
                origin = np.array(start) - plan.before
                for lesion, gradient in _gradients(
                    work, pulls, start, lesions, batches[size], count
                ):
                    maps[lesion].combine_sum(gradient, origin)
        for lesion_map in maps:
            lesion_map.finish_samples()
    return maps


def pull_backs(work: Work, domains: Sequence[Domain]) -> int:
    """How many pull-backs of one noise sample `sum_maps` takes."""
    return sum(
        len(work.field.plan(work.shape, domain.voxels, together=True).starts) for domain in domains
    )


def _batch(work: Work, plan: WindowPlan, parts: dict[Triple, list[_Part]]) -> Batch:
    batch, _ = portions(work, plan, slots=0)
    if all(len(lesions) == 1 for lesions in parts.values()):
        batch.size = 1  # nothing to batch: do not pull back what only fills up
    return batch


def _parts_by_window(
    plans: Sequence[WindowPlan], domains: Sequence[Domain], size: Triple
) -> dict[Triple, list[_Part]]:
    parts: dict[Triple, list[_Part]] = defaultdict(list)
    for lesion, (plan, domain) in enumerate(zip(plans, domains, strict=True)):
        if plan.size != size:
            continue
        for window, start in enumerate(plan.starts):
            reached = plan.weights[:, window] > 0
            inside = domain.voxels[reached] + plan.before - start
            x, y, z = start.tolist()
            parts[(x, y, z)].append(_Part(lesion, inside, plan.weights[reached, window]))
    return parts


def _gradients(
    work: Work,
    pulls: Linearisations,
    start: Triple,
    parts: list[_Part],
    batch: Batch,
    samples: int,
) -> list[tuple[int, np.ndarray]]:
    """Lesion and gradient (N, X, Y, Z, C) for each of the parts on one window."""
    pull = pulls.at(np.array(start))

    def compute(indices: np.ndarray) -> jax.Array:
        cotangents = np.zeros((len(indices), *pulls.size), np.float32)
        for cotangent, index in zip(cotangents, indices, strict=True):
            cotangent[tuple(parts[index].positions.T)] = parts[index].weights
        return pull_back(pull, jnp.asarray(cotangents), samples)

    results = []
    for indices, count, gradients in batch.run(np.arange(len(parts)), compute):
        values = np.asarray(gradients)
        results += [(parts[indices[i]].lesion, values[i]) for i in range(count)]
        work.report(count * samples)
    return results
