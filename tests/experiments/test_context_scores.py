"""Lesions with part of their surroundings, against images that were masked voxel by voxel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.tiny import ROI, TinyScan
from scipy import ndimage, special

import jaxsal.experiments.context_scores as module
import jaxsal.experiments.context_windows as windows
from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.experiments.context_scores import context_scores
from jaxsal.experiments.context_windows import dilation_steps
from jaxsal.field.sliding import SlidingWindow, sliding_window
from jaxsal.grid import Grid
from jaxsal.lesions import label_lesions
from jaxsal.model import Model

STEPS = (0, 1, 3, 6)
STRUCTURE = ndimage.generate_binary_structure(3, 2)


@pytest.fixture(scope="module")
def field(tiny_model: Model) -> SlidingWindow:
    return sliding_window(tiny_model, roi=ROI)


@pytest.fixture(scope="module")
def labels(field: SlidingWindow, tiny_model: Model, scan: TinyScan) -> np.ndarray:
    probability = special.softmax(np.asarray(field(scan.image)), axis=-1)[..., 1]
    grid = Grid(probability.shape, scan.affine)
    return label_lesions(probability >= tiny_model.threshold, grid)[0]


def masked(image: np.ndarray, omega: np.ndarray, step: int) -> np.ndarray:
    if step:
        omega = ndimage.binary_dilation(omega, STRUCTURE, iterations=step)
    return image * omega[..., None]


@pytest.mark.parametrize("seed", [0, 1])
def test_steps_are_those_of_binary_dilation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    omega = np.zeros((26, 30, 22), bool)
    omega[tuple(rng.integers((4, 9, 2), (12, 14, 9), (20, 3)).T)] = True
    steps = dilation_steps(omega)
    np.testing.assert_array_equal(steps == 0, omega)
    for number in (1, 2, 5, 9, 14):
        expected = ndimage.binary_dilation(omega, STRUCTURE, iterations=number)
        np.testing.assert_array_equal(steps <= number, expected)


@pytest.mark.parametrize("whole", [True, False])
def test_distances_are_taken_beside_a_lesion_only_and_are_those_of_the_image(
    whole: bool,
    field: SlidingWindow,
    labels: np.ndarray,
    scan: TinyScan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    window = None if whole else ROI
    lesions = [
        windows.LesionWindows.of(field, labels, label, window)
        for label in range(1, int(labels.max()) + 1)
    ]
    seen: list[tuple[int, ...]] = []

    def watched(omega: np.ndarray) -> np.ndarray:
        seen.append(omega.shape)
        return dilation_steps(omega)

    monkeypatch.setattr(windows, "dilation_steps", watched)
    found = list(windows.window_passes(lesions, scan.image, labels, (0, 3), 128))
    assert len(seen) == len(lesions)
    if not whole:
        assert set(seen) == {ROI}
    everywhere = [dilation_steps(labels == lesion.label) for lesion in lesions]
    for each in found:
        start = lesions[each.lesion].starts[each.window]
        expected = Box.at(start, ROI).cut(everywhere[each.lesion], beyond=255)
        np.testing.assert_array_equal(each.distances, expected)


def test_scores_are_those_of_the_field_on_masked_images(
    field: SlidingWindow, labels: np.ndarray, scan: TinyScan
) -> None:
    chosen = [int(labels.max()), 1]
    asked = context_scores(field, scan.image, labels, chosen, steps=STEPS, window=None, batch=4)
    found = list(asked)
    assert [each.label for each in found] == chosen
    for each in found:
        omega = labels == each.label
        for place, step in enumerate(STEPS):
            logits = np.asarray(field(jnp.asarray(masked(scan.image, omega, step))))
            expected = special.softmax(logits.astype(np.float64), axis=-1)[..., 1][omega]
            assert each.mean[place] == pytest.approx(expected.mean(), abs=2e-6)
            assert each.highest[place] == pytest.approx(expected.max(), abs=2e-6)


def test_one_window_lies_around_the_lesion_and_within_the_image(
    labels: np.ndarray, scan: TinyScan, tiny_model: Model, field: SlidingWindow
) -> None:
    (found,) = context_scores(field, scan.image, labels, [1], steps=STEPS, window=ROI, batch=4)
    omega = labels == 1
    (box,) = ndimage.find_objects(omega.astype(int))
    starts = [
        min(max((part.start + part.stop) // 2 - roi // 2, 0), size - roi)
        for part, roi, size in zip(box, ROI, omega.shape, strict=True)
    ]
    window = tuple(slice(start, start + roi) for start, roi in zip(starts, ROI, strict=True))
    for place, step in enumerate(STEPS):
        logits = np.asarray(tiny_model(masked(scan.image, omega, step)[window][None]))[0]
        expected = special.softmax(logits.astype(np.float64), axis=-1)[..., 1][omega[window]]
        assert found.mean[place] == pytest.approx(expected.mean(), abs=2e-6)


def test_a_window_larger_than_the_image_is_filled_with_zeros(
    labels: np.ndarray, scan: TinyScan
) -> None:
    def network(batch: jax.Array) -> jax.Array:
        """Tells where in the window it is."""
        place = jnp.arange(batch.shape[1], dtype=jnp.float32)[:, None, None, None] / 32
        return jnp.concatenate(
            [
                batch[..., :1] * place,
                batch.mean((1, 2, 3), keepdims=True)[..., 1:] + 0 * batch[..., 1:],
            ],
            axis=-1,
        )

    window = (32, 32, 32)
    field = sliding_window(network, roi=ROI)
    (found,) = context_scores(field, scan.image, labels, [1], steps=(2,), window=window, batch=1)
    before = [(w - n) // 2 for w, n in zip(window, labels.shape, strict=True)]
    edges = [(b, w - n - b) for b, w, n in zip(before, window, labels.shape, strict=True)]
    padded = np.pad(masked(scan.image, labels == 1, 2), [*edges, (0, 0)])
    logits = np.asarray(network(padded[None]))[0]
    inside = np.pad(labels == 1, edges)
    expected = special.softmax(logits.astype(np.float64), axis=-1)[..., 1][inside]
    assert found.mean[0] == pytest.approx(expected.mean(), abs=2e-6)


def test_batches_do_not_change_scores(
    field: SlidingWindow, labels: np.ndarray, scan: TinyScan
) -> None:
    chosen, how = range(1, int(labels.max()) + 1), {"window": ROI}
    one, four = (
        list(context_scores(field, scan.image, labels, chosen, steps=(0, 2, 6), **how, batch=batch))
        for batch in (1, 4)
    )
    assert 3 * len(one) % 4  # so that one batch is not full
    for first, second in zip(one, four, strict=True):
        np.testing.assert_allclose(second.mean, first.mean, rtol=0, atol=1e-6)
        np.testing.assert_allclose(second.highest, first.highest, rtol=0, atol=1e-6)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Makes memory of a device that has room for so many windows; tells what was asked of it."""

    def of(windows: int) -> list[int]:
        asked: list[int] = []

        def compute(function: Any, parameters: Any, images: Any, *others: Any) -> jax.Array:
            asked.append(len(images))
            if len(images) > windows:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
            return real(function, parameters, images, *others)

        real = module.logits_in_context
        monkeypatch.setattr(module, "logits_in_context", compute)
        return asked

    return of


