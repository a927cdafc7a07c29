"""Images without a lesion, with which integrated gradients compare the image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.saliency.domains import Domain
from jaxsal.saliency.infill import Infills, Scene, around
from jaxsal.saliency.methods.integrated_gradients import IntegratedGradientsSettings

Baseline = Callable[[Domain], tuple[np.ndarray, Box]]
"""From a lesion to its baseline (X, Y, Z, C), and the box where that differs from the image."""


def without_lesion(
    image: np.ndarray, settings: IntegratedGradientsSettings, scene: Scene
) -> Baseline:
    """The baselines of an image (X, Y, Z, C): infilled around each lesion, blurred, or zero."""
    infills = Infills(image, scene)

    def of(domain: Domain) -> tuple[np.ndarray, Box]:
        omega = np.zeros(image.shape[:3], bool)
        omega[tuple(domain.voxels.T)] = True
        infill = infills.of(settings.baseline, omega)
        if settings.baseline != "mean":
            return infill, Box.whole(omega.shape)
        box, near = around(omega, settings.margin, scene.spacing)
        baseline = image.copy()
        box.cut(baseline)[near] = box.cut(infill)[near]
        return baseline, box

    return of


def given_image(baseline: np.ndarray, shape: tuple[int, ...]) -> Baseline:
    """One baseline for all lesions of an image of this shape (X, Y, Z, C).

    Raises:
        InputError: it has another shape, or is not finite.
    """
    if baseline.shape != shape or not np.isfinite(baseline).all():
        raise InputError(
            f"baseline_image must be finite and have the image's shape {shape}; got "
            f"{baseline.shape}"
        )
    return lambda domain: (baseline, Box.whole(shape[:3]))
