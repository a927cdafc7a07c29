"""Torch tensors in and out: the numbers of Captum on MONAI's network, and of autograd."""

from __future__ import annotations

from typing import Any

import captum.attr
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers.gradcam_peer import activations_and_gradients, heat_map, module_path, on_image
from helpers.peers import ROI, aggregated, autograd_rows, converted, monai_network
from monai.networks.nets import UNet

import jaxsal
from jaxsal.errors import InputError
from jaxsal.saliency.noise import add_noise
from jaxsal_converters.captum import (
    InstanceGradCam,
    InstanceGradCamPlusPlus,
    InstanceSmoothGrad,
    Saliency,
)

pytestmark = pytest.mark.usefixtures("xla_convolutions", "one_device")

SHAPE = (12, 16, 8)
VOXEL = (1, 5, 9, 3)
LAYER = "encoder.0"  # at half resolution
both = pytest.mark.parametrize("network", ["local", "global"])


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    return torch.randn(2, 2, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    """Lesions 3 and 7 in the first image, 3 elsewhere in the second."""
    array = torch.zeros(2, *SHAPE, dtype=torch.int32)
    array[0, 2:4, 5, 3:5] = 3
    array[0, 9, 8:10, 6] = 7
    array[1, 6, 12, 1:4] = 3
    return array


def channels_last(image: torch.Tensor) -> np.ndarray:
    return image.movedim(0, -1).numpy()


def assert_close(found: torch.Tensor, expected: np.ndarray | torch.Tensor) -> None:
    """Equal within 1e-5 of the peak, of maps that are not zero."""
    expected = np.asarray(expected)
    peak = np.abs(expected).max()
    assert found.shape == expected.shape
    assert peak > 0
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5 * peak)


@both
def test_a_single_logit_has_captums_saliency(network: str, inputs: torch.Tensor) -> None:
    theirs, ours = captum.attr.Saliency(monai_network(network)), Saliency(monai_network(network))
    for arguments in ({"abs": False}, {}):
        expected = theirs.attribute(inputs.clone(), target=VOXEL, **arguments)
        assert_close(ours.attribute(inputs, target=VOXEL, **arguments), expected)


def test_every_image_can_have_its_own_target(inputs: torch.Tensor) -> None:
    targets = [(1, 2, 3, 4), (0, 11, 15, 7)]
    network = monai_network("local")
    expected = captum.attr.Saliency(network).attribute(inputs.clone(), targets, abs=False)
    assert_close(Saliency(network).attribute(inputs, targets, abs=False), expected)


@pytest.mark.parametrize("nt_type", ["smoothgrad", "smoothgrad_sq", "vargrad"])
def test_equal_noise_gives_captums_noise_tunnel(nt_type: str, inputs: torch.Tensor) -> None:
    network, image = monai_network("global"), inputs[:1]
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(network))
    torch.manual_seed(3)
    expected = tunnel.attribute(image, nt_type, nt_samples=3, stdevs=0.5, target=VOXEL, abs=False)
    torch.manual_seed(3)
    noise = torch.normal(0, torch.full((3, *image.shape[1:]), 0.5))
    found = InstanceSmoothGrad(network).attribute(
        image, VOXEL, nt_type=nt_type, noise_samples=noise
    )
    assert_close(found, expected)


@pytest.mark.parametrize("nt_type", ["smoothgrad_sq", "vargrad"])
def test_squares_and_variances_of_lesions_are_those_of_single_noisy_images(
    nt_type: str, inputs: torch.Tensor, labels: torch.Tensor
) -> None:
    method, noise = InstanceSmoothGrad(converted("local")), 0.3 * torch.randn(3, 2, *SHAPE)
    given = {"labels": labels[:1], "nt_type": nt_type}
    each = torch.stack(
        [method.attribute(inputs[:1], labels=labels[:1], noise_samples=n[None]) for n in noise]
    ).double()
    expected = (each**2).mean(0) if nt_type == "smoothgrad_sq" else each.var(0, correction=0)
    assert_close(method.attribute(inputs[:1], noise_samples=noise, **given), expected)
    if nt_type == "vargrad":
        assert not method.attribute(inputs[:1], nt_samples=1, **given).any()


