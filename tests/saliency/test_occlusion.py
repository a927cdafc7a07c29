"""Occlusion: beside Captum, and of networks of which it can be worked out by hand."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import captum.attr
import jax
import numpy as np
import pytest
import torch
from helpers.compilations import compilations
from helpers.peers import ROI, converted, monai_logits

import jaxsal
from jaxsal.box import Box
from jaxsal.display import counts_of
from jaxsal.errors import InputError
from jaxsal.progress import Progress
from jaxsal.saliency.hiding import Hiding, Question, answers, batch_within
from jaxsal.saliency.infill import Infills, Scene, within
from jaxsal.saliency.methods.occlusion import OcclusionSettings
from jaxsal.saliency.occlusion import boxes_over, windows_of

pytestmark = pytest.mark.usefixtures("one_device")

SHAPE = (20, 24, 16)
SPACING = (1.0, 2.0, 1.5)
BOX = 12.0  # mm: 12, 6 and 8 voxels
SIDES = (12, 6, 8)


def _image() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(*SHAPE, 2)).astype(np.float32)


def _labels() -> np.ndarray:
    """Two lesions: one where windows overlap, one at the edge of the image."""
    labels = np.zeros(SHAPE, np.int32)
    labels[9:12, 11:14, 7:9] = 3
    labels[17:20, 20:23, 1] = 5
    return labels


def _field(name: str, kind: str) -> Any:
    if kind == "sliding":
        return jaxsal.sliding_window(converted(name), roi=ROI)
    return jaxsal.whole_volume(converted(name))


def _captum(
    name: str, kind: str, omega: np.ndarray, infill: np.ndarray, together: bool
) -> np.ndarray:
    """Captum's map (X, Y, Z, C) of the mean logit over a lesion, over the whole image."""

    def mean_logit(batch: torch.Tensor) -> torch.Tensor:
        found = [monai_logits(name, kind, each.movedim(0, -1))[..., 1] for each in batch]
        return torch.stack([each[torch.tensor(omega)].mean() for each in found])

    attributed = captum.attr.Occlusion(mean_logit).attribute(
        torch.tensor(_image()).movedim(-1, 0)[None],
        sliding_window_shapes=(2 if together else 1, *SIDES),
        strides=(1, *(side // 2 for side in SIDES)),
        baselines=torch.tensor(infill.copy()).movedim(-1, 0)[None],
    )
    return attributed[0].movedim(0, -1).numpy()


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(
    ("name", "kind", "infill"),
    [
        ("short", "sliding", "mean"),
        pytest.param("short", "whole", "zero", marks=pytest.mark.thorough),
        pytest.param("global", "sliding", "blurred", marks=pytest.mark.thorough),
        pytest.param("global", "whole", "mean", marks=pytest.mark.thorough),
    ],
)
def test_maps_are_captum_s(name: str, kind: str, infill: str, together: bool) -> None:
    labels = np.where(_labels() == 3, 3, 0)
    maps = jaxsal.occlusion(
        _field(name, kind),
        _image(),
        labels,
        spacing=SPACING,
        box=BOX,
        radius=100.0,  # the whole image, as Captum has it
        infill=infill,
        channels_together=together,
    )
    infills = Infills(_image(), Scene(SPACING, labels != 0))
    expected = _captum(name, kind, labels == 3, infills.of(infill, labels == 3), together)
    if together:
        expected = expected[..., :1]
    # logits of some units in float32; their sums differ in order
    np.testing.assert_allclose(maps.dense(3), expected, atol=2e-5 * np.abs(expected).max() + 1e-6)


class _Linear:
    """Logits 0 and w · x + b of each voxel alone."""

    weights = np.array([2.0, -0.5], np.float32)

    def __call__(self, batch: jax.Array) -> jax.Array:
        logit = batch @ self.weights + 3
        return jax.numpy.stack([0 * logit, logit], axis=-1)


_LINEAR = jaxsal.whole_volume(_Linear())


@pytest.mark.parametrize("infill", ["mean", "zero"])
def test_a_linear_network_loses_what_its_weights_say(infill: str) -> None:
    image, labels = _image(), _labels()
    maps = jaxsal.occlusion(_LINEAR, image, labels, spacing=SPACING, box=BOX, infill=infill)
    for label in (3, 5):
        omega = labels == label
        filled = Infills(image, Scene(SPACING, labels != 0)).of(infill, omega)
        lost = _Linear.weights * (image - filled) * omega[..., None] / omega.sum()
        crop = maps.crop(label)
        total, number = np.zeros((*SHAPE, 2)), np.zeros((*SHAPE, 1))
        for box in boxes_over(crop.box, SIDES):
            if box.cut(within(omega, 20.0, SPACING)).any():
                total[box.slices] += box.cut(lost).sum(axis=(0, 1, 2))
                number[box.slices] += 1
        expected = total / np.maximum(number, 1)
        np.testing.assert_allclose(maps.dense(label), expected, atol=1e-5)  # of logits near 3
        for channel in range(2):
            figure = crop.figures[f"{channel}_loss"]
            assert figure == pytest.approx(lost[..., channel].sum(), abs=1e-5)


def test_boxes_lie_half_a_box_apart_and_are_cut_off_at_the_end() -> None:
    region = Box((2, 0, 0), (13, 3, 1))
    assert [(b.start[0], b.stop[0]) for b in boxes_over(region, (4, 5, 1))] == [
        (2, 6),
        (4, 8),
        (6, 10),
        (8, 12),
        (10, 13),
    ]


def test_there_are_no_boxes_beyond_the_radius() -> None:
    labels = _labels()
    maps = jaxsal.occlusion(_LINEAR, _image(), labels, spacing=SPACING, box=4.0, radius=4.0)
    far = ~within(labels == 3, 4.0 + 2 * 4.0, SPACING)
    assert not maps.dense(3)[far].any()
    assert maps.crop(3).box == Box.around(np.argwhere(within(labels == 3, 4.0, SPACING)))


def _asked(labels: np.ndarray) -> list[Question]:
    """Some parts hidden of each lesion's image, some of them where no window sees them."""
    rng, questions = np.random.default_rng(3), []
    for label in np.unique(labels[labels > 0]):
        corners = rng.integers(0, (14, 18, 10), (5, 3))
        hidings = [
            Hiding(Box.at(c, (6, 5, 4)), rng.random((6, 5, 4)) < 0.7, np.array([True, i % 2 == 0]))
            for i, c in enumerate(corners)
        ]
        questions.append(Question(np.argwhere(labels == label), np.zeros((*SHAPE, 2)), hidings))
    return questions


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_answers_do_not_depend_on_the_batch_and_are_those_of_the_whole_field(batch: int) -> None:
    field, image = _field("short", "sliding"), _image()
    questions = _asked(_labels())
    found = answers(field, image, questions, lambda y: y[:, 1], most_voxels=18, batch=batch)
    for question, rows in zip(questions, found, strict=True):
        voxels = tuple(question.voxels.T)
        expected = [np.asarray(field(image))[..., 1][voxels]]
        for hiding in question.hidings:
            hidden = image.copy()
            inside = hidden[hiding.box.slices]
            inside[hiding.where[..., None] & hiding.channels] = 0
            expected.append(np.asarray(field(hidden))[..., 1][voxels])
        np.testing.assert_allclose(rows, expected, atol=1e-5)  # rounding of logits of some units


def test_a_question_that_is_answered_takes_no_more_memory() -> None:
    asked = []

    def questions() -> Iterator[Question]:
        while len(asked) < 3:
            made = _asked(_labels())[0]
            asked.append(weakref.ref(made))
            yield made

    found = answers(
        _field("short", "sliding"),
        _image(),
        questions(),
        lambda y: y[:, 1],
        most_voxels=18,
        batch=4,
    )
    next(found)
    next(found)
    assert asked[0]() is None


def test_only_windows_that_see_a_box_are_run() -> None:
    settings, scene = OcclusionSettings(box=BOX), Scene(SPACING, _labels() != 0)
    reported: list[Progress] = []
    field, labels = _field("short", "sliding"), _labels()
    jaxsal.occlusion(field, _image(), labels, spacing=SPACING, box=BOX, on_progress=reported.append)
    expected = sum(windows_of(field, labels, settings, scene).values())
    assert reported[-1].gradients_done == reported[-1].gradients == expected
    assert counts_of(reported[-1]) == f"2/2 lesions, {expected}/{expected} windows"
    everything = sum(
        len(field.plan(SHAPE, np.argwhere(labels == label)).starts)
        * (1 + 2 * len(_near_boxes(labels == label)) + 2)
        for label in (3, 5)
    )
    assert expected < everything


def _near_boxes(omega: np.ndarray) -> list[Box]:
    near = within(omega, 20.0, SPACING)
    region = Box.around(np.argwhere(near))
    return [box for box in boxes_over(region, SIDES) if box.cut(near).any()]


def test_nothing_is_compiled_again_for_another_lesion() -> None:
    field, image = _field("short", "sliding"), _image()
    first, second = (np.where(_labels() == label, label, 0) for label in (3, 5))
    jaxsal.occlusion(field, image, first, spacing=SPACING, box=BOX)
    with compilations() as compiled:
        jaxsal.occlusion(field, image, second, spacing=SPACING, box=15.0)
    assert "infilled_logits" not in compiled
    assert "at_voxels" not in compiled


def test_the_class_level_is_one_domain_of_all_that_is_segmented() -> None:
    image = _image()
    maps = jaxsal.occlusion(_LINEAR, image, spacing=SPACING, box=BOX, radius=4.0, infill="zero")
    segmented = (image @ _Linear.weights + 3 >= 0)[..., None]
    lost = _Linear.weights * image * segmented / segmented.sum()
    assert maps.labels == (0,)
    for channel in range(2):
        figure = maps.crop(0).figures[f"{channel}_loss"]
        assert figure == pytest.approx(lost[..., channel].sum(), abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"box": 0.0}, "box must be more than 0 mm"),
        ({"radius": float("inf")}, "radius must be more than 0 mm, and finite"),
        ({"infill": "noise"}, "infill must be one of mean, blurred, zero"),
        ({"memory": 1 << 14}, "too little for one window"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        jaxsal.occlusion(
            _field("short", "sliding"), _image(), _labels(), spacing=SPACING, **settings
        )


def test_a_batch_takes_the_memory_that_it_is_given() -> None:
    field = _field("short", "sliding")
    assert batch_within(field, ROI, 2, 1 << 33) == 1  # on a CPU, where more are no faster
