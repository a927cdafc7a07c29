"""What every scan of a run is put through: what tells it from other runs, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from jaxsal.cohort.job import CohortJob
from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.nets.unet_config import UNetConfig
from jaxsal.preprocessing import Normalisation, Outputs, Preprocessing
from jaxsal.settings import CohortSettings, PredictSettings


def make_model(*channels: str) -> Model:
    config = UNetConfig.from_arguments(
        {"in_channels": len(channels), "out_channels": 2, "channels": [2, 4], "strides": [2]}
    )
    return Model.initialise(config, channels)


def make_job(model: Model, settings: CohortSettings | None = None) -> CohortJob:
    return CohortJob(model, PredictSettings(), settings or CohortSettings(), {})


@pytest.mark.parametrize(
    "other",
    [
        {"outputs": Outputs(("background", "lesion"), "sigmoid", 1)},
        {"outputs": Outputs(("background", "lesion"), target=0)},
        {"preprocessing": Preprocessing((Normalisation("rescale"),), (1.0, 1.0, 1.0), (8, 8, 8))},
        {"mirror_axes": (0,)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_the_same_weights_used_otherwise_are_another_identity(other: dict[str, Any]) -> None:
    model = replace(
        make_model("t1"),
        outputs=Outputs(("background", "lesion")),
        preprocessing=Preprocessing((Normalisation("zscore"),), (1.0, 1.0, 1.0), (8, 8, 8)),
    )
    one, two = (
        json.dumps(make_job(m).identity, sort_keys=True) for m in (model, replace(model, **other))
    )
    assert one != two


@pytest.mark.parametrize("channels", [("t1_gd", "t1-gd"), ("α", "β"), ("t1Gd", "t1_gd")])
def test_channels_whose_maps_would_share_a_name_are_refused(channels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=f"{channels[0]}.*{channels[1]}.*would share"):
        make_job(make_model(*channels))
    make_job(make_model(*channels), CohortSettings(output="table"))
