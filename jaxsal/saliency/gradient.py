"""The plain gradient of lesions' logits: SmoothGrad of the image itself, without noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxsal.errors import InputError
from jaxsal.options import keywords_of
from jaxsal.saliency.methods.smoothgrad import Aggregate, SmoothGradSettings
from jaxsal.saliency.smoothgrad import smoothgrad
from jaxsal.store.schema import check_known

if TYPE_CHECKING:
    from jaxsal.arrays import Image, Labels
    from jaxsal.field.plan import LogitField
    from jaxsal.saliency.maps import SaliencyMaps

_OF_NOISE = (
    *("samples", "noise", "noise_scale", "noise_samples", "noise_batch", "seed"),
    *("tolerance", "standard_error"),
)


def gradient(
    field: LogitField,
    image: Image,
    labels: Labels | None = None,
    *,
    aggregate: Aggregate = "max",
    **options: Any,
) -> SaliencyMaps:
    """The gradient of lesions' logits with respect to the image (Simonyan et al. 2014).

    Eqs. 1-3 of Spagnolo et al. 2026 with one sample and no noise.

    Args:
        field: logits as a function of the image: `whole_volume` or `sliding_window`.
        image: (X, Y, Z, C), normalised as the network expects.
        labels: (X, Y, Z) whole numbers, one lesion domain per positive label; None: class level.
        aggregate: how a lesion's single-voxel gradients become one map, as in `jaxsal.smoothgrad`.
        options: others of `jaxsal.smoothgrad`: ``target``, ``domain``, ``devices``,
            ``on_progress``, ``voxels_per_lesion``, ``group_size``, ``memory``, ….

    Returns:
        The maps, in logits per unit of each image channel, float32.

    Raises:
        InputError: an argument is out of its range, or about noise, or shapes do not agree.
    """
    for name in _OF_NOISE:
        if name in options:
            raise InputError(f"{name} is about noise, of which the gradient has none: leave it out")
    known = keywords_of(smoothgrad, SmoothGradSettings) - {*_OF_NOISE}
    check_known("gradient", options, known, "option")
    return smoothgrad(field, image, labels, aggregate=aggregate, samples=1, noise=0.0, **options)
