"""Folders as nnU-Net v2 leaves them, with weights of its own initialisation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jaxsal.nets.nnunet_config import NNUNetConfig
from jaxsal_converters.nnunet_architecture import read_architecture
from jaxsal_converters.nnunet_plans import read_outputs, select_configuration, spatial_axes
from jaxsal_converters.nnunet_source import torch_network

ARCHITECTURES = "dynamic_network_architectures.architectures"
LAYERS = {
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
SIZES = {
    "n_stages": 3,
    "features_per_stage": [2, 3, 4],
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 3]],
}
PLAIN = {
    "network_class_name": f"{ARCHITECTURES}.unet.PlainConvUNet",
    "arch_kwargs": {
        **SIZES,
        **LAYERS,
        "n_conv_per_stage": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 1],
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
RESIDUAL = {
    "network_class_name": f"{ARCHITECTURES}.unet.ResidualEncoderUNet",
    "arch_kwargs": {
        **SIZES,
        **LAYERS,
        "n_blocks_per_stage": [1, 2, 2],
        "n_conv_per_stage_decoder": [1, 1],
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
OLDER = {
    "UNet_class_name": "PlainConvUNet",
    "UNet_base_num_features": 2,
    "unet_max_num_features": 3,
    "n_conv_per_stage_encoder": [2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2],
    "num_pool_per_axis": [1, 2, 2],
    "pool_op_kernel_sizes": SIZES["strides"],
    "conv_kernel_sizes": SIZES["kernel_sizes"],
}


def plans(architecture: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Plans with one 3D configuration, of the current schema or, with OLDER, the other one."""
    network = architecture or PLAIN
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [8, 12, 24],
        "spacing": [3.0, 0.5, 0.75],
        "normalization_schemes": ["ZScoreNormalization", "CTNormalization"],
        "use_mask_for_norm": [True, False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        **({"architecture": network} if "network_class_name" in network else network),
    }
    statistics = {"mean": 50.0, "std": 20.0, "percentile_00_5": -10.0, "percentile_99_5": 90.0}
    return {
        "dataset_name": "Dataset001_Lesions",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": statistics, "1": statistics},
        "configurations": {
            "2d": {**configuration, "patch_size": [32, 32]},
            "3d_fullres": configuration,
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
        **changes,
    }


def dataset(**changes: Any) -> dict[str, Any]:
    return {
        "channel_names": {"0": "FLAIR", "1": "CT"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 20,
        "file_ending": ".nii.gz",
        **changes,
    }


def checkpoint(weights: dict[str, torch.Tensor], fold: Any, **changes: Any) -> dict[str, Any]:
    """As nnUNetTrainer.save_checkpoint writes it, NumPy's numbers and torch's devices included."""
    return {
        "network_weights": weights,
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": []},
        "grad_scaler_state": {"scale": 65536.0},
        "logging": {
            "mean_fg_dice": [np.float64(0.5), np.float32(0.6)],
            "epoch_start_timestamps": [1.0e9],
        },
        "_best_ema": np.float64(0.61),
        "current_epoch": 1000,
        "init_args": {
            "plans": {},
            "configuration": "3d_fullres",
            "fold": fold,
            "dataset_json": {},
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
        **changes,
    }


def architecture_of(plans: dict[str, Any], dataset: dict[str, Any]) -> NNUNetConfig:
    configuration = select_configuration(plans, "3d_fullres")
    outputs = len(read_outputs(dataset).names)
    inputs = len(dataset["channel_names"])
    return read_architecture(configuration, inputs, outputs, spatial_axes(plans))


def weights(plans: dict[str, Any], dataset: dict[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """Of the public package's own initialisation."""
    torch.manual_seed(seed)
    network = torch_network(architecture_of(plans, dataset), spatial_axes(plans))
    network.apply(network.initialize)
    return network.state_dict()


def write_results(
    folder: Path,
    plans: dict[str, Any],
    dataset: dict[str, Any],
    folds: Sequence[Any] = (0,),
    *,
    kind: str = "final",
    **changes: Any,
) -> Path:
    """plans.json, dataset.json and a checkpoint per fold; changes are made to checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for seed, fold in enumerate(folds):
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        content = checkpoint(weights(plans, dataset, seed), fold, **changes)
        torch.save(content, folder / f"fold_{fold}" / f"checkpoint_{kind}.pth")
    return folder
