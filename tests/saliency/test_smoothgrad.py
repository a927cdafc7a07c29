"""SmoothGrad equals PyTorch's autograd, voxel by voxel, and obeys the method's invariants."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers.peers import NETWORKS, ROI, autograd_rows, converted, monai_logits
from helpers.thorough import thorough_except

from jaxsal import InputError, Model, sliding_window, smoothgrad, whole_volume
from jaxsal.nets.registry import config_from_arguments
from jaxsal.preprocessing import Outputs
from jaxsal.saliency import geometry
from jaxsal.saliency.domains import labelled_domains
from jaxsal.saliency.smoothgrad import smoothgrad_stream

pytestmark = pytest.mark.usefixtures("one_device")

SHAPE = (21, 18, 13)
# float32 rounding of a gradient through the network and the blend, relative to the map's peak;
# measured below 1e-6.
TOLERANCE = 1e-5
EXACT = 1e-6  # the same numbers in other batches
MEMORY = 5 * 2**20  # enough for the maps of one or two of the lesions below

rng = np.random.default_rng(0)
IMAGE = rng.normal(size=(*SHAPE, 2)).astype(np.float32)
NOISE = 0.3 * rng.normal(size=(2, *SHAPE, 2)).astype(np.float32)
LABELS = np.zeros(SHAPE, np.int32)
LABELS[7:9, 8:10, 5:7] = 1  # in the interior
LABELS[15:17, 4:6, 8] = 2  # across the seams of windows along X
LABELS[0, 0:2, 0] = 4  # at the volume's border
LABELS[20, 17, 12] = 9  # one voxel in the last corner
VOXELS = {label: np.argwhere(label == LABELS) for label in (1, 2, 4, 9)}


def make_field(name, network):
    model = converted(network)
    return sliding_window(model, roi=ROI) if name == "sliding" else whole_volume(model)


@cache
def autograd(network, field, label):
    """(N, V, X, Y, Z, C) by PyTorch, one backward pass per voxel and noise sample."""
    return np.stack([autograd_rows(network, field, IMAGE + e, VOXELS[label]) for e in NOISE])


def by_hand(rows, aggregate):
    """Eqs. 2 and 3 written out on the rows (N, V, …)."""
    if aggregate == "max":
        largest = np.abs(rows).argmax(axis=1, keepdims=True)
        return np.take_along_axis(rows, largest, axis=1)[:, 0].mean(axis=0)
    over_lesion = rows.mean(axis=1) if aggregate == "mean" else rows.sum(axis=1)
    return over_lesion.mean(axis=0)


def difference(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


AGGREGATES, FIELDS = ("max", "mean", "sum"), ("sliding", "whole")


# Quick: boxes smaller than windows and than the volume, and whole windows; each way to aggregate.
@pytest.mark.parametrize(
    ("network", "name", "aggregate"),
    thorough_except(
        product(NETWORKS, FIELDS, AGGREGATES),
        ("short", "sliding", "max"),
        ("short", "whole", "sum"),
        ("global", "sliding", "mean"),
        ("global", "whole", "max"),
    ),
)
def test_instance_maps_equal_autograd(network, name, aggregate):
    field = make_field(name, network)
    maps = smoothgrad(field, IMAGE, LABELS, aggregate=aggregate, noise_samples=NOISE)
    assert maps.labels == (1, 2, 4, 9)
    for label in maps.labels:
        expected = by_hand(autograd(network, name, label), aggregate)
        assert maps.dense(label).dtype == np.float32
        assert difference(maps.dense(label), expected) <= TOLERANCE


def test_maps_of_voxels_near_edges_of_windows_equal_autograd_with_programs_of_their_own(
    monkeypatch,
):
    monkeypatch.setattr(geometry, "FEWEST_NEAR_EDGES", 0)
    maps = smoothgrad(make_field("sliding", "short"), IMAGE, LABELS, noise_samples=NOISE)
    for label in maps.labels:
        expected = by_hand(autograd("short", "sliding", label), "max")
        assert difference(maps.dense(label), expected) <= TOLERANCE


@pytest.mark.parametrize("name", ["sliding", "whole"])
def test_class_level_maps_equal_autograd(name):
    field = make_field(name, "local")
    probability = monai_logits("local", name, torch.tensor(IMAGE)).softmax(-1)[..., 1].numpy()
    assert np.abs(probability - 0.5).min() > 1e-5  # no voxel on the threshold's edge
    x = torch.tensor(IMAGE + NOISE[0], requires_grad=True)
    logits = monai_logits("local", name, x)[..., 1]
    (expected,) = torch.autograd.grad(logits[torch.tensor(probability >= 0.5)].sum(), x)
    maps = smoothgrad(field, IMAGE, noise_samples=NOISE[:1])
    assert difference(maps.dense(), expected.numpy()) <= TOLERANCE


@pytest.mark.parametrize("name", ["sliding", "whole"])
def test_class_level_maps_of_regions_are_over_their_own_probability(name):
    model = replace(converted("local"), outputs=Outputs(("whole", "core"), "sigmoid", target=1))
    field = sliding_window(model, roi=ROI) if name == "sliding" else whole_volume(model)
    logits = monai_logits("local", name, torch.tensor(IMAGE)).numpy()
    domain = logits[..., 1] >= 0
    assert (domain != (logits[..., 1] >= logits[..., 0])).any()
    maps = smoothgrad(field, IMAGE, noise_samples=NOISE[:1])
    expected = smoothgrad(field, IMAGE, domain, aggregate="sum", noise_samples=NOISE[:1])
    assert difference(maps.dense(), expected.dense(1)) <= TOLERANCE


def test_the_models_own_target_is_explained_unless_another_is_given():
    model = replace(converted("local"), outputs=Outputs(("lesion", "rest"), target=0))
    field, label, given = whole_volume(model), LABELS == 2, {"noise_samples": NOISE[:1]}
    maps = smoothgrad(field, IMAGE, label, aggregate="mean", **given)
    rows = autograd_rows("local", "whole", IMAGE + NOISE[0], np.argwhere(label), target=0)
    assert difference(maps.dense(1), rows.mean(0)) <= TOLERANCE
    other = smoothgrad(field, IMAGE, label, aggregate="mean", target=1, **given)
    assert difference(other.dense(1), rows.mean(0)) > 0.01
    regions = replace(model, outputs=Outputs(("whole", "core"), "sigmoid"))
    with pytest.raises(InputError, match="give the target"):
        smoothgrad(whole_volume(regions), IMAGE, label)


BATCHES = [
    {"voxel_batch": 1},
    {"voxel_batch": 7},
    {"noise_batch": 2},
    {"voxel_batch": 3, "noise_batch": 2},
]


# Quick: a batch that is not filled at the end, of either kind.
@pytest.mark.parametrize(
    ("aggregate", "portions"),
    thorough_except(
        product(("max", "mean"), BATCHES),
        ("max", BATCHES[1]),
        ("max", BATCHES[3]),
        ("mean", BATCHES[2]),
    ),
    ids=str,
)
def test_maps_do_not_depend_on_batches(aggregate, portions):
    field = make_field("sliding", "local")
    settings = {"aggregate": aggregate, "noise_samples": NOISE}
    expected = smoothgrad(field, IMAGE, LABELS, **settings)
    found = smoothgrad(field, IMAGE, LABELS, **settings, **portions)
    for label in expected.labels:
        assert difference(found.dense(label), expected.dense(label)) <= EXACT


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_maps_do_not_depend_on_other_lesions_or_their_order(aggregate):
    field = make_field("sliding", "local")
    settings = {"aggregate": aggregate, "noise_samples": NOISE}
    expected = smoothgrad(field, IMAGE, LABELS, **settings)
    renamed = np.choose(np.searchsorted([0, 1, 2, 4, 9], LABELS), [0, 40, 30, 20, 10])
    found = smoothgrad(field, IMAGE, renamed, **settings)
    alone = smoothgrad(field, IMAGE, np.where(LABELS == 2, 2, 0), **settings)
    assert difference(alone.dense(2), expected.dense(2)) <= EXACT
    for label, other in {1: 40, 2: 30, 4: 20, 9: 10}.items():
        assert difference(found.dense(other), expected.dense(label)) <= EXACT


def test_lesions_whose_maps_do_not_fit_together_are_computed_one_after_the_other():
    field = make_field("sliding", "local")
    settings = {"noise_samples": NOISE, "devices": jax.devices()[:1]}
    expected = smoothgrad(field, IMAGE, LABELS, **settings)
    events = []
    found = smoothgrad(field, IMAGE, LABELS, memory=MEMORY, on_progress=events.append, **settings)
    for label in expected.labels:
        assert difference(found.dense(label), expected.dense(label)) <= EXACT
    assert {event.lesions_done for event in events} - {0, 4}  # some before the others


def test_too_small_a_budget_says_what_is_needed():
    with pytest.raises(InputError, match=r"too small for one voxel .* about 0\.\d+ GiB"):
        smoothgrad(make_field("sliding", "local"), IMAGE, LABELS, samples=1, memory=1000)


@pytest.mark.parametrize("aggregate", ["max", "mean", "sum"])
def test_a_linear_network_gives_the_map_known_by_hand(aggregate):
    field = whole_volume(lambda x: jnp.stack([x[..., 0], 2 * x[..., 0] - 3 * x[..., 1]], -1))
    maps = smoothgrad(field, IMAGE, LABELS, aggregate=aggregate, samples=3)
    inside = (LABELS == 1).astype(np.float32) / (8 if aggregate == "mean" else 1)
    expected = np.stack([2 * inside, -3 * inside], axis=-1)
    np.testing.assert_allclose(maps.dense(1), expected, rtol=1e-6)


def test_the_signed_maximum_keeps_the_sign_of_the_larger_magnitude():
    def network(x):  # the logit at v: x[v] - 2 x[v + 1]
        return x - 2 * jnp.roll(x, -1, axis=1)

    labels = np.zeros((6, 4, 4), np.int32)
    labels[1:3, 0, 0] = 1
    image = np.ones((6, 4, 4, 1), np.float32)
    maps = smoothgrad(whole_volume(network), image, labels, samples=1)
    assert maps.dense(1)[:, 0, 0, 0].tolist() == [0, 1, -2, -2, 0, 0]


def test_a_strided_callable_can_stand_in_for_a_model():
    model = converted("local")
    field = sliding_window(lambda batch: model(batch), roi=ROI)
    found = smoothgrad(field, IMAGE, np.where(LABELS == 9, 9, 0), noise_samples=NOISE[:1])
    expected = autograd_rows("local", "sliding", IMAGE + NOISE[0], VOXELS[9])[0]
    assert difference(found.dense(9), expected) <= TOLERANCE


def test_what_is_not_a_number_stays_so_and_is_announced():
    def network(x):  # the gradient at 0 is not a number
        return jnp.sqrt(jnp.abs(x)) * jnp.sign(x)

    image = np.ones((4, 4, 4, 1), np.float32)
    image[1, 1, 1] = 0
    labels = np.zeros((4, 4, 4), int)
    labels[1, 1, 1:3] = 1
    for aggregate in ("max", "mean"):
        with pytest.warns(UserWarning, match="map of lesion 1 has"):
            maps = smoothgrad(
                whole_volume(network), image, labels, aggregate=aggregate, samples=1, noise=0
            )
        assert np.isnan(maps.dense(1)[1, 1, 1, 0])
        assert np.isfinite(maps.dense(1)[1, 1, 2, 0])


@pytest.mark.parametrize("aggregate", ["max", "mean"])
@pytest.mark.parametrize("network", [jnp.zeros_like, jnp.round, jax.lax.stop_gradient])
def test_a_derivative_that_is_zero_everywhere_gives_zeros_and_is_announced(network, aggregate):
    image, labels = np.ones((4, 4, 4, 1), np.float32), np.zeros((4, 4, 4), int)
    labels[1, 1, 1:3] = 3
    with pytest.warns(UserWarning, match="map of lesion 3 is zero everywhere"):
        maps = smoothgrad(whole_volume(network), image, labels, aggregate=aggregate, samples=2)
    np.testing.assert_array_equal(maps.dense(3), np.zeros_like(image))


CROPPED = {
    "paper's": {"channels": [2, 3, 3], "strides": [2, 2]},
    "residual, strides per axis": {
        "channels": [2, 3, 3],
        "strides": [[1, 2, 2], 3],
        "num_res_units": 1,
    },
}
CORNERS = [(0, 0, 0), (13, 17, 20), (48, 45, 52)]


@pytest.mark.parametrize(
    ("name", "corner"),
    thorough_except(
        product(CROPPED, CORNERS),
        ("paper's", CORNERS[2]),
    ),
)
def test_the_crop_of_the_whole_volume_is_exact(name, corner):
    config = config_from_arguments(
        "unet", {"in_channels": 1, "out_channels": 1, "norm": "batch", **CROPPED[name]}
    )
    model = Model.initialise(config, ("flair",), seed=1)
    image = jnp.asarray(rng.normal(size=(49, 46, 53, 1)), jnp.float32)
    labels = np.zeros(image.shape[:3], int)
    labels[corner] = 1
    field = whole_volume(model)
    assert np.prod(field.plan(labels.shape, np.array([corner])).size) < labels.size
    found = smoothgrad(field, image, labels, target=0, samples=1, noise=0).dense(1)
    expected = jax.grad(lambda x: field(x)[(*corner, 0)])(image)
    assert difference(found, expected) <= TOLERANCE


def test_for_a_single_voxel_all_aggregates_agree():
    field = make_field("whole", "local")
    labels = np.where(LABELS == 9, 9, 0)
    maps = [
        smoothgrad(field, IMAGE, labels, aggregate=a, noise_samples=NOISE).dense(9)
        for a in ("max", "mean", "sum")
    ]
    assert difference(maps[1], maps[0]) <= EXACT
    assert difference(maps[2], maps[0]) <= EXACT


@pytest.mark.parametrize(
    ("scale", "level"), [("range", 0.1), ("absolute", 0.1), ("range", [0.1, 0.3])]
)
def test_seeded_noise_is_a_key_folded_with_the_sample(scale, level):
    square = whole_volume(lambda x: (x**2).sum(-1, keepdims=True))  # the gradient shows the noise
    labels = np.ones(SHAPE, np.int32)
    found = smoothgrad(
        square, IMAGE, labels, aggregate="sum", samples=3, noise=level, noise_scale=scale, seed=5
    )
    spread = np.ptp(IMAGE[..., 0]) if scale == "range" else 1.0
    keys = [jax.random.fold_in(jax.random.key(5), n) for n in range(3)]
    noise = np.mean([jax.random.normal(k, IMAGE.shape) for k in keys], axis=0)
    expected = 2 * (IMAGE + np.float32(level) * spread * noise)
    np.testing.assert_allclose(found.dense(1), expected, rtol=1e-4, atol=1e-5)
    other = smoothgrad(square, IMAGE, labels, aggregate="sum", samples=3, seed=6)
    assert difference(other.dense(1), found.dense(1)) > 1e-3


def test_nothing_is_compiled_again_for_other_lesions():
    traces = []

    def network(batch):
        traces.append(batch.shape)
        return jnp.tanh(batch) + jnp.roll(batch, 1, axis=1)

    field = sliding_window(network, roi=ROI)
    smoothgrad(field, IMAGE, LABELS, samples=1)
    before = len(traces)
    smoothgrad(field, IMAGE, np.where(LABELS == 2, 2, 0), samples=2)
    smoothgrad(field, IMAGE, np.where(rng.random(SHAPE) > 0.99, 1, 0), samples=1)
    assert len(traces) - before <= 2  # the number of outputs is asked for, nothing is compiled


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_images_of_any_float_type_are_taken(dtype):
    field = make_field("whole", "local")
    image = IMAGE.astype(dtype)
    found = smoothgrad(field, image, LABELS, noise_samples=NOISE).dense(1)
    expected = smoothgrad(field, image.astype(np.float32), LABELS, noise_samples=NOISE).dense(1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_crops_hold_the_whole_map():
    maps = smoothgrad(make_field("whole", "local"), IMAGE, LABELS, noise_samples=NOISE)
    crop = maps.crop(9)
    assert crop.values.shape != IMAGE.shape
    assert crop.samples == 2
    assert np.count_nonzero(maps.dense(9)) == np.count_nonzero(crop.values)


def test_the_stream_yields_labels_in_order():
    stream = smoothgrad_stream(make_field("whole", "local"), IMAGE, LABELS, noise_samples=NOISE)
    assert [label for label, _ in stream] == [1, 2, 4, 9]


def test_labels_of_any_type_are_the_nearest_whole_numbers():
    for labels in (LABELS, LABELS * np.float32(0.9999999), LABELS.astype(np.uint8), LABELS > 0):
        domains = labelled_domains(labels, IMAGE)
        assert [domain.label for domain in domains] == np.unique(np.rint(labels))[1:].tolist()
        assert all(domain.voxels.dtype.kind == "i" and len(domain.voxels) for domain in domains)


def test_no_lesion_gives_no_map():
    field = make_field("whole", "local")
    assert smoothgrad(field, IMAGE, np.zeros(SHAPE, int)).labels == ()


@pytest.mark.parametrize("name", ["sliding", "whole"])
def test_progress_counts_every_voxel_window_and_sample(name):
    events = []
    field = make_field(name, "local")
    smoothgrad(field, IMAGE, LABELS, noise_samples=NOISE, on_progress=events.append)
    total = 2 * np.count_nonzero(field.plan(SHAPE, np.argwhere(LABELS)).weights)
    assert [event.gradients_done for event in events] == sorted(e.gradients_done for e in events)
    assert (events[-1].gradients_done, events[-1].gradients) == (total, total)
    assert (events[-1].lesions_done, events[-1].lesions) == (4, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "samples must be .* at least 1, got 0"),
        ({"samples": 1.5}, "samples must be a whole number .* got 1.5"),
        ({"samples": 1, "seed": -1}, "seed must be from 0 .* got -1"),
        ({"noise": -0.1}, "noise must be .*-0.1"),
        ({"noise": float("nan")}, "noise must be .*nan"),
        ({"noise_scale": "std"}, "noise scale must be .*std"),
        ({"aggregate": "median"}, "aggregate must be one of max, mean, sum; got 'median'"),
        ({"target": 2}, "target must be one of the network's 2 outputs, got 2"),
        ({"noise": (0.1, 0.2, 0.3)}, "noise needs one level, or one per channel, 2; got"),
        ({"noise_samples": NOISE[0]}, "noise_samples must have the shape"),
        ({"noise_samples": NOISE[:0]}, "noise_samples must have the shape"),
        ({"voxel_batch": 0}, "voxel_batch must be .* at least 1"),
        ({"memory": 0}, "memory must be"),
        ({"labels": LABELS[1:]}, r"labels must be on the image's grid .*20, 18, 13"),
        ({"labels": LABELS - 1}, "labels must be non-negative in every voxel"),
        ({"labels": LABELS * 0.5}, "labels must be whole in every voxel"),
        ({"image": IMAGE[..., 0]}, r"axes \(X, Y, Z, C\)"),
        ({"image": IMAGE[..., :1]}, "takes 2 channels"),
        ({"image": np.where(IMAGE > 2, np.nan, IMAGE)}, "finite"),
    ],
)
def test_unusable_arguments_are_refused(arguments, message):
    given = {"image": IMAGE, "labels": LABELS, "samples": 1, **arguments}
    with pytest.raises(InputError, match=message):
        smoothgrad(make_field("whole", "local"), **given)


def test_an_unknown_label_is_named():
    maps = smoothgrad(make_field("whole", "local"), IMAGE, LABELS, noise_samples=NOISE)
    with pytest.raises(InputError, match=r"no map of label 3; .*\[1, 2, 4, 9\]"):
        maps.dense(3)
