"""What a scan asks of the chosen method: settings as they take effect, appearance, and maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from jaxsal.registry import METHODS
from jaxsal.settings import ExplainSettings, PredictSettings

if TYPE_CHECKING:
    import numpy as np

    from jaxsal.field.plan import LogitField
    from jaxsal.model import Model
    from jaxsal.progress import OnProgress
    from jaxsal.saliency.maps import Crop
    from jaxsal.saliency.methods.appearance import Appearance
    from jaxsal.saliency.methods.method import Cost


def in_effect(
    settings: ExplainSettings, prediction_settings: PredictSettings, model: Model
) -> ExplainSettings:
    """The settings as they take effect: with the prediction's target, and what the method adds."""
    target = model.lesion_output(prediction_settings.target)
    saliency = replace(settings.saliency, target=target)
    saliency = METHODS[settings.method].resolved(saliency, model, settings.level)
    return replace(settings, saliency=saliency)


def appearance(settings: ExplainSettings, channels: Sequence[str]) -> Appearance:
    """How the maps of these settings appear, for an image with these channels."""
    return METHODS[settings.method].shown(settings.saliency, settings.level, channels)


def cost_of(settings: ExplainSettings) -> Cost | None:
    """What can be forecast of the maps of these settings; None if nothing can."""
    return METHODS[settings.method].cost(settings.saliency)


def compute_maps(
    model: Model,
    field: LogitField,
    image: np.ndarray,
    labels: np.ndarray,
    settings: ExplainSettings,
    on_progress: OnProgress | None,
) -> Iterator[tuple[int, Crop]]:
    """Each label with its map, as soon as the method has it.

    Args:
        model: the network.
        field: that runs it.
        image: (X, Y, Z, C).
        labels: (X, Y, Z) int32, the domains to explain; at class level a single one.
        settings: which maps.
        on_progress: called as lesions are done.
    """
    return METHODS[settings.method].compute(
        model,
        field,
        image,
        labels,
        settings.saliency,
        level=settings.level,
        on_progress=on_progress,
    )
