"""The architecture of a MONAI ``SwinUNETR`` as far as its state dict shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsal.errors import InputError
from jaxsal.nets.swin_unetr_config import STAGES
from jaxsal_converters.state_dict import State, norm_name, weight


def infer_arguments(state: State, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """As `MonaiNetwork.infer_arguments` describes it.

    Raises:
        InputError: the entries are those of a transformer alone or of another attention, an entry
            that is needed is missing, or the network is not 3D.
    """
    check_complete(state)
    assumptions: list[str] = []
    arguments = _structure(state)
    if "window_size" not in given:
        arguments["window_size"] = _window(state)
    if "norm_name" not in given:
        arguments["norm_name"] = norm_name(
            state, "encoder1.layer.norm1", assumptions, default_affine=False
        )
    if "normalize" not in given:
        assumptions.append(
            "normalize: true, MONAI's default; the checkpoint does not show it, --config sets it"
        )
    if "downsample" not in given and "img_size" not in given:
        assumptions.append(
            'downsample: "merging" as MONAI 1.5 and newer compute it, which the checkpoint does '
            "not show; for a network trained with MONAI 1.4 or older, whose constructor took "
            'img_size, {"downsample": "merging-1.4"} has to be given with --config, else the '
            "logits are wrong"
        )
    return {**arguments, **given}, assumptions


def check_complete(state: State) -> None:
    """Refuses what is not the whole network, or not a network of window attention.

    Raises:
        InputError: it says what is there instead.
    """
    if not any(key.startswith("swinViT.") for key in state):
        raise InputError(
            "it holds a Swin transformer without the decoder of SwinUNETR, as self-supervised "
            "pretraining saves it; only a whole segmentation network can be converted"
        )
    if not any(key.startswith(("decoder1.", "out.")) for key in state):
        heads = sorted({key.partition(".")[0] for key in state} - {"swinViT"})
        raise InputError(
            "it holds SwinUNETR's transformer without its decoder"
            + (f" but with {', '.join(heads)}" if heads else "")
            + ", as self-supervised pretraining saves it; only a whole segmentation network can be "
            "converted"
        )
    if any("hyena" in key.lower() for key in state):
        raise InputError(
            "it holds a SwinUNETR with Hyena operators (use_hyena), which are not supported, only "
            "window attention is"
        )


def _structure(state: State) -> dict[str, Any]:
    """What the shapes show for certain."""
    embedding = weight(state, "swinViT.patch_embed.proj")
    width = embedding.shape[0]
    perceptron = _entry(state, f"{_block(0)}.mlp.linear1.weight")
    return {
        "spatial_dims": 3,
        "in_channels": embedding.shape[1],
        "out_channels": weight(state, "out.conv.conv").shape[0],
        "patch_size": list(embedding.shape[2:]),
        "feature_size": width,
        "depths": [_depth(state, stage) for stage in range(STAGES)],
        "num_heads": [_biases(state, stage).shape[1] for stage in range(STAGES)],
        "mlp_ratio": perceptron.shape[0] / width,
        "qkv_bias": f"{_block(0)}.attn.qkv.bias" in state,
        "patch_norm": "swinViT.patch_embed.norm.weight" in state,
        "use_v2": any(key.startswith("swinViT.layers1c.") for key in state),
    }


def _block(stage: int) -> str:
    return f"swinViT.layers{stage + 1}.0.blocks.0"


def _depth(state: State, stage: int) -> int:
    pattern = re.compile(rf"swinViT\.layers{stage + 1}\.0\.blocks\.(\d+)\.")
    return len({m[1] for key in state if (m := pattern.match(key))})


def _biases(state: State, stage: int) -> np.ndarray:
    """The table of relative position biases, (offsets, heads)."""
    return _entry(state, f"{_block(stage)}.attn.relative_position_bias_table")


def _entry(state: State, key: str) -> np.ndarray:
    if key not in state or state[key].ndim != 2:
        found = f"has the shape {state[key].shape}" if key in state else "is missing"
        raise InputError(f"{key} {found}, and without it the architecture is not known")
    return state[key]


def _window(state: State) -> list[int]:
    """A cube's size, from its number of offsets and, if kept, of positions."""
    offsets = _biases(state, 0).shape[0]
    size = (round(offsets ** (1 / 3)) + 1) // 2
    positions = state.get(f"{_block(0)}.attn.relative_position_index", np.zeros((size**3, 0)))
    if (2 * size - 1) ** 3 != offsets or len(positions) != size**3:
        raise InputError(
            f"its windows are no cubes ({offsets} relative positions): write their size into a "
            'JSON file, such as {"window_size": [7, 7, 5]}, and give that with --config'
        )
    return [size] * 3


def is_rebuilt(key: str) -> bool:
    """Whether an entry is a constant that follows from the window's size."""
    return key.endswith(".relative_position_index")
