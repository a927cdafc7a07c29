"""MedNeXt: derivatives and maps of PyTorch's, MONAI's defaults, and what is refused."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers.gradcam_peer import heat_map
from helpers.network_cases.case import arrays_of, randomised
from monai.networks.nets import MedNeXt

from jaxsal.errors import InputError
from jaxsal.field.whole import whole_volume
from jaxsal.model import Model
from jaxsal.nets.mednext import ResponseNorm
from jaxsal.nets.mednext_config import MedNeXtConfig
from jaxsal.saliency.class_activation import gradcam_plus_plus
from jaxsal.saliency.smoothgrad import smoothgrad
from jaxsal_converters import mednext
from jaxsal_converters.modules import model_from_module

pytestmark = pytest.mark.usefixtures("xla_convolutions", "one_device")

SMALL: dict[str, Any] = {
    "in_channels": 2,
    "init_filters": 2,
    "blocks_down": (1, 1),
    "blocks_bottleneck": 1,
    "blocks_up": (1, 1),
}
BOTH = {"use_residual_connection": True, "global_resp_norm": True}
SIZE = (12, 8, 8)
VOXELS = np.array([[5, 3, 4], [6, 3, 4], [6, 4, 4]])
TARGET = 1
EXACT = 1e-9  # of the peak: float64
ROUNDED = 1e-5  # of the peak: float32; nothing has a kink


def network_of(arguments: dict[str, Any]) -> torch.nn.Module:
    torch.manual_seed(0)
    network = randomised(MedNeXt(spatial_dims=3, **{**SMALL, **arguments}))
    for key, tensor in network.state_dict().items():
        if "global_resp" in key:
            tensor.normal_()
    return network


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def first(array: np.ndarray) -> torch.Tensor:
    """(X, Y, Z, C) -> (1, C, X, Y, Z) in float64."""
    return torch.from_numpy(np.moveaxis(array, -1, 0)[None].copy()).double()


def assert_close(found: Any, expected: np.ndarray, tolerance: float) -> None:
    peak = np.abs(expected).max()
    assert peak > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * peak)


def gradients(network: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    """By autograd in float64, of the logit of each voxel: (V, X, Y, Z, C)."""
    x = first(image).requires_grad_()
    logits = network(x)[0, TARGET]
    rows = [
        torch.autograd.grad(logits[tuple(voxel)], x, retain_graph=True)[0]
        for voxel in VOXELS.tolist()
    ]
    return np.moveaxis(torch.cat(rows).numpy(), 1, -1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, **BOTH},
        pytest.param({"kernel_size": 3, "deep_supervision": True}, marks=pytest.mark.thorough),
        pytest.param({"kernel_size": 5}, marks=pytest.mark.thorough),
        pytest.param({"kernel_size": 5, **BOTH}, marks=pytest.mark.thorough),
        pytest.param({"kernel_size": 7}, marks=pytest.mark.thorough),
        pytest.param({"kernel_size": 7, **BOTH}, marks=pytest.mark.thorough),
    ],
    ids=lambda arguments: ", ".join(map(str, arguments.items())),
)
def test_logits_and_gradients_are_pytorchs_in_float64(arguments: dict[str, Any]) -> None:
    network, image = network_of(arguments), normal(1, *SIZE, 2)
    model = model_from_module(network, verify=False)
    network.double()
    with jax.enable_x64(True):
        parameters = {k: jnp.asarray(np.asarray(v), "f8") for k, v in model.parameters.items()}
        batch, voxel = jnp.asarray(image[None], "f8"), (0, *VOXELS[0], TARGET)

        def logit(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            _, activations = model.function.with_activations(parameters, x)
            return activations["head"][voxel], activations["head"]

        found, logits = jax.jit(jax.grad(logit, has_aux=True))(batch)
    with torch.no_grad():
        expected = network(first(image))[0].numpy()
    assert_close(logits[0], np.moveaxis(expected, 0, -1), EXACT)
    assert_close(found[0], gradients(network, image)[0], EXACT)


@pytest.fixture(scope="module")
def pair() -> tuple[torch.nn.Module, Model]:
    network = network_of({"kernel_size": 3, **BOTH})
    model = model_from_module(network, verify=False)
    return network.double(), model


def labels() -> np.ndarray:
    found = np.zeros(SIZE, np.int32)
    found[tuple(VOXELS.T)] = 1
    return found


@pytest.mark.thorough
def test_the_signed_maximum_is_that_of_autograd(pair: tuple[torch.nn.Module, Model]) -> None:
    network, model = pair
    image, noise = normal(1, *SIZE, 2), 0.1 * normal(2, 2, *SIZE, 2)
    rows = [gradients(network, image + sample) for sample in noise]
    peaks = [np.take_along_axis(r, np.abs(r).argmax(0)[None], 0)[0] for r in rows]
    field = whole_volume(model)
    found = smoothgrad(
        field, image, labels(), target=TARGET, aggregate="max", noise_samples=noise
    ).dense(1)
    assert_close(found, np.mean(peaks, 0), ROUNDED)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "path",
    [
        "up_blocks.1.conv1",
        pytest.param("bottleneck", marks=pytest.mark.thorough),
        pytest.param("dec_stages.1", marks=pytest.mark.thorough),
    ],
)
def test_grad_cam_plus_plus_is_that_of_autograd(
    pair: tuple[torch.nn.Module, Model], path: str
) -> None:
    """Also of a layer with 2n - 1 positions, before one more is put there."""
    network, model = pair
    image, kept = normal(1, *SIZE, 2), []
    handle = network.get_submodule(path).register_forward_hook(lambda *of: kept.append(of[-1]))
    logits = network(first(image))[0, TARGET]
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[tuple(VOXELS.T)].sum(), kept)
    small = heat_map(kept[0].detach()[0], gradient[0], "instance")
    grids = {"bottleneck": (3, 2, 2), "up_blocks.1.conv1": (11, 7, 7), "dec_stages.1": SIZE}
    assert tuple(small.shape) == grids[path]
    expected = torch.nn.functional.interpolate(small[None, None], SIZE, mode="trilinear")[0, 0]
    found = gradcam_plus_plus(
        model, image, labels(), layer=path, target=TARGET, alignment="half-pixel"
    )
    assert_close(found.dense(1), expected.numpy(), 10 * ROUNDED)  # a quotient


def test_response_norm_of_channels_that_are_zero_has_pytorchs_derivative() -> None:
    x, scale, bias = normal(1, 1, 3, 2, 2, 4), normal(2, 4), normal(3, 4)
    x[..., 1] = 0
    norm = ResponseNorm(4)
    norm.response_scale[...] = scale.reshape(1, 1, 1, 1, 4)
    norm.response_bias[...] = bias.reshape(1, 1, 1, 1, 4)
    theirs = first(x[0]).requires_grad_()
    norms = torch.norm(theirs, p=2, dim=(-3, -2, -1), keepdim=True)
    relative = norms / (norms.mean(1, keepdim=True) + 1e-6)
    gamma, beta = (torch.from_numpy(v).double().view(1, 4, 1, 1, 1) for v in (scale, bias))
    y = gamma * (theirs * relative) + beta + theirs
    (gradient,) = torch.autograd.grad(y.square().sum(), theirs)
    found, pull_back = jax.vjp(norm, jnp.asarray(x))
    (back,) = pull_back(2 * found)
    assert_close(found[0], np.moveaxis(y.detach()[0].numpy(), 0, -1), ROUNDED)
    assert_close(back[0], np.moveaxis(gradient[0].numpy(), 0, -1), ROUNDED)


class ChannelsOfAVoxel(torch.nn.LayerNorm):
    """MIC-DKFZ's layer norm, by PyTorch's on channels that lie last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def test_layer_norm_is_over_the_channels_of_a_voxel() -> None:
    network = network_of({"kernel_size": 3})
    for module in list(network.modules()):
        if isinstance(norm := getattr(module, "norm", None), torch.nn.GroupNorm):
            module.norm = ChannelsOfAVoxel(norm.num_channels)
            module.norm.load_state_dict(norm.state_dict())
    config, parameters, _ = mednext.convert(arrays_of(network), {"norm_type": "layer"})
    model, image = Model(config, parameters, ("flair", "t1")), normal(1, *SIZE, 2)
    with torch.no_grad():
        expected = network.double()(first(image))[0].numpy()
    assert_close(model(image[None])[0], np.moveaxis(expected, 0, -1), ROUNDED)


