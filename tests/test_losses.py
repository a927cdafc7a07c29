"""Losses against MONAI, PyTorch's autograd, definitions written out, and worked examples."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.losses import DiceLoss, FocalLoss

from jaxsal.errors import InputError
from jaxsal.losses import (
    DICE_AND_BLOB,
    DICE_AND_FOCAL,
    WeightedLoss,
    blob_loss,
    focal_loss,
    normalised_dice_loss,
)
from jaxsal.metrics import normalised_dice

SHAPE = (2, 4, 3, 5)  # B, X, Y, Z
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
OUTPUTS = [(1, "softmax"), (2, "softmax"), (2, "sigmoid"), (3, "softmax")]

few = trials(max_examples=25, deadline=None, derandomize=True)
logit_arrays = arrays(np.float32, (*SHAPE, 2), elements=st.floats(-30, 30, width=32))
label_arrays = arrays(np.int32, SHAPE, elements=st.sampled_from([0, 0, 0, 1, 2, 4]))

LOSSES = {
    "normalised_dice": jax.jit(normalised_dice_loss),
    "blob": jax.jit(lambda logits, labels: blob_loss(logits, labels, maximum_instances=6)),
    "focal": jax.jit(focal_loss),
}


def example(channels: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels: the first image has three lesions of 1, 2 and 5 voxels, the second two."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.int32)
    labels[0, 0, 0, 0], labels[0, 1, 2, :2], labels[0, 3, 1] = 1, 5, 3
    labels[1, 2, 0, 1:4], labels[1, :2, 2, 4] = 2, 6
    return rng.normal(0, 2, (*SHAPE, channels)).astype(np.float32), labels


def torch_chance(logits: torch.Tensor, probability: str) -> torch.Tensor:
    """Probability of channel 1, or of the only one."""
    if logits.shape[-1] == 1:
        return torch.sigmoid(logits[..., 0])
    chance = torch.softmax(logits, -1) if probability == "softmax" else torch.sigmoid(logits)
    return chance[..., 1]


def torch_normalised_dice(p: torch.Tensor, lesion: torch.Tensor, r: float) -> torch.Tensor:
    """The definition, of one image with lesion and other voxels."""
    tp, fp, fn = (p * lesion).sum(), (p * ~lesion).sum(), ((1 - p) * lesion).sum()
    positive, voxels = lesion.sum(), lesion.numel()
    kappa = (1 - r) * positive / (r * (voxels - positive))
    return 1 - 2 * tp / (2 * tp + kappa * fp + fn)


def torch_blob(p: torch.Tensor, labels: torch.Tensor, r: float) -> torch.Tensor:
    """The definition, one lesion after the other, the others' voxels masked out."""
    images = []
    for chance, numbers in zip(p, labels, strict=True):
        wanted = [n for n in numbers.unique() if n > 0]
        masked = [chance * ((numbers == n) | (numbers == 0)) for n in wanted]
        losses = [
            torch_normalised_dice(m, numbers == n, r) for m, n in zip(masked, wanted, strict=True)
        ]
        if losses:
            images.append(torch.stack(losses).mean())
    return torch.stack(images).mean()


def assert_same(loss, logits: np.ndarray, labels: np.ndarray, peer) -> None:
    """Equal values, and gradients with respect to the logits; `peer` takes logits as a tensor."""
    value, gradient = jax.jit(jax.value_and_grad(loss))(logits, labels)
    tensor = torch.tensor(logits, requires_grad=True)
    expected = peer(tensor)
    expected.backward()
    assert tensor.grad.abs().max() > 1e-5
    np.testing.assert_allclose(value, expected.detach().numpy(), **CLOSE)
    scale = tensor.grad.abs().max().item()
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, None), (0.0, None), (1.5, 0.25)])
@pytest.mark.parametrize(("channels", "probability"), OUTPUTS[:3])
def test_focal_loss_is_monais(channels, probability, gamma, alpha):
    logits, labels = example(channels)
    lesion = torch.tensor(labels > 0, dtype=torch.float32)[:, None]
    softmax = channels == 2 and probability == "softmax"
    monai = FocalLoss(gamma=gamma, alpha=alpha, use_softmax=softmax)

    def peer(tensor):
        batch = tensor.movedim(-1, 1)
        if softmax:  # MONAI averages over both channels, of which only the true one counts
            return 2 * monai(batch, torch.cat([1 - lesion, lesion], 1))
        return monai(batch[:, -1:], lesion)

    def loss(logits, labels):
        return focal_loss(logits, labels, probability=probability, gamma=gamma, alpha=alpha)

    assert_same(loss, logits, labels, peer)


