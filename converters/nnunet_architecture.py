"""The architecture that nnU-Net's plans describe, in their current schema and the older one.

Some trainers build another one and leave plans.json as it is: ``nnUNetTrainerBN`` puts batch norm
in the place of instance norm. What tensors show is taken from them; of the rest the user is asked
to correct the plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaxsal.errors import InputError
from jaxsal.nets.nnunet_config import ENCODERS, RESIDUAL, NNUNetConfig
from jaxsal.nets.settings import as_norm
from jaxsal.types import Triple
from jaxsal_converters.state_dict import State

# PyTorch's class -> our name of the layer
NORMS = {"InstanceNorm3d": "instance", "BatchNorm3d": "batch"}
ACTIVATIONS = {
    **{name: name.lower() for name in ("CELU", "ELU", "GELU", "LeakyReLU", "Mish", "PReLU")},
    **{name: name.lower() for name in ("ReLU", "ReLU6", "SELU", "Sigmoid", "Tanh")},
    "SiLU": "swish",
}
_IGNORED = {"n_stages", "dropout_op", "dropout_op_kwargs", "deep_supervision"}
_RENAMED = {
    "features_per_stage": "features_per_stage",
    "kernel_sizes": "kernel_sizes",
    "strides": "strides",
    "n_conv_per_stage": "encoder_units",
    "n_blocks_per_stage": "encoder_units",
    "n_conv_per_stage_decoder": "decoder_units",
    "conv_bias": "conv_bias",
    "nonlin_first": "activation_first",
    "bottleneck_channels": "bottleneck_channels",
    "stem_channels": "stem_channels",
}
_LAYERS = {"conv_op", "norm_op", "norm_op_kwargs", "nonlin", "nonlin_kwargs", "block"}


def read_architecture(
    configuration: Mapping[str, Any], in_channels: int, out_channels: int, axes: Triple
) -> NNUNetConfig:
    """The network of a configuration of the plans.

    Args:
        configuration: an entry of the plans' ``configurations``, inheritance resolved.
        in_channels: number of image channels.
        out_channels: number of logits per voxel.
        axes: of the plans' sizes, the one that lies along X, Y and Z each.

    Raises:
        InputError: the network is of a class, or has arguments, that are not supported.
    """
    if "architecture" in configuration:
        architecture = configuration["architecture"]
        name, given = architecture["network_class_name"], dict(architecture["arch_kwargs"])
    else:
        name, given = _from_older_schema(configuration)
    network = str(name).rpartition(".")[2]
    if network not in ENCODERS:
        raise InputError(
            f"the plans ask for a network of the class {name}; supported: {', '.join(ENCODERS)}"
        )
    unknown = sorted(set(given) - set(_RENAMED) - _LAYERS - _IGNORED)
    if unknown:
        raise InputError(
            f"the plans' network has the unknown argument {', '.join(unknown)}; supported: "
            f"{', '.join((*_RENAMED, *sorted(_LAYERS)))}"
        )
    arguments = {ours: given[theirs] for theirs, ours in _RENAMED.items() if theirs in given}
    for sizes in ("kernel_sizes", "strides"):
        arguments[sizes] = _reordered(arguments.get(sizes), axes)
    if network == RESIDUAL:
        _check_block(given, arguments)
    return NNUNetConfig.from_arguments(
        {
            "network": network,
            "in_channels": in_channels,
            "out_channels": out_channels,
            "norm": _layer("norm_op", given, NORMS),
            "act": _layer("nonlin", given, ACTIVATIONS),
            **arguments,
        }
    )


def _from_older_schema(configuration: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """As nnU-Net itself reads plans made before version 2.4."""
    if "UNet_class_name" not in configuration:
        raise InputError(
            "the plans' configuration has neither an architecture (current schema) nor a "
            "UNet_class_name (older one)"
        )
    name = configuration["UNet_class_name"]
    units = configuration["n_conv_per_stage_encoder"]
    base, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    return name, {
        "features_per_stage": [min(base * 2**i, most) for i in range(len(units))],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        "n_blocks_per_stage" if name == RESIDUAL else "n_conv_per_stage": units,
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _reordered(sizes: Any, axes: Triple) -> Any:
    """Sizes per stage along X, Y, Z; a number holds for all axes."""
    if not isinstance(sizes, list):
        return sizes
    return [
        [size[a] for a in axes] if isinstance(size, list) and len(size) == 3 else size
        for size in sizes
    ]


def _check_block(given: Mapping[str, Any], arguments: dict[str, Any]) -> None:
    block = str(given.get("block") or "BasicBlockD").rpartition(".")[2]
    if block not in ("BasicBlockD", "BottleneckD"):
        raise InputError(f"the plans ask for blocks {block}; supported: BasicBlockD, BottleneckD")
    if block == "BasicBlockD":
        arguments["bottleneck_channels"] = None  # which ignores them


def _layer(name: str, given: Mapping[str, Any], known: Mapping[str, str]) -> list[Any] | None:
    """Our name and the arguments of a layer that is given as a class name."""
    if given.get(name) is None:
        return None
    class_name = str(given[name]).rpartition(".")[2]
    if class_name not in known:
        raise InputError(
            f"the plans ask for {name} {given[name]}; supported: {', '.join(known)}, in 3D"
        )
    arguments = {k: v for k, v in (given.get(f"{name}_kwargs") or {}).items() if k != "inplace"}
    return [known[class_name], arguments]


_EPS = 1e-5  # of nnUNetTrainerBN, and PyTorch's own


def trained_network(config: NNUNetConfig, entries: State) -> tuple[NNUNetConfig, str | None]:
    """The network with the norm that a checkpoint's tensors show, and a sentence if it is another.

    Running statistics are those of a batch norm: an instance norm that keeps some computes the
    same at inference.

    Args:
        config: as the plans describe it.
        entries: of a checkpoint.
    """
    planned = config.norm[0] if config.norm else "no"
    if planned == "batch" or not _has(entries, "running_mean"):
        return config, None
    affine = _has(entries, "weight")
    norm = as_norm("norm", ["batch", {"eps": _EPS, "affine": affine}])
    sentence = (
        f"batch norm (eps {_EPS:g}), whose running statistics the checkpoint holds; the plans "
        f"describe {planned} norm"
    )
    return replace(config, norm=norm), sentence


def _has(entries: State, leaf: str) -> bool:
    return any(key.endswith(f".norm.{leaf}") for key in entries)


def what_to_edit(plans: Mapping[str, Any], configuration: str) -> str:
    """Which entry of plans.json describes the network of a configuration."""
    configurations, name = plans["configurations"], configuration
    while "architecture" not in configurations[name] and "inherits_from" in configurations[name]:
        name = configurations[name]["inherits_from"]
    entry = f"configurations.{name}.architecture"
    if "architecture" in configurations[name]:
        return (
            f"correct norm_op, norm_op_kwargs, nonlin, conv_bias or the sizes under "
            f"{entry}.arch_kwargs of plans.json"
        )
    return f"describe it as {entry} of plans.json, which nnU-Net writes since version 2.4"
