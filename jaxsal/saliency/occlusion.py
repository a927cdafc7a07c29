"""Occlusion of lesions: how much of their logits goes when a box of the image is infilled.

With ``s(x)`` the mean logit over a lesion's domain Ω, and ``x_b`` the image in which box b is
replaced by an infill (`jaxsal.saliency.infill`), the map at voxel v is the mean drop over the
boxes that hold v::

    M(v) = mean over b ∋ v of (s(x) - s(x_b))

Boxes lie half a box apart, on a grid over the part of the image within R of Ω; those count that
have a voxel there. In one channel after the other, or in all at once.

Source: M. D. Zeiler and R. Fergus, "Visualizing and understanding convolutional networks", ECCV
2014; overlapping boxes are averaged as Captum's ``Occlusion`` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsal.box import Box
from jaxsal.display import Follower
from jaxsal.options import keywords_of
from jaxsal.progress import OnProgress, Shown, Tracker
from jaxsal.saliency.domains import (
    Domain,
    checked_devices,
    checked_image,
    checked_target,
    domains_of,
    labelled_domains,
)
from jaxsal.saliency.hiding import Hiding, Question, answers, batch_within, passes_of
from jaxsal.saliency.infill import Infills, Scene, Spacing, around
from jaxsal.saliency.maps import Crop, SaliencyMaps, warn_unless_finite
from jaxsal.saliency.memory import default_budget
from jaxsal.saliency.methods.occlusion import OcclusionSettings, loss_columns
from jaxsal.settings import DomainRule
from jaxsal.store.schema import check_known

if TYPE_CHECKING:
    from jaxsal.arrays import Image, Labels, Voxels
    from jaxsal.field.plan import LogitField
    from jaxsal.types import Triple


def occlusion(
    field: LogitField,
    image: Image,
    labels: Labels | None = None,
    *,
    spacing: Spacing,
    lesions: Voxels | None = None,
    domain: DomainRule = "threshold",
    on_progress: Shown = "auto",
    **settings: Any,
) -> SaliencyMaps:
    """Occlusion maps of lesions; formula: see this module.

    Args:
        field: logits as a function of the image: `whole_volume` or `sliding_window`.
        image: (X, Y, Z, C), normalised as the network expects.
        labels: (X, Y, Z) whole numbers, one lesion domain per positive label. None: class level,
            stored under the label 0, over all voxels that the field segments (see ``domain``).
        spacing: voxel size in mm along X, Y, Z.
        lesions: (X, Y, Z), not zero where the scan has lesions, which are left out of the infill
            "mean"; by default the labels.
        domain: which voxels are segmented, for the class level, as in `jaxsal.smoothgrad`.
        on_progress: called as windows are done. By default a bar is shown on a terminal and in
            notebooks; None: nothing is.
        settings: those of `jaxsal.OcclusionSettings`: ``target``, ``box``, ``radius``, ``infill``,
            ``channels_together``, ``memory``.

    Returns:
        The maps, in logits: one channel per channel of the image, or a single one with
        ``channels_together``. The figures of a crop are what the mean logit loses when Ω and
        ``radius`` mm around it are infilled in one channel alone, named "0_loss", "1_loss", ...

    Raises:
        InputError: an argument is out of its range, shapes do not agree, or the memory does not
            suffice.
    """
    check_known("occlusion", settings, keywords_of(occlusion, OcclusionSettings), "option")
    asked = OcclusionSettings(**settings)
    checked = checked_image(image)
    array, target = np.asarray(checked), checked_target(field, checked, asked.target)
    domains = domains_of(field, checked, labels, target, domain)
    known = np.zeros(array.shape[:3], bool) if labels is None else np.asarray(labels) != 0
    scene = Scene(spacing, known if lesions is None else np.asarray(lesions) != 0)
    names = [str(channel) for channel in range(array.shape[-1])]
    with Follower(on_progress, "occlusion maps") as follow:
        maps = _maps(field, array, domains, target, asked, scene, names, follow)
        x, y, z, _ = array.shape
        return SaliencyMaps(dict(maps), (x, y, z))


def maps_of_domains(
    model: Any,
    field: LogitField,
    image: np.ndarray,
    labels: np.ndarray,
    settings: OcclusionSettings,
    *,
    level: str,
    on_progress: OnProgress | None,
    scene: Scene,
) -> Iterator[tuple[int, Crop]]:
    """The maps of some domains; see `jaxsal.saliency.methods.method.MapsInScene`."""
    checked = checked_image(image)
    target = checked_target(field, checked, settings.target)
    domains = labelled_domains(labels, checked)
    array = np.asarray(checked)
    return _maps(field, array, domains, target, settings, scene, model.channels, on_progress)


def windows_of(
    field: LogitField, labels: np.ndarray, settings: OcclusionSettings, scene: Scene
) -> dict[int, int]:
    """How many windows the map of each lesion of labels (X, Y, Z) takes, as progress counts them.

    The field's network must have its number of channels, as models do.
    """
    x, y, z = labels.shape
    found = {}
    for domain in labelled_domains(labels, labels):
        occluder = Occluder(domain, (x, y, z), field.function.channels or 1, settings, scene)
        found[domain.label] = occluder.windows(field)
    return found


def _maps(
    field: LogitField,
    image: np.ndarray,
    domains: Sequence[Domain],
    target: int,
    settings: OcclusionSettings,
    scene: Scene,
    names: Sequence[str],
    on_progress: OnProgress | None,
) -> Iterator[tuple[int, Crop]]:
    """Each label with its map, one after the other."""
    if not domains:
        return
    x, y, z, channels = image.shape
    occluders = [Occluder(d, (x, y, z), channels, settings, scene) for d in domains]
    tracker = Tracker(on_progress, "window")
    tracker.expect(lesions=len(domains), gradients=sum(each.windows(field) for each in occluders))
    infills, device = Infills(image, scene), checked_devices(None)[:1]
    size = field.plan((x, y, z), domains[0].voxels).size
    with jax.default_device(device[0]):
        budget = settings.memory or default_budget(device)
        found = answers(
            field,
            image,
            (each.question(infills.of(settings.infill, each.omega)) for each in occluders),
            lambda logits: logits[:, target].mean(),
            most_voxels=max(len(domain.voxels) for domain in domains),
            batch=batch_within(field, size, channels, budget),
            on_passes=lambda count: tracker.advance(gradients=count),
        )
        for occluder, scores in zip(occluders, found, strict=True):
            crop = occluder.crop(scores[0] - scores[1:], names)
            warn_unless_finite(occluder.label, crop.values)
            yield occluder.label, crop
            tracker.advance(lesions=1)


class Occluder:
    """What is hidden of an image for the map of one lesion, and the map made of the answers.

    Args:
        domain: the lesion.
        shape: of the image.
        channels: of the image.
        settings: which map.
        scene: for the voxel size.

    Attributes:
        label: of the lesion.
        omega: (X, Y, Z) bool, the lesion Ω.
    """

    def __init__(
        self,
        domain: Domain,
        shape: Triple,
        channels: int,
        settings: OcclusionSettings,
        scene: Scene,
    ) -> None:
        self.label, self._voxels = domain.label, domain.voxels
        self.omega = np.zeros(shape, bool)
        self.omega[tuple(domain.voxels.T)] = True
        self._region, self._near = around(self.omega, settings.radius, scene.spacing)
        size = box_size(settings.box, scene.spacing)
        self._boxes = [
            box
            for box in boxes_over(self._region, size)
            if box.seen_from(self._region.start).cut(self._near).any()
        ]
        self._single = np.eye(channels, dtype=bool)
        all_channels = np.ones((1, channels), bool)
        self._groups = all_channels if settings.channels_together else self._single

    def question(self, infill: np.ndarray) -> Question:
        """All boxes, in one group of channels after the other; then Ω and R mm around it."""
        boxes = [
            Hiding(box, np.ones(box.shape, bool), group)
            for group in self._groups
            for box in self._boxes
        ]
        channels = [Hiding(self._region, self._near, channel) for channel in self._single]
        return Question(self._voxels, infill, [*boxes, *channels])

    def windows(self, field: LogitField) -> int:
        """How many windows that takes."""
        x, y, z = self.omega.shape
        return passes_of(field.plan((x, y, z), self._voxels), self.question(np.zeros(0)))

    def crop(self, drops: np.ndarray, names: Sequence[str]) -> Crop:
        """The map, from what the mean logit loses with each of the question's parts hidden."""
        count = len(self._groups) * len(self._boxes)
        values = spread(self._region, self._boxes, drops[:count].reshape(len(self._groups), -1))
        losses = dict(zip(loss_columns(names), drops[count:].tolist(), strict=True))
        return Crop(values, self._region.start, 1, figures=losses)


def box_size(mm: float, spacing: Spacing) -> Triple:
    """The box of this size in mm, in voxels: the nearest number along each axis, at least 1."""
    x, y, z = (max(1, round(mm / step)) for step in spacing)
    return x, y, z


def boxes_over(region: Box, size: Triple) -> list[Box]:
    """Boxes half a box apart that cover a region, which cuts off the last ones."""
    starts = []
    for first, length, side in zip(region.start, region.shape, size, strict=True):
        stride = max(1, side // 2)
        number = max(-(-(length - side) // stride), 0) + 1
        starts.append([first + stride * at for at in range(number)])
    return [Box.at(corner, size) & region for corner in product(*starts)]


def spread(region: Box, boxes: Sequence[Box], drops: np.ndarray) -> np.ndarray:
    """The mean of the drops (G, N) of the N boxes that hold a voxel: (x, y, z, G) float32.

    0 where no box is.
    """
    total = np.zeros((*region.shape, len(drops)))
    number = np.zeros((*region.shape, 1))
    for box, values in zip(boxes, drops.T, strict=True):
        inside = box.seen_from(region.start).slices
        total[inside] += values
        number[inside] += 1
    mean: np.ndarray = (total / np.maximum(number, 1)).astype(np.float32)
    return mean
