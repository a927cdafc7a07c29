"""VarGrad of lesions: the variance of gradients over noisy copies of the image.

With ``D_n(v)`` what `jaxsal.saliency.smoothgrad` averages over the noisy images n, the gradient of
a lesion's summed logits, their mean, or the signed maximum over its voxels::

    M(v) = 1/N Σ_n (D_n(v) - 1/N Σ_m D_m(v))²

the variance of Adebayo et al. 2018 ("Sanity checks for saliency maps" and "Local explanation
methods for deep neural networks lack sensitivity to parameter values"), of the N values themselves
rather than an unbiased estimate, as Captum's ``vargrad`` has it. Squares of deviations are added
up by Welford's method (`jaxsal.saliency.aggregate`), so that nothing cancels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.errors import InputError
from jaxsal.options import keywords_of
from jaxsal.saliency.maps import Crop, SaliencyMaps
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.saliency.methods.vargrad import VarGradSettings
from jaxsal.saliency.smoothgrad import smoothgrad, smoothgrad_stream
from jaxsal.store.schema import check_known

if TYPE_CHECKING:
    from jaxsal.arrays import Image, Labels
    from jaxsal.field.plan import LogitField
    from jaxsal.progress import OnProgress

_OF_MEANS = ("tolerance", "standard_error")


def vargrad(
    field: LogitField,
    image: Image,
    labels: Labels | None = None,
    **options: Any,
) -> SaliencyMaps:
    """VarGrad maps of lesions (Adebayo et al. 2018); formula: see this module.

    Args:
        field: logits as a function of the image: `whole_volume` or `sliding_window`.
        image: (X, Y, Z, C), normalised as the network expects.
        labels: (X, Y, Z) whole numbers, one lesion domain per positive label; None: class level.
        options: others of `jaxsal.smoothgrad`, but for ``tolerance`` and ``standard_error``; with
            two noisy images or more.

    Returns:
        The maps, in squares of logits per unit of each image channel, float32; none is negative.

    Raises:
        InputError: an argument is out of its range, or shapes do not agree.
    """
    if any(name in options for name in _OF_MEANS):
        raise InputError("tolerance and standard_error are for means over noisy images: leave out")
    known = keywords_of(smoothgrad, SmoothGradSettings) - {*_OF_MEANS}
    check_known("vargrad", options, known, "option")
    maps = smoothgrad(field, image, labels, standard_error=True, **options)
    return replace(maps, crops={label: _variance(crop) for label, crop in maps.crops.items()})


def maps_of_domains(
    model: Any,
    field: LogitField,
    image: np.ndarray,
    labels: np.ndarray,
    settings: VarGradSettings,
    *,
    level: str,
    on_progress: OnProgress | None,
) -> Iterator[tuple[int, Crop]]:
    """The maps of some domains; see `jaxsal.saliency.methods.method.Maps`."""
    crops = smoothgrad_stream(field, image, labels, settings, on_progress=on_progress)
    return ((label, _variance(crop)) for label, crop in crops)


def _variance(crop: Crop) -> Crop:
    variance = crop.variance
    assert variance is not None  # the standard error was asked for
    return replace(crop, values=variance, standard_error=None)