def test_noise_can_differ_between_channels(inputs: torch.Tensor) -> None:
    method, image = InstanceSmoothGrad(converted("global")), inputs[:1]
    settings = {"target": VOXEL, "nt_samples": 2, "seed": 4}
    both = method.attribute(image, stdevs=0.2, **settings)
    for same in ((0.2,), torch.tensor(0.2), (torch.full((2, 1, 1, 1), 0.2),), [0.2, 0.2]):
        torch.testing.assert_close(method.attribute(image, stdevs=same, **settings), both)
    noise = add_noise(jnp.zeros((*SHAPE, 2)), np.array([0.2, 0.3], "f4"), 4, np.arange(2))
    given = torch.from_numpy(np.array(jnp.moveaxis(noise, -1, 1)))
    np.testing.assert_allclose(given.std((0, 2, 3, 4)), [0.2, 0.3], rtol=0.05)  # of 3072 draws
    found = method.attribute(image, stdevs=torch.tensor([0.2, 0.3]), **settings)
    assert_close(found, method.attribute(image, VOXEL, noise_samples=given))


@both
@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_lesions_of_a_batch_have_the_maps_of_autograd(
    network: str, aggregate: str, inputs: torch.Tensor, labels: torch.Tensor
) -> None:
    method = Saliency(converted(network))
    found = method.attribute(inputs, 1, abs=False, labels=labels, aggregate=aggregate)
    assert found.shape == (2, 2, *inputs.shape[1:])
    for image, lesion, row in ((0, 3, 0), (0, 7, 1), (1, 3, 0)):
        voxels = np.argwhere(labels[image].numpy() == lesion)
        rows = autograd_rows(network, "whole", channels_last(inputs[image]), voxels)
        expected = np.moveaxis(aggregated(rows, aggregate), -1, 0)
        assert_close(found[image, row], expected)
    assert not found[1, 1].any()  # there is no lesion 7 in the second image


def test_with_a_roi_the_blended_logits_of_windows_are_explained(inputs: torch.Tensor) -> None:
    image = torch.nn.functional.pad(inputs[:1], (0, 10, 0, 0, 0, 6))
    mask = torch.zeros(1, 1, *image.shape[2:], dtype=torch.bool)
    mask[0, 0, 8:10, 7, 9] = True
    method = Saliency(converted("short"), roi=ROI)
    voxels = np.argwhere(mask[0, 0].numpy())
    rows = autograd_rows("short", "sliding", channels_last(image[0]), voxels)
    found = method.attribute(image, labels=mask, abs=False)
    assert_close(found[0, 0], np.moveaxis(aggregated(rows, "max"), -1, 0))


def test_without_labels_the_segmented_class_is_explained(inputs: torch.Tensor) -> None:
    network, image = monai_network("global"), inputs[:1].clone().requires_grad_()
    logits = network(image)
    (logits[:, 1][logits[:, 1] >= logits[:, 0]].sum()).backward()
    assert image.grad is not None
    assert_close(Saliency(network).attribute(inputs[:1], abs=False), image.grad)


def test_of_several_classes_the_voxels_of_the_argmax_can_be_explained(
    inputs: torch.Tensor,
) -> None:
    torch.manual_seed(0)
    network = UNet(3, 2, 4, channels=(3, 4), strides=(2,), norm="batch").eval()
    image = 0.1 * inputs[:1].clone().requires_grad_()
    image.retain_grad()
    logits = network(image)
    domain = logits.argmax(1) == 2
    assert logits.softmax(1)[:, 2].max() < 0.5  # no voxel reaches the threshold
    logits[:, 2][domain].sum().backward()
    assert image.grad is not None
    with pytest.warns(match="the most probable of 4 classes may not reach"):
        assert not Saliency(network).attribute(image, target=2).any()
    found = Saliency(network).attribute(image, target=2, abs=False, domain="argmax")
    assert_close(found, image.grad)
    heat = InstanceGradCam(network, LAYER)
    of_labels = heat.attribute(image, 2, domain.int())[:, 0]
    torch.testing.assert_close(heat.attribute(image, 2, domain="argmax"), of_labels)