@pytest.mark.parametrize("smooth", [0.0, 1.0])
@pytest.mark.parametrize(("channels", "probability"), OUTPUTS)
def test_it_is_monais_dice_loss_where_the_load_is_the_normal_one(channels, probability, smooth):
    logits, labels = example(channels)
    labels[1] = labels[0, ::-1]  # so that both have the same load, and κ is 1
    lesion = torch.tensor(labels > 0, dtype=torch.float32)[:, None]
    monai = DiceLoss(smooth_nr=smooth, smooth_dr=smooth)
    load = float((labels > 0).mean())

    def loss(logits, labels):
        return normalised_dice_loss(
            logits, labels, probability=probability, lesion_load=load, smooth=smooth
        )

    def peer(tensor):
        return monai(torch_chance(tensor, probability)[:, None], lesion)

    assert_same(loss, logits, labels, peer)


@pytest.mark.parametrize(("channels", "probability"), OUTPUTS)
def test_normalised_dice_loss_is_its_definition(channels, probability):
    logits, labels = example(channels)
    masks = torch.tensor(labels > 0)

    def peer(tensor):
        p = torch_chance(tensor, probability)
        losses = [torch_normalised_dice(*pair, 0.001) for pair in zip(p, masks, strict=True)]
        return torch.stack(losses).mean()

    def loss(logits, labels):
        return normalised_dice_loss(logits, labels, probability=probability)

    assert_same(loss, logits, labels, peer)


def test_normalised_dice_loss_of_a_worked_example():
    """10 lesion voxels of 1000: κ = 0.999·10 / (0.001·990) = 10.0909…; TP 6, FP 4, FN 4."""
    labels = np.zeros((1, 10, 10, 10), np.int32)
    labels[0, 0, 0] = 1
    predicted = np.zeros_like(labels, bool)
    predicted[0, 0, 0, :6] = predicted[0, 5, 5, :4] = True
    logits = np.where(predicted, 60.0, -60.0).astype(np.float32)[..., None]
    found = LOSSES["normalised_dice"](logits, labels)
    np.testing.assert_allclose(found, 1 - 12 / (12 + 10.0909091 * 4 + 4), rtol=1e-6)
    # alone in its image, a lesion has the same blob loss
    np.testing.assert_allclose(LOSSES["blob"](logits, labels), found, rtol=1e-6)


@pytest.mark.thorough
@few
@given(arrays(bool, SHAPE), label_arrays)
def test_of_certain_predictions_it_is_the_metric(predicted, labels):
    logits = np.where(predicted[..., None], [-150, 150], [150, -150]).astype(np.float32)
    found = LOSSES["normalised_dice"](logits, labels)
    scores = [normalised_dice(*pair) for pair in zip(predicted, labels, strict=True)]
    np.testing.assert_allclose(found, 1 - np.mean(scores), **CLOSE)


@pytest.mark.parametrize(
    ("channels", "probability", "load"),
    [*((*outputs, 0.001) for outputs in OUTPUTS), (2, "softmax", 0.2)],
)
def test_blob_loss_is_its_definition(channels, probability, load):
    logits, labels = example(channels)

    def loss(logits, labels):
        return blob_loss(
            logits, labels, probability=probability, lesion_load=load, maximum_instances=6
        )

    def peer(tensor):
        return torch_blob(torch_chance(tensor, probability), torch.tensor(labels), load)

    assert_same(loss, logits, labels, peer)


def test_images_without_lesions_are_left_out_of_the_blob_loss():
    logits, labels = example()
    labels[1] = 0
    value, gradient = jax.jit(jax.value_and_grad(blob_loss))(logits, labels)
    np.testing.assert_allclose(value, LOSSES["blob"](logits[:1], labels[:1]), rtol=1e-6)
    assert np.abs(gradient[0]).max() > 0
    assert not gradient[1].any()
    assert LOSSES["blob"](logits, np.zeros_like(labels)) == 0


