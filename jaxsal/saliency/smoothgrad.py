"""Instance-level and class-level SmoothGrad (Spagnolo et al. 2026, Eqs. 1-3)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsal.errors import InputError
from jaxsal.field import LogitField, image_shape
from jaxsal.lesions import lesion_probability, output_channel
from jaxsal.saliency.aggregate import LesionSum
from jaxsal.saliency.engine import MAPS_SHARE, Work
from jaxsal.saliency.maps import CLASS_LEVEL, Crop, SaliencyMaps
from jaxsal.saliency.maximum import signed_maximum_maps
from jaxsal.saliency.memory import default_budget
from jaxsal.saliency.noise import noisy_images
from jaxsal.saliency.queue import Domain
from jaxsal.saliency.sums import pull_backs, sum_maps
from jaxsal.settings import AGGREGATES, Aggregate, NoiseScale


@dataclass(frozen=True)
class Progress:
    """How far a computation is.

    Attributes:
        lesions_done: lesions whose map is complete.
        lesions: how many lesions there are.
        gradients_done: gradients computed. For the signed maximum, one per voxel and noise
            sample; for sums, one per lesion, window and noise sample.
        gradients: how many there are.
    """

    lesions_done: int
    lesions: int
    gradients_done: int
    gradients: int


OnProgress = Callable[[Progress], None]


def smoothgrad(
    field: LogitField,
    image: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    target: int = 1,
    aggregate: Aggregate = "max",
    samples: int = 50,
    noise: float = 0.05,
    noise_scale: NoiseScale = "range",
    seed: int = 0,
    noise_samples: ArrayLike | None = None,
    memory: int | None = None,
    voxel_batch: int | None = None,
    noise_batch: int = 1,
    on_progress: OnProgress | None = None,
) -> SaliencyMaps:
    """Gradient of each lesion's logits with respect to the image, averaged over noisy images.

    With ``D[n, v']`` the gradient of the logit of voxel v' at the n-th noisy image, a lesion's
    map is the mean over n of an aggregate of ``D[n, v']`` over the voxels v' of its domain.

    Args:
        field: logits as a function of the image: `whole_volume` or `sliding_window`.
        image: (X, Y, Z, C), normalised as the network expects.
        labels: (X, Y, Z) whole numbers, one lesion domain per positive label. None: class level,
            the sum over all voxels that the field segments (lesion probability at least the
            model's threshold, 0.5 for a callable), averaged over n (Eq. 1); it is stored under
            the label 0, and ``aggregate`` does not apply.
        target: output channel whose logit is explained; for networks with a single output
            channel, 0 and 1 both mean that one.
        aggregate: "max": at each voxel the gradient of largest magnitude, with its sign
            (Spagnolo et al. 2026, Eq. 3); "mean" (Eq. 2); or "sum".
        samples: number N of noisy images.
        noise: level of the Gaussian noise; see ``noise_scale``.
        noise_scale: "range": ``noise`` is a fraction of channel 0's range; "absolute": it is the
            standard deviation.
        seed: of the noise; equal seeds give equal noise in any batch, window or device.
        noise_samples: (N, X, Y, Z, C) noise to add instead; ``samples``, ``noise``,
            ``noise_scale`` and ``seed`` then do not apply.
        memory: bytes to stay within; by default a share of what the device has.
        voxel_batch: gradients computed at once; by default as many as pay and fit the memory.
        noise_batch: noisy images computed at once. Results do not depend on either.
        on_progress: called after each batch.

    Returns:
        The maps, in logits per unit of each image channel, float32.

    Raises:
        InputError: an argument is out of its range, or shapes do not agree.
    """
    crops = smoothgrad_stream(
        field,
        image,
        labels,
        target=target,
        aggregate=aggregate,
        samples=samples,
        noise=noise,
        noise_scale=noise_scale,
        seed=seed,
        noise_samples=noise_samples,
        memory=memory,
        voxel_batch=voxel_batch,
        noise_batch=noise_batch,
        on_progress=on_progress,
    )
    x, y, z = np.shape(image)[:3]
    return SaliencyMaps(dict(crops), (x, y, z))


def smoothgrad_stream(
    field: LogitField,
    image: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    target: int = 1,
    aggregate: Aggregate = "max",
    samples: int = 50,
    noise: float = 0.05,
    noise_scale: NoiseScale = "range",
    seed: int = 0,
    noise_samples: ArrayLike | None = None,
    memory: int | None = None,
    voxel_batch: int | None = None,
    noise_batch: int = 1,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[int, Crop]]:
    """As `smoothgrad`, but yields each label with its map as soon as it is complete.

    Only as many lesions as fit the memory are computed together, so that a scan with any number
    of lesions can be explained. Arguments are checked at once, not when the first map is asked for.
    """
    _check_choices(aggregate, voxel_batch, noise_batch, memory)
    image = _checked_image(image)
    target = _checked_target(field, image, target)
    noisy = noisy_images(image, samples, noise, noise_scale, seed, noise_samples)
    if labels is None:
        domains, aggregate = _segmented_domain(field, image, target), "sum"
    else:
        domains = _labelled_domains(labels, image)
    tracker = _Tracker(on_progress, len(domains))
    x, y, z, channels = image.shape
    work = Work(
        field=field,
        target=target,
        noisy=noisy,
        shape=(x, y, z),
        channels=channels,
        budget=memory or default_budget(),
        voxel_batch=voxel_batch,
        noise_batch=min(noise_batch, noisy.count),
        report=tracker.advance,
    )
    return _compute(work, domains, aggregate, tracker)


def _compute(
    work: Work, domains: Sequence[Domain], aggregate: Aggregate, tracker: _Tracker
) -> Iterator[tuple[int, Crop]]:
    samples = work.noisy.count
    voxelwise = aggregate == "max"
    compute = signed_maximum_maps if voxelwise else sum_maps
    pulls = sum(len(d.voxels) for d in domains) if voxelwise else pull_backs(work, domains)
    tracker.gradients = samples * pulls
    for wave in _waves(work, domains, together=not voxelwise):
        for domain, lesion_map in zip(wave, compute(work, wave), strict=True):
            scale = samples * (len(domain.voxels) if aggregate == "mean" else 1)
            yield domain.label, _crop(domain.label, lesion_map, scale, samples)
        tracker.finish(len(wave))


class _Tracker:
    def __init__(self, on_progress: OnProgress | None, lesions: int) -> None:
        self._tell, self._lesions = on_progress, lesions
        self._lesions_done = self._done = self.gradients = 0

    def advance(self, gradients: int) -> None:
        self._done += gradients
        self._report()

    def finish(self, lesions: int) -> None:
        self._lesions_done += lesions
        self._report()

    def _report(self) -> None:
        if self._tell is not None:
            self._tell(Progress(self._lesions_done, self._lesions, self._done, self.gradients))


def _checked_image(image: ArrayLike) -> jax.Array:
    array = jnp.asarray(image, jnp.float32)
    if not bool(jnp.isfinite(array).all()):
        raise InputError("the image must be finite everywhere, but has NaN or infinite voxels")
    return array


def _checked_target(field: LogitField, image: jax.Array, target: int) -> int:
    shape = image_shape(field.function, image)
    window = field.plan(shape, np.zeros((1, 3), int)).size
    batch = jax.ShapeDtypeStruct((1, *window, image.shape[-1]), jnp.float32)
    outputs = jax.eval_shape(field.function, field.parameters, batch).shape[-1]
    return output_channel(target, outputs)


def _check_choices(
    aggregate: str, voxel_batch: int | None, noise_batch: int, memory: int | None
) -> None:
    if aggregate not in AGGREGATES:
        raise InputError(f"aggregate must be one of {', '.join(AGGREGATES)}; got {aggregate!r}")
    for name, value in (("voxel_batch", voxel_batch), ("noise_batch", noise_batch)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"{name} must be a whole number of at least 1, got {value}")
    if memory is not None and memory <= 0:
        raise InputError(f"memory must be a positive number of bytes, got {memory}")


def _labelled_domains(labels: ArrayLike, image: jax.Array) -> list[Domain]:
    array = np.asarray(labels)
    if array.shape != image.shape[:3]:
        raise InputError(f"labels must be on the image's grid {image.shape[:3]}, got {array.shape}")
    if not np.array_equal(array, array.astype(np.int64)) or array.min() < 0:
        raise InputError("labels must be whole numbers, 0 for background and none negative")
    positions = np.argwhere(array)
    values = array[tuple(positions.T)].astype(np.int64)
    return [Domain(int(v), positions[values == v]) for v in np.unique(values)]


def _segmented_domain(field: LogitField, image: jax.Array, target: int) -> list[Domain]:
    probability = np.asarray(lesion_probability(field(image), target))
    threshold = 0.5 if field.threshold is None else field.threshold
    voxels = np.argwhere(probability >= threshold)
    return [Domain(CLASS_LEVEL, voxels)] if len(voxels) else []


def _waves(work: Work, domains: Sequence[Domain], *, together: bool) -> Iterator[list[Domain]]:
    """Lesions to compute together: as many, in their order, as their maps fit the budget."""
    budget = MAPS_SHARE * work.budget
    wave: list[Domain] = []
    used = 0
    for domain in domains:
        plan = work.field.plan(work.shape, domain.voxels, together=together)
        low, high = plan.footprint(domain.voxels, np.arange(len(domain.voxels)))
        size = 4 * int(np.prod(high - low)) * work.channels * (1 + work.noise_batch)
        if wave and used + size > budget:
            yield wave
            wave, used = [], 0
        wave.append(domain)
        used += size
    if wave:
        yield wave


def _crop(label: int, lesion_map: LesionSum, scale: int, samples: int) -> Crop:
    values = lesion_map.total / np.float32(scale)
    if not np.isfinite(values).all():
        warnings.warn(
            f"the map of lesion {label} has infinite values or some that are not numbers: the "
            "network's gradient overflows there",
            stacklevel=2,
        )
    x, y, z = lesion_map.low.tolist()
    return Crop(values, (x, y, z), samples)
