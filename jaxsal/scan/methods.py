"""What a scan asks of the chosen method: settings as they take effect, appearance and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from jaxsal.registry import METHODS
from jaxsal.settings import ExplainSettings, PredictSettings

if TYPE_CHECKING:
    from jaxsal.model import Model
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


def most_together(settings: ExplainSettings, portion: int) -> int | None:
    """The size of a portion of lesions, by which they are put together; see `together`.

    None, for all of a scan, where maps share what is slow; 0, for one, where they share nothing.
    """
    if METHODS[settings.method].apart:
        return 0
    return None if cost_of(settings) is None else portion
