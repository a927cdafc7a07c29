"""Explanations for Quantus (Hedström et al., JMLR 2023), whose classes are here the lesions.

Quantus evaluates classifiers: it asks for the explanation of a class for every image of a batch,
again and again as it perturbs the images. A segmentation network with a label map is such a
classifier, with a class per lesion, whose score is a summary of the lesion's logits. So a scan with
L lesions is given to Quantus L times, and the label of a lesion each time as its class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.errors import InputError
from jaxsal.field.plan import LogitField
from jaxsal.options import keywords_of
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.saliency.smoothgrad import smoothgrad_stream
from jaxsal.store.schema import check_known
from jaxsal.voxels import OF_LABELS, whole_numbers

if TYPE_CHECKING:
    from jaxsal.arrays import ChannelsFirst, Labels, Maps, Targets

ALL_LESIONS = 0
"""The class that means all lesions of the label map together, as one domain."""


def quantus_explain(
    model: Any,
    inputs: ChannelsFirst,
    targets: Targets | Sequence[int],
    *,
    field: LogitField,
    labels: Labels,
    channel: int | None = None,
    device: object = None,
    **settings: Any,
) -> Maps:
    """SmoothGrad of lesions, with the signature of Quantus's ``explain_func``.

    ``field``, ``labels`` and settings are Quantus's ``explain_func_kwargs``. With
    ``aggregate="mean"`` a map is the gradient of the mean of the lesion's logits, which
    `jaxsal_converters.quantus.LesionScores` is; the signed maximum is no score's gradient, and
    Quantus judges maps by how well they explain that score.

    Args:
        model: not looked at; what is explained is ``field``. Metrics that randomise the model's
            parameters need an explanation of what they made: see `jaxsal_converters.quantus`.
        inputs: (B, C, X, Y, Z), normalised as the network expects.
        targets: (B,) labels of the lesions to explain; 0 is all of them as one domain.
        field: logits as a function of the image: `whole_volume` or `sliding_window`.
        labels: (X, Y, Z) whole numbers, one lesion domain per positive label, the same for all
            images: one call is about one scan.
        channel: output channel of the lesion class; by default the model's, 1 for a callable.
        device: not looked at; Quantus hands it on.
        settings: others of `jaxsal.SmoothGradSettings`: ``aggregate``, ``samples``, ``noise``, ….

    Returns:
        Maps (B, C, X, Y, Z), float32, in logits per unit of each image channel.

    Raises:
        InputError: shapes do not agree, a target is no lesion's label, or a setting is out of its
            range.
    """
    known = keywords_of(quantus_explain, SmoothGradSettings) - {"target"}
    check_known("quantus_explain", settings, known, "option")
    images, wanted = np.asarray(inputs, np.float32), np.asarray(targets)
    lesions = _checked_labels(images, wanted, np.asarray(labels))
    chosen = SmoothGradSettings(target=channel, **settings)
    maps = np.zeros_like(images)
    for rows in _explained_together(images, wanted):
        of_all = bool(wanted[rows[0]] == ALL_LESIONS)
        domains = lesions > 0 if of_all else np.where(np.isin(lesions, wanted[rows]), lesions, 0)
        image = np.moveaxis(images[rows[0]], 0, -1)
        for label, crop in smoothgrad_stream(field, image, domains, chosen):
            into = [row for row in rows if of_all or wanted[row] == label]
            maps[into, :, *crop.box.slices] = np.moveaxis(crop.values, -1, 0)
    return maps


def _explained_together(images: np.ndarray, wanted: np.ndarray) -> Iterable[list[int]]:
    """Rows that are the same image, so that its noisy copies are linearised but once."""
    groups: dict[tuple[bytes, bool], list[int]] = {}
    for row, image in enumerate(images):
        key = hashlib.sha256(image.tobytes()).digest(), bool(wanted[row] == ALL_LESIONS)
        groups.setdefault(key, []).append(row)
    return groups.values()


def _checked_labels(images: np.ndarray, wanted: np.ndarray, lesions: np.ndarray) -> np.ndarray:
    if images.ndim != 5:
        raise InputError(f"inputs must be (B, C, X, Y, Z), got {images.shape}")
    if lesions.shape != images.shape[2:]:
        raise InputError(
            f"labels must be on the images' grid (X, Y, Z) = {images.shape[2:]}, one map for all "
            f"of them; got {lesions.shape}"
        )
    if wanted.shape != images.shape[:1]:
        raise InputError(
            f"targets must be a label per image, ({len(images)},); got the shape {wanted.shape}"
        )
    lesions = whole_numbers(lesions, "labels", OF_LABELS)
    known = np.unique(lesions[lesions > 0])
    unknown = [w for w in np.unique(wanted).tolist() if w != ALL_LESIONS and w not in known]
    if unknown or not len(known):
        raise InputError(
            f"targets are labels of lesions, here {known.tolist()}, or {ALL_LESIONS} for all of "
            f"them; got {np.unique(wanted).tolist()}"
        )
    return lesions
