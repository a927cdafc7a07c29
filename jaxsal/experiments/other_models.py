"""Networks that are asked the same as the study's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jaxsal.checkpoints import load_model
from jaxsal.errors import InputError

if TYPE_CHECKING:
    from jaxsal.model import Model


def load_other(place: Path, first: Model) -> Model:
    """The network of a model directory, for the images and lesions of a first one.

    Raises:
        InputError: it takes other images, or its lesions would be another output's.
    """
    model = load_model(place.expanduser(), first.precision)
    if model.channels != first.channels:
        raise InputError(
            f"all networks are asked of the same images: {place} takes the channels "
            f"{', '.join(model.channels)}, the first model {', '.join(first.channels)}; leave it "
            "out, or train it on the same channels"
        )
    own, others = model.config.out_channels, first.config.out_channels
    if (own, model.outputs) != (others, first.outputs):
        raise InputError(
            f"{place} has other outputs than the first model ({own} and {others}, or of other "
            "meaning): leave it out, or train it with the same"
        )
    return model


def load_alike(place: Path, first: Model) -> Model:
    """As `load_other`, of a network that is to be given the very values that a first one is.

    Raises:
        InputError: it prepares images otherwise, or as `load_other`.
    """
    model = load_other(place, first)
    if model.preprocessing is None or first.preprocessing is None:
        same = model.preprocessing is first.preprocessing
    else:  # which voxel sizes are permitted changes no value
        own = replace(model.preprocessing, permit=first.preprocessing.permit)
        same = own == first.preprocessing
    if not same:
        raise InputError(
            f"{place} prepares images otherwise than the first model, and would be given what it "
            "never saw: leave it out, or train it with the same preprocessing"
        )
    return model
