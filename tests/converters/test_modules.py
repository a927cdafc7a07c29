"""Networks in memory: converted as they are, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.network_cases.case import randomised
from monai.networks.nets import BasicUNet, DynUNet, SwinUNETR, UNet

from jaxsal.errors import InputError
from jaxsal_converters.modules import model_from_module

pytestmark = pytest.mark.usefixtures("xla_convolutions")

UNET = {"in_channels": 2, "out_channels": 2, "channels": (4, 6), "strides": (2,), "norm": "batch"}
DYNUNET = {
    **{"in_channels": 1, "out_channels": 2, "kernel_size": [3, 3, 3], "strides": [1, 2, 2]},
    **{"upsample_kernel_size": [2, 2], "filters": [2, 3, 4]},
}
SWIN = {"in_channels": 1, "out_channels": 2, "feature_size": 12, "depths": (1, 1, 1, 1)}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "unet of strides and activation that its state dict hides": (
        UNet,
        {**UNET, "strides": ((1, 2, 2),), "act": "relu", "num_res_units": 1, "dropout": 0.1},
    ),
    "unet of group norm, MONAI's enumerations": (
        UNet,
        {**UNET, "norm": ("GROUP", {"num_groups": 1}), "adn_ordering": "ADN", "out_channels": 1},
    ),
    "dynunet": (DynUNet, {**DYNUNET, "res_block": True, "act_name": "relu"}),
    "dynunet of group norm, deep supervision": (
        DynUNet,
        {**DYNUNET, "norm_name": ("group", {"num_groups": 1}), "deep_supervision": True},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_network_in_memory_converts_by_its_own_account(name: str) -> None:
    torch.manual_seed(0)
    build, arguments = CASES[name]
    model_from_module(randomised(build(spatial_dims=3, **arguments)))  # compares the logits


@pytest.mark.thorough
def test_swin_unetr_tells_what_its_entries_do_not() -> None:
    arguments = {
        **{"window_size": (3, 5, 7), "normalize": False, "downsample": "mergingv2"},
        "norm_name": ("group", {"num_groups": 3, "eps": 1e-3}),
    }
    network = SwinUNETR(**SWIN, **arguments).eval()
    found = model_from_module(network, verify=False).config.to_arguments()
    found["norm_name"][1] = dict(sorted(found["norm_name"][1].items(), reverse=True))
    assert {k: found[k] for k in arguments} == {
        **{"window_size": [3, 5, 7], "normalize": False, "downsample": "mergingv2"},
        "norm_name": ["group", {"num_groups": 3, "eps": 1e-3}],
    }


def test_data_parallel_networks_and_their_channels_are_taken() -> None:
    network = torch.nn.DataParallel(UNet(spatial_dims=3, **UNET)).eval()
    model = model_from_module(network, threshold=0.3, channels=("flair", "t1"), verify=False)
    assert (model.threshold, model.channels) == (0.3, ("flair", "t1"))
    assert model.resolve_layer("model.0.conv") == "encoder.0.conv"


def test_a_network_that_was_changed_is_noticed() -> None:
    network = UNet(spatial_dims=3, **UNET).eval()
    network.model[0].conv.stride = (1, 1, 1)
    network.model[2].conv.stride = (1, 1, 1)
    network.model[2].conv.output_padding = (0, 0, 0)
    with pytest.raises(InputError, match=r"logits differ .* was changed after it was built"):
        model_from_module(network)
    assert model_from_module(network, config={"strides": [1]}).divisor == (1, 1, 1)


def test_training_mode_is_refused() -> None:
    with pytest.raises(InputError, match=r"call network\.eval\(\)"):
        model_from_module(UNet(spatial_dims=3, **UNET))


@pytest.mark.parametrize(
    "network",
    [BasicUNet(features=(2,) * 6), torch.nn.Conv3d(2, 2, 3)],
    ids=["another of MONAI's", "a layer"],
)
def test_another_network_is_refused(network: torch.nn.Module) -> None:
    with pytest.raises(InputError, match=f"got a {type(network).__name__}"):
        model_from_module(network.eval())
