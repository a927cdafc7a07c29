"""Integrated gradients: beside Captum, and of networks of which they can be worked out by hand."""

from __future__ import annotations

import json
import math
import warnings
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from helpers.compilations import compilations
from helpers.peers import ROI, converted, monai_logits
from helpers.thorough import thorough_except

import jaxsal
from jaxsal import InputError, integrated_gradients
from jaxsal.progress import Progress
from jaxsal.saliency.infill import Infills, Scene, within
from jaxsal.saliency.integrated_gradients import gradients_of, missed_share
from jaxsal.saliency.methods.integrated_gradients import IntegratedGradientsSettings

pytestmark = pytest.mark.usefixtures("one_device")

SHAPE = (20, 24, 16)
SPACING = (1.0, 2.0, 1.5)
NAME = "integrated-gradients"
FIELDS, BASELINES = ("sliding", "whole"), ("mean", "blurred", "zero")
STEPS = {"fewest_steps": 4, "most_steps": 4}
ANY = {**STEPS, "completeness": math.inf}
# Of the map's peak: float32 rounding of gradients through two libraries; measured 2e-6.
TOLERANCE = 2e-5

rng = np.random.default_rng(1)
IMAGE = rng.normal(size=(*SHAPE, 2)).astype(np.float32)
LABELS = np.zeros(SHAPE, np.int32)
LABELS[9:12, 11:14, 7:9] = 3  # where windows overlap
LABELS[17:20, 20:23, 1] = 5  # at the edge of the image


def make_field(kind: str, name: str = "short") -> Any:
    model = converted(name)
    return (
        jaxsal.sliding_window(model, roi=ROI) if kind == "sliding" else jaxsal.whole_volume(model)
    )


def baseline_of(baseline: str, omega: np.ndarray) -> np.ndarray:
    """By the definition: only the mean is put in place of a part of the image."""
    infill = Infills(IMAGE, Scene(SPACING, LABELS != 0)).of(baseline, omega)
    if baseline != "mean":
        return infill
    return np.where(within(omega, 5.0, SPACING)[..., None], infill, IMAGE)


def score(name: str, kind: str, omega: np.ndarray) -> Any:
    """The lesion's summed logits (B,) of a batch (B, C, X, Y, Z), by MONAI."""

    def summed(batch: torch.Tensor) -> torch.Tensor:
        found = [monai_logits(name, kind, each.movedim(0, -1))[..., 1] for each in batch]
        return torch.stack([each[torch.tensor(omega)].sum() for each in found])

    return summed


def as_batch(image: np.ndarray) -> torch.Tensor:
    return torch.tensor(np.moveaxis(image, -1, 0).copy())[None]


# Quick: each kind of network and each baseline, and each field twice.
@pytest.mark.parametrize(
    ("name", "kind", "baseline"),
    thorough_except(
        product(("short", "global"), FIELDS, BASELINES),
        ("short", "sliding", "mean"),
        ("global", "whole", "mean"),
    ),
)
def test_maps_equal_captums(name: str, kind: str, baseline: str) -> None:
    options: dict[str, Any] = {"spacing": SPACING, "baseline": baseline, **ANY}
    maps = integrated_gradients(make_field(kind, name), IMAGE, LABELS, **options)
    assert maps.labels == (3, 5)
    for label in maps.labels:
        omega = label == LABELS
        start, forward = baseline_of(baseline, omega), score(name, kind, omega)
        expected = (
            IntegratedGradients(forward)
            .attribute(as_batch(IMAGE), as_batch(start), n_steps=4, method="riemann_middle")[0]
            .numpy()
        )
        found = maps.dense(label)
        assert found.dtype == np.float32
        difference = np.abs(found - np.moveaxis(expected, 0, -1)).max()
        assert difference <= TOLERANCE * np.abs(expected).max()
        with torch.no_grad():
            change = float(forward(as_batch(IMAGE)) - forward(as_batch(start)))
        figures = maps.crop(label).figures
        assert figures[f"{NAME}_completeness"] == pytest.approx(
            abs(expected.sum(dtype=np.float64) - change) / abs(change), rel=0.02, abs=1e-4
        )


def explain(network: Any, **options: Any) -> Any:
    """Of a network of one channel and output, from an image of 2 to a baseline of 1."""
    image = np.full((4, 4, 4, 1), 2.0, np.float32)
    labels = np.zeros((4, 4, 4), int)
    labels[1, 1, 1:3] = 7
    options = {"target": 0, "baseline_image": np.ones_like(image), "spacing": (1, 1, 1)} | options
    return integrated_gradients(jaxsal.whole_volume(network), image, labels, **options).crop(7)


