"""Checks of what is explained: an image, an output of the network, and domains of voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxsal.devices import default_devices, require_precision
from jaxsal.errors import InputError, warn
from jaxsal.field.plan import image_shape
from jaxsal.lesions import lesion_probability, output_channel
from jaxsal.saliency.maps import CLASS_LEVEL
from jaxsal.settings import DOMAIN_RULES, DomainRule
from jaxsal.voxels import OF_LABELS, most_probable, nothing_segmented, whole_numbers

if TYPE_CHECKING:
    from jaxsal.field.plan import LogitField


@dataclass(frozen=True)
class Domain:
    """A lesion domain.

    Attributes:
        label: the lesion's label.
        voxels: (V, 3) its voxels' positions in the image.
    """

    label: int
    voxels: np.ndarray


def checked_devices(devices: Sequence[jax.Device] | None) -> tuple[jax.Device, ...]:
    """These devices, or by default the current one or all of the CPU's; all of one kind."""
    chosen = default_devices() if devices is None else tuple(devices)
    kinds = sorted({device.device_kind for device in chosen})
    if len(kinds) != 1:
        raise InputError(
            f"devices must be one or more of one kind, got {', '.join(kinds) or 'none'}"
        )
    return chosen


def checked_image(image: ArrayLike) -> jax.Array:
    """The image in float32, finite everywhere."""
    array = jnp.asarray(image, jnp.float32)
    if not bool(jnp.isfinite(array).all()):
        raise InputError("the image must be finite everywhere, but has NaN or infinite voxels")
    return array


def checked_target(field: LogitField, image: jax.Array, target: int | None) -> int:
    """The output channel that a target means for this network and image; None: the field's own.

    Raises:
        InputError: there is no such channel, the image does not fit the network, or the current
            device lacks the network's arithmetic or computes wrongly in it.
    """
    require_precision(getattr(field.function, "precision", "float32"))  # a callable has none
    target = wanted_target(field, target)
    shape = image_shape(field.function, image)
    window = field.plan(shape, np.zeros((1, 3), int)).size
    batch = jax.ShapeDtypeStruct((1, *window, image.shape[-1]), jnp.float32)
    outputs = jax.eval_shape(field.function, field.parameters, batch).shape[-1]
    return output_channel(target, outputs)


def wanted_target(field: LogitField, target: int | None) -> int:
    """The target that is given, or the field's own."""
    wanted = field.target if target is None else target
    if wanted is None:
        raise InputError(
            "the network's outputs overlap, and its model does not say which one is the lesion: "
            "give the target, an output channel"
        )
    return wanted


def domains_of(
    field: LogitField,
    image: jax.Array,
    labels: ArrayLike | None,
    target: int,
    rule: DomainRule = "threshold",
) -> list[Domain]:
    """What is to be explained: the domains of the labels, or at class level the segmented one.

    Args:
        field: runs the network.
        image: (X, Y, Z, C).
        labels: (X, Y, Z), see `labelled_domains`; None for the class level.
        target: output channel.
        rule: which voxels are segmented. "threshold": those whose probability reaches that of the
            field, or 0.5; "argmax": those where the channel is the most probable one.

    Returns:
        None at class level, with a warning, if no voxel is segmented.

    Raises:
        InputError: the labels do not fit the image, the rule is unknown or does not go with them,
            or the outputs are no classes to choose the largest of.
    """
    if labels is None:
        return _segmented_domain(field, image, target, rule)
    if rule != "threshold":
        raise InputError(
            f"labels are the domains to explain; the domain {rule!r} is for the class level, "
            "without labels"
        )
    return labelled_domains(labels, image)


def labelled_domains(labels: ArrayLike, image: jax.Array | np.ndarray) -> list[Domain]:
    """One domain per positive label of a label map on the image's grid."""
    array = np.asarray(labels)
    if array.shape != image.shape[:3]:
        raise InputError(f"labels must be on the image's grid {image.shape[:3]}, got {array.shape}")
    array = whole_numbers(array, "labels", OF_LABELS)
    positions = np.argwhere(array)
    values = array[tuple(positions.T)].astype(np.int64)
    return [Domain(int(v), positions[values == v]) for v in np.unique(values)]


def _segmented_domain(
    field: LogitField, image: jax.Array, target: int, rule: DomainRule
) -> list[Domain]:
    if rule not in DOMAIN_RULES:
        raise InputError(f"domain must be one of {', '.join(DOMAIN_RULES)}; got {rule!r}")
    logits = np.asarray(field(image))
    probability = lesion_probability(logits, target, field.probability)
    threshold = None
    if rule == "argmax":
        mask = most_probable(logits, target, field.probability)
    else:
        threshold = 0.5 if field.threshold is None else field.threshold
        mask = probability >= threshold
    if not mask.any():
        found = (float(probability.max()), threshold, logits.shape[-1], field.probability)
        warn(f"{nothing_segmented(*found)}; there is no map")
        return []
    return [Domain(CLASS_LEVEL, np.argwhere(mask))]