def test_noise_is_that_of_the_library_whatever_else_is_in_the_batch(
    inputs: torch.Tensor, labels: torch.Tensor
) -> None:
    method = InstanceSmoothGrad(converted("local"))
    field = jaxsal.whole_volume(converted("local"))
    for given, own in (
        ({"stdevs": 0.3}, {"noise": 0.3, "noise_scale": "absolute"}),
        ({"nt_samples_batch_size": 2}, {}),
    ):
        found = method.attribute(inputs, 1, labels, nt_samples=2, seed=4, **given)
        maps = jaxsal.smoothgrad(
            field, channels_last(inputs[1]), labels[1].numpy(), samples=2, seed=4, **own
        )
        assert_close(found[1, 0], np.moveaxis(maps.dense(3), -1, 0))


def test_maps_have_the_inputs_dtype_and_leave_them_alone(inputs: torch.Tensor) -> None:
    image = inputs[:1].double().requires_grad_()
    method = Saliency(converted("local"))
    found = method.attribute(image, VOXEL, abs=False)
    assert (found.dtype, found.device, found.requires_grad) == (torch.float64, image.device, False)
    assert image.grad is None
    np.testing.assert_array_equal(
        found.numpy(), method.attribute(inputs[:1], VOXEL, abs=False).numpy()
    )


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.bool])
def test_maps_of_whole_numbers_are_floats(dtype: torch.dtype, inputs: torch.Tensor) -> None:
    image = (3 * inputs[:1]).abs().to(dtype)
    method = Saliency(converted("local"))
    found = method.attribute(image, VOXEL)
    assert found.dtype == torch.float32
    assert_close(found, method.attribute(image.float(), VOXEL))


def test_labels_and_targets_may_be_arrays_and_inputs_a_tuple(
    inputs: torch.Tensor, labels: torch.Tensor
) -> None:
    method = Saliency(converted("local"))
    expected = method.attribute(inputs, 1, labels=labels)
    for array in (
        labels.numpy(),
        labels.numpy().astype(np.uint16)[:, None],
        (labels - 1e-4).tolist(),
        labels.bfloat16(),
    ):
        torch.testing.assert_close(method.attribute(inputs, 1, labels=array), expected)
    (found,) = method.attribute((inputs,), np.array([1, 1]), labels=labels)
    torch.testing.assert_close(found, expected)


def test_targets_of_both_kinds_go_together(inputs: torch.Tensor) -> None:
    method = Saliency(converted("local"))
    found = method.attribute(inputs, [1, VOXEL])
    torch.testing.assert_close(found[:1], method.attribute(inputs[:1], 1))
    torch.testing.assert_close(found[1:], method.attribute(inputs[1:], VOXEL))


def test_empty_batches_have_empty_maps(inputs: torch.Tensor, labels: torch.Tensor) -> None:
    none, model = inputs[:0], converted("local")
    assert Saliency(model).attribute(none, VOXEL).shape == none.shape
    assert InstanceSmoothGrad(model).attribute(none, []).shape == none.shape
    assert Saliency(model).attribute(none, labels=labels[:0]).shape == (0, 0, *none.shape[1:])
    assert InstanceGradCam(model, LAYER).attribute(none).shape == (0, 1, *SHAPE)
    without = Saliency(model).attribute(inputs, labels=torch.zeros(2, *SHAPE))
    assert without.shape == (2, 0, *inputs.shape[1:])


def test_arguments_that_change_nothing_are_taken(inputs: torch.Tensor) -> None:
    image, model = inputs[:1], converted("local")
    for method, idle in (
        (Saliency(model), {}),
        (InstanceSmoothGrad(model), {"draw_baseline_from_distrib": False, "nt_samples": 1}),
        (InstanceGradCam(model, LAYER), {"attr_dim_summation": True, "grad_kwargs": None}),
    ):
        found = method.attribute(image, VOXEL, additional_forward_args=None, **idle)
        assert found.any()