def test_of_a_square_the_midpoint_rule_is_exact() -> None:
    """(x - x₀) (x + x₀) = x² - x₀² = 3 at each of the lesion's two voxels, with one step."""
    crop = explain(lambda x: x * x, fewest_steps=1)
    assert sorted(crop.values.ravel().tolist())[-3:] == [0.0, 3.0, 3.0]
    assert crop.figures == {
        f"{NAME}_completeness": 0.0,
        f"{NAME}_steps": 1.0,
        f"{NAME}_complete": 1.0,
    }


def test_steps_double_until_the_map_is_complete() -> None:
    """Of x³ the midpoint rule misses 1 / (4 K²) of x³ - x₀³ = 7: K = 8 is the first below 0.1 %."""
    crop = explain(lambda x: x**3, fewest_steps=1, completeness=1e-3)
    assert crop.figures[f"{NAME}_steps"] == 8
    assert crop.figures[f"{NAME}_completeness"] == pytest.approx(1 / (4 * 8**2 * 7), rel=0.01)
    assert crop.figures[f"{NAME}_complete"] == 1


def test_a_map_that_does_not_become_complete_is_flagged() -> None:
    with pytest.warns(
        UserWarning, match=r"lesion 7 are not complete: with 2 steps .* misses 0\.89"
    ):
        crop = explain(lambda x: x**3, fewest_steps=1, most_steps=3, completeness=1e-3)
    assert crop.figures[f"{NAME}_steps"] == 2
    assert crop.figures[f"{NAME}_complete"] == 0


def test_a_network_that_does_not_look_at_the_image_is_complete() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crop = explain(jnp.zeros_like)
    assert not crop.values.any()
    assert crop.figures[f"{NAME}_complete"] == 1


@pytest.mark.parametrize(
    ("total", "change", "share"),
    [(0.0, 0.0, 0.0), (1.5, 1.0, 0.5), (1.0, 0.0, None), (math.inf, 1.0, None)],
)
def test_what_is_missed_is_a_number_that_json_has_or_none(
    total: float, change: float, share: float | None
) -> None:
    assert missed_share(total, change) == share
    assert json.loads(json.dumps(missed_share(total, change), allow_nan=False)) == share


def test_the_class_level_is_that_of_all_that_is_segmented() -> None:
    field, options = make_field("whole"), {"spacing": SPACING, "baseline": "zero", **ANY}
    logits = np.asarray(field(IMAGE))
    domain = logits[..., 1] >= logits[..., 0]
    found = integrated_gradients(field, IMAGE, **options)
    expected = integrated_gradients(field, IMAGE, domain, **options)
    assert found.labels == (0,)
    np.testing.assert_array_equal(found.dense(), expected.dense(1))


@pytest.mark.parametrize("kind", FIELDS)
def test_progress_ends_with_what_was_forecast(kind: str) -> None:
    seen: list[Progress] = []
    field, steps = make_field(kind), {"fewest_steps": 2, "most_steps": 8, "completeness": 0.9}
    integrated_gradients(field, IMAGE, LABELS, spacing=SPACING, on_progress=seen.append, **steps)
    settings = IntegratedGradientsSettings(**steps)
    forecast = gradients_of(field, LABELS, settings, Scene(SPACING, LABELS != 0))
    total = sum(forecast.values())
    assert seen[-1] == Progress(2, 2, total, total)


def test_other_lesions_and_steps_compile_nothing_anew() -> None:
    field, options = make_field("sliding"), {"spacing": SPACING, "completeness": math.inf}

    def run(labels: np.ndarray, steps: int) -> None:
        integrated_gradients(field, IMAGE, labels, fewest_steps=steps, **options)

    run(LABELS, 2)
    with compilations() as compiled:
        run(np.roll(LABELS, -1, axis=1), 8)
    assert compiled == []


@pytest.mark.thorough
def test_results_do_not_depend_on_the_number_of_devices() -> None:
    field, options = make_field("sliding"), {"spacing": SPACING, **ANY}
    one, two = (
        integrated_gradients(field, IMAGE, LABELS, devices=jax.devices()[:count], **options)
        for count in (1, 2)
    )
    for label in one.labels:
        peak = np.abs(one.dense(label)).max()
        np.testing.assert_allclose(two.dense(label), one.dense(label), rtol=0, atol=1e-6 * peak)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "black"}, "baseline must be one of mean, blurred, zero"),
        ({"margin": -1.0}, "margin must be 0 mm or more"),
        ({"fewest_steps": 0}, "fewest_steps must be a whole number of at least 1"),
        ({"fewest_steps": 9, "most_steps": 8}, "most_steps must be at least fewest_steps, 9"),
        ({"completeness": 0.0}, "completeness must be a share above 0"),
        ({"baseline_image": np.zeros((2, 2, 2, 2))}, "have the image's shape"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_done_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        integrated_gradients(make_field("whole"), IMAGE, LABELS, spacing=SPACING, **options)
