"""Integrated gradients of lesions: what each voxel adds to the logits, compared with a baseline.

With ``y' = Σ_{v∈Ω} y[v]`` the sum of a lesion's logits, x the image and x_0 the baseline, an image
without the lesion::

    M(v) = (x[v] - x_0[v]) · 1/K Σ_k ∂y'/∂x[v] at x_0 + t_k (x - x_0),    t_k = (k - 1/2) / K

the midpoint rule for the integral over the path. With the integral itself the map's sum is the
change of y' from x_0 to x, so that this tells how good the rule is::

    completeness = |Σ_v M(v) - (y'(x) - y'(x_0))| / |y'(x) - y'(x_0)|

K doubles until that is small enough. At class level Ω is all that is segmented.

Source: M. Sundararajan, A. Taly and Q. Yan, "Axiomatic attribution for deep networks", ICML 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxsal.display import Follower
from jaxsal.errors import warn
from jaxsal.options import keywords_of
from jaxsal.progress import OnProgress, Shown, Tracker
from jaxsal.saliency.baselines import Baseline, given_image, without_lesion
from jaxsal.saliency.domains import (
    Domain,
    checked_devices,
    checked_image,
    checked_target,
    domains_of,
    labelled_domains,
)
from jaxsal.saliency.infill import Scene, Spacing
from jaxsal.saliency.maps import Crop, SaliencyMaps, warn_unless_finite
from jaxsal.saliency.memory import default_budget
from jaxsal.saliency.methods.integrated_gradients import (
    COMPLETE,
    COMPLETENESS,
    STEPS,
    IntegratedGradientsSettings,
)
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.saliency.path import Path
from jaxsal.saliency.smoothgrad import gradients_of as gradients_of_images
from jaxsal.settings import DomainRule
from jaxsal.store.schema import check_known

if TYPE_CHECKING:
    from jaxsal.arrays import Image, Labels, Voxels
    from jaxsal.field.plan import LogitField


def integrated_gradients(
    field: LogitField,
    image: Image,
    labels: Labels | None = None,
    *,
    spacing: Spacing,
    lesions: Voxels | None = None,
    baseline_image: Image | None = None,
    domain: DomainRule = "threshold",
    devices: Sequence[jax.Device] | None = None,
    on_progress: Shown = "auto",
    **settings: Any,
) -> SaliencyMaps:
    """Integrated gradients of lesions (Sundararajan et al. 2017); formula: see this module.

    Args:
        field: logits as a function of the image: `whole_volume` or `sliding_window`.
        image: (X, Y, Z, C), normalised as the network expects.
        labels: (X, Y, Z) whole numbers, one lesion domain per positive label. None: class level,
            stored under the label 0, over all voxels that the field segments (see ``domain``).
        spacing: voxel size in mm along X, Y, Z.
        lesions: (X, Y, Z), not zero where the scan has lesions, which are left out of the baseline
            "mean"; by default the labels.
        baseline_image: the baseline of all lesions, in place of the settings' one.
        domain: which voxels are segmented, for the class level, as in `jaxsal.smoothgrad`.
        devices: to share the work between, as in `jaxsal.smoothgrad`.
        on_progress: called as gradients are done. By default a bar is shown on a terminal and in
            notebooks; None: nothing is.
        settings: those of `jaxsal.IntegratedGradientsSettings`: ``target``, ``baseline``,
            ``margin``, ``fewest_steps``, ``most_steps``, ``completeness``, ``memory``.

    Returns:
        The maps, in logits, one channel per channel of the image. The figures of a crop are
        "integrated-gradients_completeness", "…_steps" and "…_complete"; a map that is not complete
        is warned of, too.

    Raises:
        InputError: an argument is out of its range, shapes do not agree, or the memory does not
            suffice.
    """
    options = keywords_of(integrated_gradients, IntegratedGradientsSettings)
    check_known("integrated_gradients", settings, options, "option")
    asked, chosen = IntegratedGradientsSettings(**settings), checked_devices(devices)
    with jax.default_device(chosen[0]):
        checked = checked_image(image)
        target = checked_target(field, checked, asked.target)
        domains = domains_of(field, checked, labels, target, domain)
    array = np.asarray(checked)
    known = np.zeros(array.shape[:3], bool) if labels is None else np.asarray(labels) != 0
    scene = Scene(spacing, known if lesions is None else np.asarray(lesions) != 0)
    baseline = without_lesion(array, asked, scene)
    if baseline_image is not None:
        baseline = given_image(np.asarray(baseline_image, np.float32), array.shape)
    with Follower(on_progress, "integrated gradients") as follow:
        maps = _maps(field, array, domains, target, asked, baseline, chosen, follow)
        x, y, z, _ = array.shape
        return SaliencyMaps(dict(maps), (x, y, z))


def maps_of_domains(
    model: Any,
    field: LogitField,
    image: np.ndarray,
    labels: np.ndarray,
    settings: IntegratedGradientsSettings,
    *,
    level: str,
    on_progress: OnProgress | None,
    scene: Scene,
) -> Iterator[tuple[int, Crop]]:
    """The maps of some domains; see `jaxsal.saliency.methods.method.MapsInScene`."""
    devices = checked_devices(None)
    checked = checked_image(image)
    target = checked_target(field, checked, settings.target)
    domains, array = labelled_domains(labels, checked), np.asarray(checked)
    baseline = without_lesion(array, settings, scene)
    return _maps(field, array, domains, target, settings, baseline, devices, on_progress)


def gradients_of(
    field: LogitField, labels: np.ndarray, settings: IntegratedGradientsSettings, scene: Scene
) -> dict[int, int]:
    """How many gradients the map of each lesion of labels (X, Y, Z) takes, at most.

    One per window that reaches it and step.
    """
    return _counts(field, labels, settings)


def _counts(
    field: LogitField, labels: np.ndarray, settings: IntegratedGradientsSettings
) -> dict[int, int]:
    steps = sum(settings.steps())
    return gradients_of_images(field, labels, SmoothGradSettings(aggregate="sum", samples=steps))


def _maps(
    field: LogitField,
    image: np.ndarray,
    domains: Sequence[Domain],
    target: int,
    settings: IntegratedGradientsSettings,
    baseline: Baseline,
    devices: tuple[jax.Device, ...],
    on_progress: OnProgress | None,
) -> Iterator[tuple[int, Crop]]:
    """Each label with its map, one after the other: their images are not the same."""
    tracker, budget = Tracker(on_progress), settings.memory or default_budget(devices)
    labels = np.zeros(image.shape[:3], np.int32)
    for number, domain in enumerate(domains, 1):
        labels[tuple(domain.voxels.T)] = number
    gradients = _counts(field, labels, settings)
    tracker.expect(lesions=len(domains), gradients=sum(gradients.values()))
    for number, domain in enumerate(domains, 1):
        done = 0

        def report(count: int) -> None:
            nonlocal done
            done += count
            tracker.advance(gradients=count)

        path = Path(field, target, image, *baseline(domain), domain, devices, budget)
        crop = _crop(path, settings, report)
        tracker.advance(gradients=gradients[number] - done, lesions=1)  # some were not needed
        warn_unless_finite(domain.label, crop.values)
        yield domain.label, crop


def _crop(path: Path, settings: IntegratedGradientsSettings, report: Callable[[int], None]) -> Crop:
    """The map of a lesion, with as many steps as it takes."""
    for steps in settings.steps():
        values, box = path.integrated(steps, report)
        total = float(values.sum(dtype=np.float64))
        missed = missed_share(total, path.change)
        if missed is not None and missed < settings.completeness:
            break
    else:
        warn(
            f"the integrated gradients of lesion {path.domain.label} are not complete: with "
            f"{steps} steps {_missing(missed, total, path.change)}; allow more steps, or take "
            "another baseline",
        )
    complete = float(missed is not None and missed < settings.completeness)
    figures = {COMPLETENESS: missed, STEPS: float(steps), COMPLETE: complete}
    return Crop(values, box.start, 1, figures=figures)


def _missing(missed: float | None, total: float, change: float) -> str:
    if missed is None:
        return f"their sum is {total:.3g}, and the logits change by {change:.3g} from the baseline"
    return f"their sum misses {100 * missed:.3g} % of the change of the logits from the baseline"


def missed_share(total: float, change: float) -> float | None:
    """What a map's sum misses of the change of the logits, relative to that.

    None where that is not defined: the logits do not change, or the gradients overflow.
    """
    if total == change and math.isfinite(total):
        return 0.0
    share = abs(total - change) / abs(change) if change else math.inf
    return share if math.isfinite(share) else None