@both
def test_grad_cam_is_captums(network: str, inputs: torch.Tensor) -> None:
    module = monai_network(network)
    layer = module.get_submodule(module_path(network, LAYER))
    theirs = captum.attr.LayerGradCam(module, layer)
    maps = theirs.attribute(inputs[:1].clone(), VOXEL, relu_attributions=True).detach()
    expected = on_image([maps[0, 0]], network, "whole", SHAPE)
    settings = {"relu_attributions": True, "alignment": "half-pixel"}
    found = InstanceGradCam(module, layer).attribute(inputs[:1], VOXEL, **settings)
    assert_close(found[0, 0], expected)


@both
def test_heat_maps_are_those_of_hooks_and_autograd(
    network: str, inputs: torch.Tensor, labels: torch.Tensor
) -> None:
    module = monai_network(network)
    layer = module.get_submodule(module_path(network, LAYER))
    half_pixel = {"alignment": "half-pixel"}
    found = InstanceGradCamPlusPlus(module, layer).attribute(inputs, labels=labels, **half_pixel)
    assert found.shape == (2, 2, 1, *SHAPE)
    for image, lesion, row in ((0, 7, 1), (1, 3, 0)):
        domain = labels[image].numpy() == lesion
        a, g = activations_and_gradients(
            network, "whole", channels_last(inputs[image]), domain, LAYER
        )
        maps = [heat_map(a[0], g[0], "instance")]
        expected = on_image(maps, network, "whole", SHAPE)
        np.testing.assert_allclose(
            found[image, row, 0].numpy(), expected, rtol=0, atol=1e-4 * expected.max()
        )


