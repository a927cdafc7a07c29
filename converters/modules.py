"""A PyTorch network in memory -> `jaxsal.Model`, with no file in between."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.nets.swin_unetr_config import OLD_MERGING
from jaxsal_converters.comparison import random_batch, relative_difference
from jaxsal_converters.monai import MONAI_NETWORKS
from jaxsal_converters.state_dict import as_arrays

if TYPE_CHECKING:
    from jaxsal_converters.monai import MonaiNetwork

TOLERANCE = 1e-2
"""Largest difference of logits, relative to their peak, for which the conversion is believed.

PyTorch's own convolutions on a GPU (TF32) are off by up to 1e-3; a wrong architecture by far more.
"""

_UNET = (
    *("in_channels", "out_channels", "channels", "strides", "kernel_size", "up_kernel_size"),
    *("num_res_units", "act", "norm", "dropout", "bias", "adn_ordering"),
)
_DYNUNET = (
    *("in_channels", "out_channels", "kernel_size", "strides", "upsample_kernel_size", "filters"),
    *("dropout", "norm_name", "act_name", "trans_bias"),
)
_SEGRESNET = (
    *("spatial_dims", "in_channels", "init_filters", "blocks_down", "blocks_up", "dropout_prob"),
    *("act", "norm", "use_conv_final", "upsample_mode"),
)
_SEGRESNET_DS = (
    *("spatial_dims", "in_channels", "out_channels", "init_filters", "blocks_down", "blocks_up"),
    *("act", "norm", "dsdepth", "preprocess", "resolution"),
)


def model_from_module(
    network: torch.nn.Module,
    *,
    config: Mapping[str, Any] | None = None,
    threshold: float = 0.5,
    channels: Sequence[str] | None = None,
    verify: bool = True,
) -> Model:
    """Converts a network of `jaxsal_converters.monai.MONAI_NETWORKS` as it is in memory now.

    Training it further does not change the model.

    Args:
        network: in evaluation mode; `DataParallel` around it is fine.
        config: constructor arguments that take precedence over what the network says of itself.
        threshold: lesion probability at and above which a voxel is lesion.
        channels: a name per input channel; by default channel0, channel1, ….
        verify: compare the logits of both on a small random input.

    Raises:
        InputError: it is another network or a part of one, in training mode, of an architecture
            that is not supported, or its logits are others than those of the conversion.
    """
    network = _unwrapped(network)
    kind, described = _kind_of(network)
    if network.training:
        raise InputError(
            "the network is in training mode, in which its logits are random or depend on the "
            "batch; jaxsal explains inference: call network.eval() first"
        )
    arguments = {**described(network), **(config or {})}
    tensors = {key: value.cpu() for key, value in network.state_dict().items()}
    architecture, parameters, _ = kind.convert(as_arrays(tensors), arguments)
    model = Model(
        config=architecture,
        parameters=parameters,
        channels=tuple(channels or (f"channel{c}" for c in range(architecture.in_channels))),
        threshold=threshold,
        aliases=kind.aliases(architecture),
        source={"module": type(network).__name__, "converter": kind.name},
    )
    if verify:
        _verify(network, model)
    return model


def is_native(network: torch.nn.Module) -> bool:
    """Whether `model_from_module` knows the class of a network, or of what is in `DataParallel`."""
    names = {kind.class_name for kind in (MONAI_NETWORKS[name] for name in MONAI_NETWORKS)}
    return bool(names & _ancestors(_unwrapped(network)))


def _ancestors(network: torch.nn.Module) -> set[str]:
    """Names of the classes of MONAI's that a network is of."""
    found = type(network).__mro__
    return {c.__name__ for c in found if c.__module__.startswith("monai.networks.")}


def _unwrapped(network: torch.nn.Module) -> torch.nn.Module:
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    inner = network.module if isinstance(network, parallel) else network
    return inner if isinstance(inner, torch.nn.Module) else network


