"""nnU-Net's network in PyTorch, from our configuration, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.nets.nnunet_config import NNUNetConfig
from jaxsal.nets.settings import Setting
from jaxsal.types import Triple
from jaxsal_converters.comparison import library, random_batch, relative_difference
from jaxsal_converters.nnunet_architecture import ACTIVATIONS, NORMS
from jaxsal_converters.nnunet_archive import opened_training
from jaxsal_converters.nnunet_folder import (
    choose_checkpoints,
    read_fold,
    read_plans,
)
from jaxsal_converters.nnunet_keys import KEY_PATTERN, REVERSED
from jaxsal_converters.nnunet_plans import spatial_axes
from jaxsal_converters.state_dict import State, select_network


def require_networks() -> Any:
    """The module of nnU-Net's networks.

    Raises:
        InputError: the package is not installed.
    """
    name = "dynamic_network_architectures"
    return library(f"{name}.architectures.unet", f"{name.replace('_', '-')}==0.3.1")


def torch_network(config: NNUNetConfig, axes: Triple = REVERSED) -> Any:
    """The network of ``dynamic_network_architectures``, freshly initialised, at inference.

    Args:
        config: the architecture.
        axes: of its arrays, the one along X, Y and Z each.

    Raises:
        InputError: the package is not installed.
    """
    unet = require_networks()
    import torch
    from dynamic_network_architectures.building_blocks.residual import BottleneckD

    norm, norm_arguments = _layer(torch, config.norm, NORMS)
    act, act_arguments = _layer(torch, config.act, ACTIVATIONS)
    arguments = {
        **_sizes(config, axes),
        "conv_op": torch.nn.Conv3d,
        "norm_op": norm,
        "norm_op_kwargs": norm_arguments,
        "nonlin": act,
        "nonlin_kwargs": act_arguments,
    }
    if config.bottleneck_channels:
        arguments |= {
            "block": BottleneckD,
            "bottleneck_channels": list(config.bottleneck_channels),
        }
    return getattr(unet, config.network)(**arguments).eval()


def _sizes(config: NNUNetConfig, axes: Triple) -> dict[str, Any]:
    """The constructor's arguments that are numbers."""
    own: dict[str, Any]
    if config.is_residual:
        own = {"n_blocks_per_stage": config.encoder_units, "stem_channels": config.stem_channels}
    else:
        own = {
            "n_conv_per_stage": config.encoder_units,
            "nonlin_first": config.activation_first,
        }
    return {
        **own,
        "input_channels": config.in_channels,
        "n_stages": config.stages,
        "features_per_stage": config.features_per_stage,
        "kernel_sizes": [[size[axes.index(a)] for a in range(3)] for size in config.kernel_sizes],
        "strides": [[size[axes.index(a)] for a in range(3)] for size in config.strides],
        "num_classes": config.out_channels,
        "n_conv_per_stage_decoder": config.decoder_units,
        "conv_bias": config.conv_bias,
    }


def _layer(torch: Any, setting: Setting | None, names: dict[str, str]) -> tuple[Any, Any]:
    if setting is None:
        return None, None
    (class_name,) = (theirs for theirs, ours in names.items() if ours == setting[0])
    return getattr(torch.nn, class_name), dict(setting[1])


def verify_nnunet(
    model: Model,
    results: str | Path,
    folds: Sequence[str] | None,
    configuration: str | None,
    checkpoint: str | None = None,
    trainer: str | None = None,
) -> float:
    """The largest difference of logits between nnU-Net's networks and ours on random input.

    Args:
        model: the converted network or ensemble.
        results: as for `convert_nnunet`, as the following.
        folds: that the model was made of.
        configuration: of the plans.
        checkpoint: which file of each fold.
        trainer: whose training.

    Returns:
        The difference as a fraction of the largest magnitude of nnU-Net's logits.

    Raises:
        InputError: the package that defines the networks is not installed.
    """
    assert isinstance(model.config, NNUNetConfig)
    with opened_training(Path(results), configuration, trainer) as folder:
        axes = spatial_axes(read_plans(folder)[0])
        batch = random_batch(model)
        paths = choose_checkpoints(folder, folds, checkpoint).paths
        members = [read_fold(path).entries for path in paths]
        expected = np.mean([source_logits(model.config, e, batch, axes) for e in members], axis=0)
    return relative_difference(model, batch, expected)


def source_logits(
    config: NNUNetConfig, entries: State, batch: np.ndarray, axes: Triple = REVERSED
) -> np.ndarray:
    """Logits (B, X, Y, Z, K) of one of nnU-Net's networks on a batch (B, X, Y, Z, C)."""
    network = torch_network(config, axes)
    import torch

    bare, _, _ = select_network(entries, KEY_PATTERN)
    tensors = {key: torch.from_numpy(value.copy()) for key, value in bare.items()}
    missing = network.load_state_dict(tensors, strict=False).missing_keys
    absent = [key for key in missing if not key.endswith("num_batches_tracked")]
    if absent:
        raise InputError(f"nnU-Net's network has entries that the checkpoint lacks: {absent[:3]}")
    order = [1 + axes.index(a) for a in range(3)]
    with torch.no_grad():
        logits = network(torch.from_numpy(batch.transpose(0, 4, *order).copy())).numpy()
    return np.ascontiguousarray(logits.transpose(0, *(2 + a for a in axes), 1))
