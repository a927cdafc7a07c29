"""What a model brings with it, where the user gave nothing else."""

from __future__ import annotations

from dataclasses import replace

from jaxsal.model import Model
from jaxsal.preprocessing import Preprocessing
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
        settings: for all the rest, and where the model has none.
        model: the network with what is known from its source.
        roi: window size in voxels.
        overlap: share of a window that the next one covers again.
        target: output of the lesion class, by number or, where the model names them, by name.
        windows: whose rules place and weight windows.

    Raises:
        InputError: there is no such output, or it must be named.
    """
    known = model.preprocessing or Preprocessing()
    overlaps = (overlap, model.overlap, known.overlap, settings.overlap)
    return replace(
        settings,
        roi=roi or model.roi or known.roi or settings.roi,
        overlap=next(each for each in overlaps if each is not None),
        windows=windows or (known.windows if model.preprocessing else settings.windows),
        target=model.lesion_output(settings.target if target is None else target),
    )