def _kind_of(
    network: torch.nn.Module,
) -> tuple[MonaiNetwork, Callable[[torch.nn.Module], dict[str, Any]]]:
    """The converter, and what reads constructor arguments off an instance."""
    ancestors = _ancestors(network)
    kinds = [MONAI_NETWORKS[name] for name in MONAI_NETWORKS]
    for kind in kinds:
        if kind.class_name in ancestors:
            return kind, _DESCRIBED[kind.class_name]
    known = ", ".join(kind.class_name for kind in kinds)
    raise InputError(
        f"networks that can be converted are MONAI's {known}, got a {type(network).__name__}: "
        "give one of these by itself, without what surrounds it, or a jaxsal.Model: "
        "jaxsal_converters.from_torch makes one of any network"
    )


def _unet_arguments(network: Any) -> dict[str, Any]:
    return {"spatial_dims": network.dimensions} | {n: getattr(network, n) for n in _UNET}


def _dynunet_arguments(network: Any) -> dict[str, Any]:
    residual = network.conv_block.__name__ == "UnetResBlock"
    named = {name: getattr(network, name) for name in _DYNUNET}
    return {"spatial_dims": network.spatial_dims, "res_block": residual, **named}


def _segresnet_arguments(network: Any) -> dict[str, Any]:
    return {name: getattr(network, name) for name in _SEGRESNET}


def _segresnet_ds_arguments(network: Any) -> dict[str, Any]:
    return {name: getattr(network, name) for name in _SEGRESNET_DS}


def _swin_unetr_arguments(network: Any) -> dict[str, Any]:
    """Those that its state dict does not show; the converter reads off the others."""
    arguments = {
        "window_size": list(network.swinViT.window_size),
        "normalize": network.normalize,
        "downsample": _downsample(network.swinViT.layers1[0].downsample),
    }
    norm = network.encoder1.layer.norm1
    if isinstance(norm, torch.nn.GroupNorm):
        arguments["norm_name"] = ["group", {"num_groups": norm.num_groups, "eps": norm.eps}]
    elif isinstance(norm, torch.nn.InstanceNorm3d) and not norm.track_running_stats:
        arguments["norm_name"] = ["instance", {"affine": norm.affine, "eps": norm.eps}]
    return arguments


def _downsample(merging: torch.nn.Module) -> str:
    """The name of a merging layer; a class that is not MONAI's own stands for itself, and fails."""
    from monai.networks.nets import SwinUNETR

    is_old = "img_size" in inspect.signature(SwinUNETR).parameters  # until MONAI 1.4
    names = {"PatchMerging": OLD_MERGING if is_old else "merging", "PatchMergingV2": "mergingv2"}
    name = type(merging).__name__
    return names.get(name, name)


def _mednext_arguments(network: Any) -> dict[str, Any]:
    """The norm: the converter reads off all else, and refuses the other norm of MONAI's."""
    return {"norm_type": "group"}


_DESCRIBED: dict[str, Callable[[Any], dict[str, Any]]] = {
    "UNet": _unet_arguments,
    "DynUNet": _dynunet_arguments,
    "SwinUNETR": _swin_unetr_arguments,
    "SegResNet": _segresnet_arguments,
    "SegResNetDS": _segresnet_ds_arguments,
    "MedNeXt": _mednext_arguments,
}


def _verify(network: torch.nn.Module, model: Model) -> None:
    batch = random_batch(model)
    example = next(network.parameters())
    with torch.no_grad():
        given = torch.from_numpy(np.moveaxis(batch, -1, 1).copy()).to(example)
        found = network(given)
    logits = found[0] if isinstance(found, tuple) else found  # of SegResNetVAE, with a loss
    expected = np.moveaxis(logits.float().cpu().numpy(), 1, -1)
    relative = relative_difference(model, batch, expected)
    if not relative <= TOLERANCE:
        raise InputError(
            f"the {type(network).__name__}'s logits differ from the conversion's by {relative:.2g} "
            "of their peak on random input: it was changed after it was built; say with config={…} "
            "what its constructor arguments would be now"
        )
