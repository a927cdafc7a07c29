"""Fields equal MONAI's inference, and their plans say truly where logits come from."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers.peers import NETWORKS, ROI, converted, monai_logits
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference

from jaxsal import InputError, sliding_window, smoothgrad, whole_volume
from jaxsal.field.plan import pad_image

SHAPE = (21, 18, 13)  # several windows along X and Y, and smaller than a window along Z


def random_image(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, 2)).astype(np.float32)


def make_field(name, model):
    return sliding_window(model, roi=ROI) if name == "sliding" else whole_volume(model)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["sliding", "whole"])
def test_logits_equal_monai(network, name):
    image = random_image()
    ours = np.asarray(make_field(name, converted(network))(jnp.asarray(image)))
    theirs = monai_logits(network, name, torch.tensor(image)).numpy()
    assert ours.shape == theirs.shape
    # float32 rounding through about ten layers, relative to the largest logit
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_a_notebook_shows_a_field_on_one_line():
    field = sliding_window(converted("local"), roi=ROI)
    assert repr(field) == "SlidingWindow(unet, roi (16, 16, 16), overlap 0.25)"
    assert repr(whole_volume(converted("local"))) == "WholeVolume(unet)"


@pytest.mark.parametrize(("call", "name"), [(jnp.sin, "sin"), (partial(jnp.sin), "partial")])
def test_a_field_of_a_function_shows_its_name_or_kind(call, name):
    assert repr(whole_volume(call)) == f"WholeVolume({name})"


@pytest.mark.parametrize("shape", [(21, 18, 13), (16, 33, 40), (5, 70, 16)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_windows_are_those_of_monai(shape, overlap):
    field = sliding_window(lambda batch: batch, roi=ROI, overlap=overlap)
    padded = tuple(max(n, r) for n, r in zip(shape, ROI, strict=True))
    interval = [
        r if n == r else max(int(r * (1 - overlap)), 1) for n, r in zip(padded, ROI, strict=True)
    ]
    theirs = dense_patch_slices(padded, ROI, interval)
    assert field.starts(padded).tolist() == [[s.start for s in slices] for slices in theirs]


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize("roi", [(16, 16, 16), (7, 12, 96)])
def test_importance_is_that_of_monai(blend, roi):
    field = sliding_window(lambda batch: batch, roi=roi, blend=blend)
    theirs = compute_importance_map(roi, mode=blend, sigma_scale=0.125).numpy()
    np.testing.assert_allclose(field.importance, theirs, rtol=1e-6)


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_blending_equals_monai_for_a_network_that_depends_on_the_position_in_its_window(
    blend, overlap
):
    ramp = np.linspace(-1, 1, 12 * 10 * 9, dtype=np.float32).reshape(12, 10, 9)
    image = random_image((25, 19, 9))
    field = sliding_window(
        lambda batch: batch * ramp[..., None], roi=(12, 10, 9), overlap=overlap, blend=blend
    )
    theirs = sliding_window_inference(
        torch.movedim(torch.tensor(image), -1, 0)[None],
        (12, 10, 9),
        1,
        lambda batch: batch * torch.tensor(ramp),
        overlap=overlap,
        mode=blend,
    )[0].numpy()
    ours = np.moveaxis(np.asarray(field(jnp.asarray(image))), -1, 0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["sliding", "whole"])
def test_a_plan_says_where_logits_come_from(network, name):
    model, image = converted(network), random_image()
    field = make_field(name, model)
    voxels = np.random.default_rng(1).integers(0, SHAPE, (40, 3))
    voxels[:2] = [0, 0, 0], np.array(SHAPE) - 1
    plan = field.plan(SHAPE, voxels)
    padded = np.asarray(pad_image(jnp.asarray(image), plan))
    assert padded.shape[:3] == plan.padded
    windows = [padded[tuple(map(slice, start, start + plan.size))] for start in plan.starts]
    logits = np.asarray(model(jnp.stack([jnp.asarray(w) for w in windows])))
    inside = voxels[:, None] + plan.before - plan.starts[None]
    expected = np.zeros((len(voxels), logits.shape[-1]))
    for v, w in zip(*np.nonzero(plan.weights), strict=True):
        expected[v] += plan.weights[v, w] * logits[w][tuple(inside[v, w])]
    found = np.asarray(field(jnp.asarray(image)))[tuple(voxels.T)]
    np.testing.assert_allclose(expected, found, atol=1e-5 * np.abs(found).max())
    np.testing.assert_allclose(plan.weights.sum(1), 1, rtol=1e-6)


def test_whole_volume_crops_to_the_receptive_field_where_it_is_finite():
    shape = (64, 48, 80)
    voxels = np.array([[32, 24, 40]])
    local = whole_volume(converted("local")).plan(shape, voxels)
    assert np.prod(local.size) < np.prod(shape) / 4
    assert whole_volume(converted("global")).plan(shape, voxels).size == shape


@pytest.mark.parametrize("name", ["sliding", "whole"])
def test_any_callable_can_stand_in_for_a_model(name):
    image = jnp.asarray(random_image())
    logits = make_field(name, lambda batch: 2 * batch[..., :1])(image)
    np.testing.assert_allclose(logits, 2 * image[..., :1], rtol=1e-5)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda x: [x, x], r"a list of 2, as with deep supervision: .*network\(batch\)\[0\]"),
        (lambda x: (x,), "a tuple of 1"),
        (lambda x: {"logits": x}, r"a dict of 1, .*network\(batch\)\['logits'\]"),
        (lambda x: jnp.moveaxis(x, -1, 1), r"classes come first: .*jnp\.moveaxis\(logits, 1, -1\)"),
        (lambda x: x[:, ::2, ::2, ::2], r"shape \(1, 8, 8, 8, 2\): these lie on another grid"),
        (lambda x: x[..., 0], r"no axis for the classes: append it with \[\.\.\., None\]"),
        (lambda x: x.mean((1, 2, 3)), r"shape \(1, 2\): return one logit per voxel"),
        (lambda x: x.argmax(-1), "int32, which has no derivative"),
        (lambda x: None, "returns a NoneType"),
    ],
)
def test_a_callable_that_does_not_return_logits_is_refused_in_a_sentence(network, message):
    image, voxel = jnp.ones((16, 16, 16, 2)), np.eye(16, dtype=int)[None].repeat(16, 0)
    for field in (whole_volume(network), sliding_window(network, roi=16)):
        for run in (field, lambda image, field=field: smoothgrad(field, image, voxel)):
            with pytest.raises(InputError, match=message) as raised:
                run(image)
            assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"roi": (15, 16, 16)}, r"multiple of .*\(4, 4, 4\).*15"),
        ({"roi": (16, 16)}, "roi must be .*16, 16"),
        ({"roi": 0}, "roi must be .*0"),
        ({"overlap": 1.0}, r"overlap must be in \[0, 1\), got 1.0"),
        ({"overlap": -0.1}, "overlap"),
        ({"blend": "cubic"}, "blend must be .*cubic"),
    ],
)
def test_unusable_windows_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        sliding_window(converted("local"), **arguments)


def test_what_is_no_model_is_refused():
    with pytest.raises(InputError, match="callable"):
        whole_volume("model.pth")
    with pytest.raises(InputError, match=r"a Conv3d of PyTorch's .*modules\.model_from_module"):
        whole_volume(torch.nn.Conv3d(2, 2, 1))


def test_an_image_without_channels_is_refused():
    with pytest.raises(InputError, match=r"\(X, Y, Z, C\)"):
        whole_volume(converted("local"))(jnp.zeros(SHAPE))
