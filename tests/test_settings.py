"""Settings: defaults are the paper's, and what cannot be is refused with the value received."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from jaxsal.errors import InputError
from jaxsal.saliency.methods.gradcam import GradCamSettings
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.settings import ExplainSettings


def test_the_defaults_are_exact_and_the_papers() -> None:
    settings = SmoothGradSettings()
    assert (settings.samples, settings.noise, settings.noise_scale) == (50, 0.05, "range")
    assert settings.aggregate == "max"
    assert (settings.voxels_per_lesion, settings.group_size, settings.tolerance) == (None, 1, None)


def test_every_attribute_is_documented() -> None:
    for kind in (SmoothGradSettings, GradCamSettings, ExplainSettings):
        own = [f.name for f in fields(kind) if f.name in kind.__annotations__]
        assert own
        for name in own:
            assert f"        {name}: " in (kind.__doc__ or "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"aggregate": "median"}, "max, mean, sum; got 'median'"),
        ({"noise_scale": "big"}, "range, absolute; got 'big'"),
        ({"samples": 0}, "at least 1, got 0"),
        ({"samples": 2.5}, "whole number of at least 1, got 2.5"),
        ({"noise": -1.0}, "zero or more, .* got -1.0"),
        ({"noise": float("nan")}, "zero or more, .* got nan"),
        ({"noise": (0.1, -1.0)}, r"one per channel; got \(0.1, -1.0\)"),
        ({"noise": ()}, "one per channel; got"),
        ({"seed": -1}, "got -1"),
        ({"seed": 2**31}, "got 2147483648"),
        ({"voxels_per_lesion": 0}, "voxels_per_lesion .* at least 1, got 0"),
        ({"group_size": 0}, "group_size .* at least 1, got 0"),
        ({"voxel_batch": 0}, "voxel_batch .* at least 1, got 0"),
        ({"noise_batch": 1.0}, "noise_batch must be a whole number"),
        ({"voxels_per_lesion": 5, "group_size": 2}, "voxels_per_lesion 5 and group_size 2"),
        ({"voxels_per_lesion": 5, "aggregate": "mean"}, "voxels_per_lesion 5 .* 'mean'"),
        ({"group_size": 2, "aggregate": "sum"}, "group_size 2 .* 'sum'"),
        ({"tolerance": 0.0}, "between 0 and 1"),
        ({"tolerance": 1.0}, "between 0 and 1"),
        ({"tolerance": float("nan")}, "between 0 and 1"),
        ({"tolerance": 0.1, "samples": 5}, "after 5 samples; .* got 5"),
        ({"standard_error": True, "samples": 1}, "2 samples or more, got 1"),
        ({"memory": 0}, "more than zero, got 0 bytes"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SmoothGradSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "lime"}, "gradcam, gradcam\\+\\+, hirescam, layercam; got 'lime'"),
        ({"derivatives": "none"}, "closed-form, exact, stochastic; got 'none'"),
        ({"denominator": "none"}, "paper, monai; got 'none'"),
        ({"alignment": "corners"}, "receptive-field, half-pixel; got 'corners'"),
        ({"probes": 1}, "probes must be .* at least 2, got 1"),
        ({"seed": -1}, "got -1"),
        ({"memory": 0}, "more than zero, got 0 bytes"),
        ({"method": "gradcam", "derivatives": "exact"}, "gradcam has none; got 'exact'"),
        ({"method": "gradcam", "denominator": "monai"}, "gradcam has none; .* 'monai'"),
        ({"method": "gradcam", "probes": 9}, "probes is for gradcam.*; got 9"),
        ({"method": "gradcam", "seed": 1}, "seed is for gradcam.*; got 1"),
        ({"method": "gradcam", "keep_derivatives": True}, "keep_derivatives is for gradcam"),
    ],
    ids=str,
)
def test_heat_maps_that_cannot_be_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        GradCamSettings("bottleneck", **settings)


@pytest.mark.parametrize(
    ("saliency", "level", "name"),
    [
        (SmoothGradSettings(), "instance", "smoothgrad-max"),
        (SmoothGradSettings(aggregate="mean"), "instance", "smoothgrad-mean"),
        (SmoothGradSettings(), "class", "smoothgrad"),
        (GradCamSettings("x"), "instance", "gradcam++"),
        (GradCamSettings("x", method="gradcam"), "class", "gradcam"),
    ],
    ids=str,
)
def test_files_are_named_after_the_method(
    saliency: SmoothGradSettings | GradCamSettings, level: str, name: str
) -> None:
    assert ExplainSettings(saliency, level=level).name == name


@pytest.mark.parametrize("settings", [{"voxels_per_lesion": 5}, {"group_size": 2}], ids=str)
def test_the_class_level_has_no_maximum_to_approximate(settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match="class level"):
        ExplainSettings(SmoothGradSettings(**settings), level="class")


def test_numbers_may_be_numpys() -> None:
    settings = SmoothGradSettings(samples=np.int64(3), voxels_per_lesion=np.int32(7))
    assert (settings.samples, settings.voxels_per_lesion) == (3, 7)