def test_small_lesions_count_as_much_as_large_ones_in_the_blob_loss():
    _, labels = example()
    labels = labels[:1]
    missed = [np.isin(labels, [0, n]) for n in (1, 3)]  # the small one, or the large one
    logits = [np.where(m, -60.0, 60.0).astype(np.float32)[..., None] for m in missed]
    small, large = (float(LOSSES["blob"](each, labels)) for each in logits)
    assert small == pytest.approx(1 / 3) == large
    small, large = (float(LOSSES["normalised_dice"](each, labels)) for each in logits)
    assert small < large / 5


def test_more_lesions_compile_nothing_anew():
    traces = []

    @jax.jit
    def total(logits, labels):
        traces.append(labels.shape)
        return DICE_AND_BLOB(logits, labels)[0]

    logits, labels = example()
    numbered = np.arange(labels.size, dtype=np.int32).reshape(SHAPE)
    values = {float(total(logits, numbered * (numbered <= n))) for n in (0, 1, 2, 30)}
    assert len(values) == 4
    assert len(traces) == 1


@few
@given(logit_arrays, label_arrays)
def test_losses_are_bounded(logits, labels):
    for name, loss in LOSSES.items():
        assert 0 <= loss(logits, labels) + 1e-6 <= (np.inf if name == "focal" else 1 + 2e-6)
    right = np.where(labels[..., None] > 0, [-150, 150], [150, -150]).astype(np.float32)
    for loss in LOSSES.values():
        np.testing.assert_allclose(loss(right, labels), 0, atol=1e-6)


@few
@given(logit_arrays, label_arrays, st.permutations(range(1, 7)), st.integers(0, 3))
def test_orientation_order_and_numbering_do_not_matter(logits, labels, numbers, axis):
    renumbered = np.array([0, *numbers], np.int32)[labels]
    for loss in LOSSES.values():
        value = loss(logits, labels)
        np.testing.assert_allclose(loss(logits, renumbered), value, **CLOSE)
        flipped = loss(np.flip(logits, axis), np.flip(labels, axis))  # of axis 0: another order
        np.testing.assert_allclose(flipped, value, **CLOSE)


@few
@given(logit_arrays, label_arrays, st.floats(-20, 20, width=32))
def test_only_differences_of_logits_matter_to_a_softmax(logits, labels, shift):
    for loss in LOSSES.values():
        value = loss(logits, labels)
        np.testing.assert_allclose(loss(logits + np.float32(shift), labels), value, 1e-3, 1e-5)


def test_padding_to_more_instances_changes_nothing():
    logits, labels = example()
    slope = jax.jit(jax.value_and_grad(blob_loss), static_argnames="maximum_instances")
    narrow, wide = (slope(logits, labels, maximum_instances=n) for n in (6, 40))
    jax.tree.map(np.testing.assert_array_equal, narrow, wide)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64"])
def test_labels_may_be_any_integers(dtype):
    logits, labels = example()
    loss = jax.jit(blob_loss)  # of 512 lesions, more than the smallest type can count
    np.testing.assert_array_equal(loss(logits, labels.astype(dtype)), loss(logits, labels))


@pytest.mark.parametrize(
    ("channels", "probability", "dtype"),
    [*((*outputs, jnp.float32) for outputs in OUTPUTS), (2, "softmax", jnp.bfloat16)],
)
def test_gradients_are_finite_for_empty_masks_and_saturated_logits(channels, probability, dtype):
    loss = WeightedLoss(1.0, 1.0, 1.0, probability=probability, maximum_instances=6)
    slope = jax.jit(jax.value_and_grad(loss, has_aux=True))
    logits, labels = example(channels)
    for mask in (labels, np.zeros_like(labels), np.ones_like(labels)):
        # at 45 the squares of sums of probabilities underflow, at 90 the sums do
        for scale in (0, 1, 45, 90, 1e4, 1e30):
            for sign in (np.sign(logits), np.ones_like(logits), -np.ones_like(logits)):
                sign[..., -1] *= -1  # or else a softmax would not see the scale
                (value, parts), gradient = slope(jnp.asarray(scale * sign, dtype), mask)
                assert gradient.dtype == dtype
                assert np.isfinite(value)
                assert all(np.isfinite(part) for part in parts.values())
                assert np.isfinite(np.asarray(gradient, np.float32)).all(), (mask.max(), scale)


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits_are_computed_with_in_full_precision(name):
    logits, labels = example()
    half = jnp.asarray(logits, jnp.bfloat16)
    found = LOSSES[name](half, labels)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, LOSSES[name](half.astype(jnp.float32), labels))


