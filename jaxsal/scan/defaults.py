"""What a model brings with it, where the user gave nothing else."""

from __future__ import annotations

from dataclasses import replace

from jaxsal.model import Model
from jaxsal.preprocessing import Preprocessing
from jaxsal.segmentation import require_classes
from jaxsal.settings import PredictSettings, Windows
from jaxsal.types import Triple


def for_model(
    settings: PredictSettings,
    model: Model,
    *,
    roi: Triple | None,
    overlap: float | None,
    target: int | str | None,
    windows: Windows | None = None,
) -> PredictSettings:
    """The settings with windows, overlap and target as given or, where None, as the model's are.

    Args:
        settings: for all the rest, and where the model tells nothing.
        model: the network with what its source told.
        roi: window size in voxels.
        overlap: share of a window that the next one covers again.
        target: output of the lesion class, by number or, where the model names them, by name.
        windows: whose rules place and weight windows.

    Raises:
        InputError: there is no such output, or it must be named.
    """
    told = model.preprocessing or Preprocessing()
    overlaps = (overlap, model.overlap, told.overlap, settings.overlap)
    return replace(
        settings,
        roi=roi or model.roi or told.roi or settings.roi,
        overlap=next(each for each in overlaps if each is not None),
        windows=windows or (told.windows if model.preprocessing else settings.windows),
        target=model.lesion_output(settings.target if target is None else target),
    )


def completed(settings: PredictSettings, model: Model) -> PredictSettings:
    """The settings as they take effect, with the model's threshold and target where none is given.

    The domain argmax has no threshold.

    Raises:
        InputError: there is no such output, it must be named, or the outputs are no classes, of
            which the domain argmax takes the most probable one.
    """
    threshold = settings.threshold
    if settings.domain == "argmax":
        require_classes(model.config.out_channels, model.probability)
    elif threshold is None:
        threshold = model.threshold
    return replace(settings, threshold=threshold, target=model.lesion_output(settings.target))