def test_without_memory_batches_are_halved(
    field: SlidingWindow,
    labels: np.ndarray,
    scan: TinyScan,
    room: Callable[[int], list[int]],
) -> None:
    steps = (0, 1, 2, 3, 6)
    (expected,) = context_scores(field, scan.image, labels, [1], steps=steps, window=ROI, batch=1)
    asked = room(2)
    with pytest.warns(UserWarning, match="no memory for 4 windows at a time: going on with 2"):
        (found,) = context_scores(field, scan.image, labels, [1], steps=steps, window=ROI, batch=4)
    assert asked == [4, 2, 2, 2]
    np.testing.assert_allclose(found.mean, expected.mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.highest, expected.highest, rtol=0, atol=1e-6)


def test_without_memory_for_one_window_a_smaller_one_is_proposed(
    field: SlidingWindow,
    labels: np.ndarray,
    scan: TinyScan,
    room: Callable[[int], list[int]],
) -> None:
    asked = room(0)
    with pytest.raises(InputError, match="--roi"):
        list(context_scores(field, scan.image, labels, [1], steps=(1,), window=ROI, batch=1))
    assert asked == [1]


def test_a_network_is_traced_once_for_all_lesions_and_scans(
    labels: np.ndarray, scan: TinyScan
) -> None:
    traces: list[Any] = []

    def network(batch: jax.Array) -> jax.Array:
        traces.append(batch.shape)
        return jnp.concatenate([batch, batch.sum((1, 2, 3), keepdims=True) * batch], axis=-1)

    field = sliding_window(network, roi=ROI)
    chosen = list(range(1, int(labels.max()) + 1))
    passes: list[tuple[int, int]] = []
    for image, of in ((scan.image, labels), (scan.image[:, 1:], labels[:, 1:])):
        asked = context_scores(
            field,
            *(image, of, chosen),
            steps=range(5),
            window=ROI,
            batch=4,
            on_pass=lambda done, total: passes.append((done, total)),
        )
        next(asked)
        assert passes[-1] == (8, 5 * len(chosen))  # the first lesion's, and what shares its batch
        assert len(list(asked)) == len(chosen) - 1
    assert traces == [(4, *ROI, 2)]
    assert len(chosen) > 1
    windows = 5 * len(chosen)
    assert passes[-1] == (windows, windows)
    assert len(passes) == 2 * -(-windows // 4)  # no more passes than there must be


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chosen": [99]}, "no lesion 99"),
        ({"steps": ()}, "steps"),
        ({"steps": (-1,)}, "steps"),
        ({"steps": (300,)}, "steps"),
        ({"batch": 0}, "batch"),
        ({"window": (1, 1, 1)}, "larger|more than the window"),
    ],
)
def test_what_cannot_be_is_refused(
    changed: dict[str, Any],
    message: str,
    field: SlidingWindow,
    labels: np.ndarray,
    scan: TinyScan,
) -> None:
    arguments: dict[str, Any] = {"chosen": [1], "steps": (1,), "window": ROI, **changed}
    chosen = arguments.pop("chosen")
    with pytest.raises(InputError, match=message):
        context_scores(field, scan.image, labels, chosen, **arguments)
