"""Training for the demo: it learns, it can be repeated; the bundled network does what it is for."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from monai.losses import DiceLoss, FocalLoss
from scipy import ndimage

from bench.demo_network import (
    CHANNELS,
    MOMENTUM,
    WINDOW,
    Example,
    choose_threshold,
    dice,
    draw_batch,
    draw_examples,
    loss,
    train,
)
from jaxsal.checkpoints import load_model
from jaxsal.demo.phantom import make_phantom
from jaxsal.field.sliding import sliding_window
from jaxsal.lesions import label_lesions, lesion_probability
from jaxsal.model import Model
from jaxsal.nets.registry import build, config_from_arguments, split
from jaxsal.saliency.smoothgrad import smoothgrad
from jaxsal.volumes import Grid

BUNDLED = Path(str(files("jaxsal.demo"))) / "model"
TINY = config_from_arguments(
    "unet",
    {
        "in_channels": 2,
        "out_channels": 2,
        "channels": (4, 8),
        "strides": (1,),
        "kernel_size": 1,
        "up_kernel_size": 1,
        "norm": "batch",
    },
)


@pytest.fixture(scope="module")
def head() -> Example:
    return draw_examples([0], (42, 52, 42), 4.0, lesions=6)[0]


@pytest.fixture(scope="module")
def batch(head):
    return draw_batch(np.random.default_rng(0), [head], 2, 16)


@pytest.mark.thorough
def test_a_few_steps_lower_the_loss_and_the_same_seed_repeats_them(batch):
    losses: list[float] = []

    def run(seed: int):
        return train([batch] * 20, 20, seed, config=TINY, log=lambda _, value: losses.append(value))

    first, again = run(0), run(0)
    assert losses[19] < 0.8 * losses[0]
    assert losses[:20] == losses[20:]
    for name in first:
        np.testing.assert_array_equal(first[name], again[name], err_msg=name)


def test_training_follows_the_statistics_of_the_batch(batch):
    trained = train([batch], 1, 0, config=TINY)
    untrained = Model(TINY, split(build(TINY, nnx.Rngs(0))), CHANNELS)
    _, activations = untrained.activations(batch[0])
    normalised = np.asarray(activations["encoder.0.conv"])
    mean, variance = normalised.mean((0, 1, 2, 3)), normalised.var((0, 1, 2, 3))
    found = (trained["encoder.0.norm.mean"], trained["encoder.0.norm.var"])
    np.testing.assert_allclose(found[0], (1 - MOMENTUM) * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], MOMENTUM + (1 - MOMENTUM) * variance, rtol=1e-4)


def test_the_loss_is_that_of_monai():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 5, 6, 7, 2)).astype(np.float32)
    lesion = rng.random((2, 5, 6, 7)) < 0.2
    margin = torch.tensor(logits[..., 1] - logits[..., 0])[:, None]
    truth = torch.tensor(lesion, dtype=torch.float32)[:, None]
    soft_dice = DiceLoss(sigmoid=True, batch=True, smooth_nr=1, smooth_dr=1)(margin, truth)
    expected = soft_dice + 10 * FocalLoss(gamma=2)(margin, truth)
    np.testing.assert_allclose(loss(jnp.asarray(logits), lesion), float(expected), rtol=1e-5)


def test_every_other_patch_shows_a_lesion(head):
    images, lesion = draw_batch(np.random.default_rng(0), [head], 8, 12)
    assert images.shape == (8, 12, 12, 12, 2)
    assert images.dtype == np.float32
    assert lesion[::2].any((1, 2, 3)).all()
    assert not lesion.any((1, 2, 3)).all()


def test_dice_of_masks_worked_by_hand():
    mask, lesion = np.zeros((2, 10), bool)
    mask[:4], lesion[2:5] = True, True
    assert dice(mask, lesion) == pytest.approx(2 * 2 / (4 + 3))


def test_the_threshold_with_the_best_dice_is_chosen():
    probability = np.full((8, 8, 8), 0.1)
    probability[2:4], probability[5:7] = 0.38, 0.42
    margin = np.log(probability / (1 - probability)).astype(np.float32)
    example = Example(np.stack([margin, margin], axis=-1), probability == 0.42)

    def network(images):
        return jnp.stack([jnp.zeros_like(images[..., 0]), images[..., 0]], axis=-1)

    assert choose_threshold(network, [example]) == (0.4, 1.0)


def test_the_bundled_network_is_small_and_takes_flair_and_t1():
    assert load_model(BUNDLED).channels == CHANNELS
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*")) <= 2e6


def test_the_bundled_network_finds_a_lesion_and_what_is_no_lesion():
    phantom, image = make_phantom(31, lesions=5), draw_examples([31], lesions=5)[0].image
    largest = np.bincount(phantom.lesions[phantom.lesions > 0]).argmax()
    middle = np.argwhere(phantom.lesions == largest).mean(0).round().astype(int)
    start = np.clip(middle - WINDOW // 2, 0, np.subtract(image.shape[:3], WINDOW))
    window = tuple(slice(s, s + WINDOW) for s in start)
    model = load_model(BUNDLED)
    probability = lesion_probability(np.asarray(model(image[window][None])[0]), 1)
    assert dice(probability >= model.threshold, phantom.lesions[window] > 0) > 0.7


@pytest.mark.thorough
def test_the_bundled_network_finds_lesions_and_its_maps_show_how():
    phantom, image = make_phantom(31, lesions=5), draw_examples([31], lesions=5)[0].image
    model = load_model(BUNDLED)
    field = sliding_window(model, WINDOW)
    probability = lesion_probability(np.asarray(field(image)), 1)
    grid = Grid(phantom.flair.shape, phantom.affine)
    segmented = probability >= model.threshold
    labels, instances = label_lesions(segmented, grid, phantom.lesions)
    assert dice(segmented, phantom.lesions > 0) > 0.7
    found = sorted((i.voxels, i.label) for i in instances if i.kind == "TP")
    assert len(found) >= 4

    labels = np.where(np.isin(labels, [label for _, label in found[:2]]), labels, 0)
    maps = smoothgrad(field, image, labels, samples=1)
    for label in maps.labels:
        flair, t1 = np.moveaxis(maps.dense(label), -1, 0)
        distance = ndimage.distance_transform_edt(labels != label)
        inside = distance == 0
        around = (distance > 1) & (distance <= 3)  # half the next voxel is still lesion's
        assert flair[inside].mean() > 0 > flair[around].mean()
        assert t1[inside].mean() < 0 < t1[around].mean()
        assert np.abs(flair).max() > np.abs(t1).max()
