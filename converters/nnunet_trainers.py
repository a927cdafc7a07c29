"""Trainers of nnU-Net v2's that build another network than the plans describe.

``nnUNetTrainerBN`` puts batch norm in the place of the plans' instance norm, and leaves plans.json
as it is. What tensors show is taken from them; of the rest the user is asked to correct the plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaxsal.nets.nnunet_config import NNUNetConfig
from jaxsal.nets.settings import as_norm
from jaxsal_converters.state_dict import State

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