def test_saturated_mistakes_are_still_corrected_by_the_focal_loss():
    _, labels = example(1)
    wrong = np.where(labels > 0, -1e4, 1e4).astype(np.float32)[..., None]
    value, gradient = jax.jit(jax.value_and_grad(focal_loss))(wrong, labels)
    np.testing.assert_allclose(value, 1e4, rtol=1e-6)
    np.testing.assert_allclose(gradient[..., 0], np.where(labels > 0, -1, 1) / labels.size, 1e-6)


def test_an_image_without_lesions_teaches_only_with_smoothing():
    logits, labels = example()
    none = np.zeros_like(labels)
    slope = jax.jit(jax.value_and_grad(normalised_dice_loss), static_argnames="smooth")
    value, gradient = slope(logits, none)
    assert value == 1
    assert not gradient.any()
    _, gradient = slope(logits, none, smooth=1.0)
    assert (gradient[..., 1] > 0).all()


@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        (DICE_AND_BLOB, {"normalised_dice": 2, "blob": 1}),
        (DICE_AND_FOCAL, {"normalised_dice": 0.5, "focal": 1}),
        (WeightedLoss(0, 0, 3), {"focal": 3}),
    ],
)
def test_a_weighted_loss_is_the_sum_of_its_parts(loss, weights):
    logits, labels = example()
    total, parts = jax.jit(lambda loss, *both: loss(*both), static_argnums=0)(loss, logits, labels)
    assert parts.keys() == weights.keys()
    for name, value in parts.items():
        np.testing.assert_allclose(value, LOSSES[name](logits, labels), rtol=1e-6)
    expected = sum(weight * float(parts[name]) for name, weight in weights.items())
    np.testing.assert_allclose(total, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "loss"),
    [
        ("normalised_dice", {"lesion_load": 0.1, "smooth": 2.0}, normalised_dice_loss),
        ("blob", {"lesion_load": 0.1, "maximum_instances": 3}, blob_loss),
        ("focal", {"gamma": 1.0, "alpha": 0.3}, focal_loss),
    ],
)
def test_a_weighted_loss_hands_on_options(name, options, loss):
    logits, labels = example(3)
    weights = dict.fromkeys(("normalised_dice", "blob", "focal"), 0.0) | {name: 1.0}
    common = {"target": 2, "probability": "sigmoid"}
    total, _ = jax.jit(WeightedLoss(**weights, **common, **options))(logits, labels)

    def found(**options):
        return jax.jit(partial(loss, **options))(logits, labels)

    np.testing.assert_allclose(total, found(**common, **options), rtol=1e-6)
    assert not np.isclose(total, found(**common))
    assert not np.isclose(total, found(**options))


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (normalised_dice_loss, {"lesion_load": 0.0}, "lesion_load"),
        (normalised_dice_loss, {"smooth": -1.0}, "smooth"),
        (blob_loss, {"lesion_load": 1.0}, "lesion_load"),
        (blob_loss, {"maximum_instances": 0}, "maximum_instances"),
        (focal_loss, {"gamma": -1.0}, "gamma"),
        (focal_loss, {"alpha": 1.5}, "alpha"),
        (focal_loss, {"target": 2}, "target"),
        (focal_loss, {"probability": "none"}, "probability"),
    ],
)
def test_options_that_are_not_valid_are_refused(loss, options, message):
    with pytest.raises(InputError, match=message):
        loss(*example(), **options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("lesion_load", 3.0), ("smooth", -2.0), ("gamma", -1.0), ("gamma", float("nan"))),
        *(("alpha", 3.0), ("maximum_instances", 0), ("probability", "none")),
    ],
)
def test_options_of_a_weighted_loss_are_checked_as_it_is_made(name, value):
    with pytest.raises(InputError, match=f"{name} of a loss must be"):
        WeightedLoss(**{name: value})


@pytest.mark.parametrize("weights", [(0, 0, 0), (-1, 1, 1), (float("nan"), 1, 0), (np.inf, 1, 0)])
def test_weights_must_be_usable(weights):
    with pytest.raises(InputError, match="weights"):
        WeightedLoss(*weights)


def test_arrays_that_do_not_fit_are_refused():
    logits, labels = example()
    with pytest.raises(InputError, match="shape"):
        focal_loss(logits, labels[:1])
    with pytest.raises(InputError, match="shape"):
        focal_loss(logits[0], labels[0])
    with pytest.raises(InputError, match="integers"):
        focal_loss(logits, labels.astype(np.float32))