class Unknown(torch.nn.Sequential):
    """A network that is not one of MONAI's."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        layers = torch.nn.Conv3d(2, 3, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv3d(3, 2, 1)
        super().__init__(*layers)


def test_any_other_network_is_exported(inputs: torch.Tensor) -> None:
    network = Unknown()
    expected = captum.attr.Saliency(network).attribute(inputs.clone(), VOXEL, abs=False)
    ours = Saliency(network)
    assert_close(ours.attribute(inputs, VOXEL, abs=False), expected)
    cut = inputs[:1, :, :8]  # another size
    expected = captum.attr.Saliency(network).attribute(cut.clone(), VOXEL, abs=False)
    assert_close(ours.attribute(cut, VOXEL, abs=False), expected)


def test_layers_of_any_other_network_are_its_modules(inputs: torch.Tensor) -> None:
    network = Unknown()
    theirs = captum.attr.LayerGradCam(network, network[1])
    expected = theirs.attribute(inputs[:1], VOXEL, relu_attributions=True).detach()
    found = InstanceGradCam(network, network[1]).attribute(inputs[:1], VOXEL)
    assert_close(found, expected)
    with pytest.raises(InputError, match="no layer '7'"):
        InstanceGradCam(network, "7").attribute(inputs[:1], VOXEL)


def test_layers_go_by_name_too(inputs: torch.Tensor) -> None:
    maps = [
        InstanceGradCamPlusPlus(monai_network("local"), name).attribute(inputs[:1], VOXEL)
        for name in (LAYER, module_path("local", LAYER))
    ]
    assert maps[0].shape == (1, 1, *SHAPE)
    assert maps[0].max() > 0
    torch.testing.assert_close(maps[0], maps[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": torch.zeros(2, *SHAPE)}, r"inputs must be one tensor \(B, C, X, Y, Z\)"),
        ({"labels": torch.zeros(1, *SHAPE)}, r"labels must be \(B, X, Y, Z\) = \(2, 12, 16, 8\)"),
        ({"target": VOXEL, "labels": torch.ones(2, *SHAPE)}, "a single logit; with labels"),
        ({"target": (1, 12, 0, 0)}, r"within the image \(12, 16, 8\), counted from 0"),
        ({"target": (1, 2, 3)}, r"a single logit's target is \(channel, x, y, z\)"),
        ({"target": [1]}, "one per image, 2; got 1"),
        ({"target": "lesion"}, "whole numbers; got 'lesion'"),
        ({"target": 2}, "one of the network's 2 outputs"),
        ({"abs": True}, "these maps are signed"),
        ({"stdev": 1.0}, "unknown setting stdev; there are aggregate, .*seed"),
        ({"noise_samples": torch.zeros(2, *SHAPE)}, r"noise_samples must be a tensor \(N, C, X,"),
        ({"inputs": (torch.zeros(1), torch.zeros(1))}, "inputs must be one tensor .*got a tuple"),
        ({"inputs": torch.zeros(2, 2, *SHAPE).to(torch.cfloat)}, "inputs .* real numbers"),
        ({"labels": np.full((2, *SHAPE), np.nan)}, "labels must be finite"),
        ({"labels": [[1], [1, 2]]}, "labels must be an array"),
        ({"labels": np.full((2, *SHAPE), 0.5)}, "labels must be whole in every voxel"),
        ({"nt_type": "smooth"}, "nt_type must be one of smoothgrad, smoothgrad_sq, vargrad"),
        ({"nt_samples": 0}, "nt_samples must be a whole number of at least 1, got 0"),
        ({"nt_samples_batch_size": 0}, "nt_samples_batch_size .* at least 1, got 0"),
        ({"nt_samples_batch_size": 1.5}, "nt_samples_batch_size must be a whole number"),
        ({"stdevs": (0.1, 0.2)}, "stdevs, if a tuple, has one entry .* got 2"),
        ({"stdevs": torch.ones(3)}, r"stdevs must be .* per channel, \(2,\); got the shape \(3,\)"),
        ({"stdevs": -1.0}, "stdevs must be zero or more"),
        ({"stdevs": "wide"}, "stdevs must be numbers"),
        ({"additional_forward_args": 1}, "additional_forward_args must be None or left out"),
        ({"draw_baseline_from_distrib": True}, "draw_baseline_from_distrib must be False"),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], message: str, inputs: torch.Tensor) -> None:
    method = InstanceSmoothGrad(converted("local"))
    with pytest.raises(InputError, match=message):
        method.attribute(**{"inputs": inputs, "nt_samples": 1, **changes})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nt_type", "vargrad"),
        ("nt_samples", 3),
        ("nt_samples_batch_size", 1),
        ("stdevs", 0.1),
        ("noise_samples", torch.zeros(1, 2, *SHAPE)),
    ],
)
def test_saliency_names_what_it_cannot_take_of_the_noise(
    name: str, value: Any, inputs: torch.Tensor
) -> None:
    with pytest.raises(InputError, match=f"takes no {name}: .* InstanceSmoothGrad"):
        Saliency(converted("local")).attribute(inputs, 1, **{name: value})


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"relu_attributions": False}, "relu_attributions must be True"),
        ({"attr_dim_summation": False}, "attr_dim_summation must be True"),
        ({"denominator": "monai"}, "unknown setting denominator; there are .*memory"),
    ],
    ids=str,
)
def test_what_grad_cam_cannot_take_is_named(
    argument: dict[str, Any], message: str, inputs: torch.Tensor
) -> None:
    with pytest.raises(InputError, match=message):
        InstanceGradCam(converted("local"), LAYER).attribute(inputs, **argument)


def test_what_cannot_be_explained_is_refused() -> None:
    with pytest.raises(InputError, match=r"a torch\.nn\.Module or a jaxsal\.Model"):
        Saliency(lambda batch: batch)
    with pytest.raises(InputError, match=r"a jaxsal\.Model has its own"):
        Saliency(converted("local"), config={"strides": [2]})
    with pytest.raises(InputError, match="is no module of the network"):
        InstanceGradCamPlusPlus(monai_network("local"), UNet(3, 1, 1, (2, 2), (2,)))
    with pytest.raises(InputError, match=r"no layer 'encodr\.0'; did you mean encoder\.0"):
        InstanceGradCamPlusPlus(converted("local"), "encodr.0")