def test_defaults_are_monais() -> None:
    parameters = inspect.signature(MedNeXt).parameters.values()
    stated = {p.name: p.default for p in parameters}
    assert MedNeXtConfig.from_arguments({}) == MedNeXtConfig.from_arguments(stated)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"norm_type": "batch"}, "norm_type must be one of group, layer; got 'batch'"),
        ({"blocks_up": [2, 2, 2]}, "blocks_up and blocks_down need as many entries"),
        ({"encoder_expansion_ratio": [2, 2]}, "encoder_expansion_ratio needs one number"),
        ({"down_expansion_ratio": [2, 2, 2]}, "down_expansion_ratio needs one number"),
        ({"down_expansion_ratio": 0}, "down_expansion_ratio"),
        ({"bottleneck_expansion_ratio": [2]}, "bottleneck_expansion_ratio"),
        ({"deep_supervision": "yes"}, "deep_supervision"),
        ({"use_residual_connection": 1}, "use_residual_connection"),
        ({"spatial_dims": 2}, "spatial_dims must be 3"),
    ],
    ids=str,
)
def test_what_monai_cannot_build_or_we_do_not_support_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        MedNeXtConfig.from_arguments(changes)


def test_a_single_ratio_is_that_of_all_levels() -> None:
    one = {"encoder_expansion_ratio": 3, "decoder_expansion_ratio": 4, "blocks_down": [1, 1]}
    config = MedNeXtConfig.from_arguments({**one, "blocks_up": [1, 1]})
    assert config.encoder_expansion_ratio == config.down_expansion_ratio == (3, 3)
    assert config.decoder_expansion_ratio == (4, 4)
