"""Scores of lesions in images that show only part of their surroundings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.compilation import compiled
from jaxsal.errors import InputError
from jaxsal.experiments.context_windows import (
    MOST_STEPS,
    LesionWindows,
    WindowPass,
    window_passes,
)
from jaxsal.field.plan import LogitField
from jaxsal.lesions import lesion_probability, output_channel
from jaxsal.progress import OnPart
from jaxsal.saliency.batches import in_batches
from jaxsal.saliency.domains import wanted_target
from jaxsal.saliency.hiding import at_voxels, room_for
from jaxsal.types import LogitFunction, Triple


@dataclass(frozen=True, eq=False)
class ContextScores:
    """Scores of one lesion, by how much of its surroundings the network sees.

    Attributes:
        label: of the lesion.
        mean: (D,) mean lesion probability over the lesion's voxels, per step.
        highest: (D,) the highest of them; the lesion is detected if it reaches the threshold.
    """

    label: int
    mean: np.ndarray
    highest: np.ndarray


def context_scores(
    field: LogitField,
    image: np.ndarray,
    labels: np.ndarray,
    chosen: Sequence[int],
    *,
    steps: Sequence[int] = tuple(range(36)),
    window: Triple | None = (96, 96, 96),
    batch: int = 4,
    target: int | None = None,
    on_pass: OnPart = lambda done, total: None,
) -> Iterator[ContextScores]:
    """Scores lesions in images that are zero but for a lesion dilated so many times.

    Windows of all lesions and steps are computed in batches of one size, by one program per
    network and window: about as many passes as there are lesions times steps, times the windows.

    Source: Spagnolo et al. 2026, "Experiment on contextual information", Fig. 15.

    Args:
        field: how the network is run.
        image: (X, Y, Z, C), as the network takes it.
        labels: (X, Y, Z) integers.
        chosen: which labels.
        steps: numbers of dilations.
        window: size of the one window per lesion, around its middle as far as it then lies within
            the image; None: the windows of the field that reach the lesion, blended.
        batch: windows per pass, halved if the device runs out of memory; scores do not depend on
            it but for rounding.
        target: output channel of the lesion class; by default the model's.
        on_pass: called with how many windows are done, of how many.

    Returns:
        Scores in the order of `chosen`, each as soon as its windows are done.

    Raises:
        InputError: a label is not in the image, a lesion is larger than the window, a number is
            out of range, or, as scores are asked for, there is no memory for one window.
    """
    _check(steps, batch)
    target = wanted_target(field, target)
    lesions = [LesionWindows.of(field, labels, label, window) for label in chosen]
    most = max((len(lesion.voxels) for lesion in lesions), default=1)
    passes = window_passes(lesions, image, labels, steps, room_for(most))
    sums = _summed(lesions, len(steps), in_batches(passes, batch, _run(field)), on_pass)
    return (
        _scores(lesion.label, logits, target, field.probability)
        for lesion, logits in zip(lesions, sums, strict=True)
    )


def _run(field: LogitField) -> Callable[[Sequence[WindowPass]], jax.Array]:
    """What runs the network on so many windows."""

    def compute(part: Sequence[WindowPass]) -> jax.Array:
        return logits_in_context(field.function, field.parameters, *_stacked(part))

    return compute


def _summed(
    lesions: Sequence[LesionWindows],
    steps: int,
    batches: Iterable[tuple[list[WindowPass], np.ndarray]],
    on_pass: OnPart,
) -> Iterator[np.ndarray]:
    """Blended logits (D, V, K) of one lesion after the other, of their windows in this order."""
    left = [steps * len(lesion.starts) for lesion in lesions]
    total, done = sum(left), 0
    sums: dict[int, np.ndarray] = {}
    for part, found in batches:
        for each, logits in zip(part, found, strict=True):
            lesion = lesions[each.lesion]
            used = logits[: len(lesion.voxels)].astype(np.float64)
            weights = lesion.weights[:, each.window, None]
            into = sums.setdefault(each.lesion, np.zeros((steps, *used.shape)))
            into[each.step] += np.where(weights > 0, weights * used, 0)
            left[each.lesion] -= 1
        done += len(part)
        on_pass(done, total)
        yield from (sums.pop(at) for at in sorted(sums) if not left[at])


def _check(steps: Sequence[int], batch: int) -> None:
    if not len(steps) or min(steps) < 0 or max(steps) > MOST_STEPS:
        raise InputError(f"steps must be one or more from 0 to {MOST_STEPS}, got {list(steps)}")
    if batch < 1:
        raise InputError(f"batch must be 1 or more, got {batch}")


def _scores(label: int, logits: np.ndarray, target: int, probability: str) -> ContextScores:
    channel = output_channel(target, logits.shape[-1])
    found = lesion_probability(logits, channel, probability)
    return ContextScores(label, found.mean(1), found.max(1))


def _stacked(part: Sequence[WindowPass]) -> tuple[Any, ...]:
    return (
        tuple(each.image for each in part),
        tuple(each.distances for each in part),
        np.array([each.dilations for each in part], np.int32),
        np.stack([each.voxels for each in part]),
    )


@partial(compiled, static_argnames="function")
def logits_in_context(
    function: LogitFunction,
    parameters: Any,
    images: tuple[jax.Array, ...],
    distances: tuple[jax.Array, ...],
    dilations: jax.Array,
    voxels: jax.Array,
) -> jax.Array:
    """Logits (B, V, K) at voxels (B, V, 3) of B windows that are zero beyond their dilations."""
    seen = jnp.stack(distances) <= dilations[:, None, None, None]
    logits = function(parameters, jnp.where(seen[..., None], jnp.stack(images), 0))
    return at_voxels(logits, voxels)
