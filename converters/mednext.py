"""MONAI's 3D ``MedNeXt``, and MIC-DKFZ's own -> `jaxsal.Model`: its modules and keys, and ours.

========================  ==============================  ==========================
ours                      MONAI's                         MIC-DKFZ's
========================  ==============================  ==========================
stem                      stem                            stem
encoder.i.blocks.j        enc_stages.{i}.{j}              enc_block_{i}.{j}
encoder.i.downsample      down_blocks.{i - 1}             down_{i - 1}
bottleneck.downsample     down_blocks.{levels - 1}        down_{levels - 1}
bottleneck.blocks.j       bottleneck.{j}                  bottleneck.{j}
decoder.i.upsample        up_blocks.{levels - 1 - i}      up_{i}
decoder.i.blocks.j        dec_stages.{levels - 1 - i}.{j} dec_block_{i}.{j}
…depthwise, …norm         ….conv1, ….norm
…expand, …activation      ….conv2, ….act
…response                 ….global_resp_gamma, …_beta      ….grn_gamma, ….grn_beta
…compress, …shortcut      ….conv3, ….res_conv
head                      out_0.conv_out                  out_0.conv_out
========================  ==============================  ==========================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jaxsal.errors import InputError
from jaxsal.nets.mednext_config import MedNeXtConfig
from jaxsal_converters.monai import MonaiNetwork
from jaxsal_converters.rules import Rule, aliases_of, plain_rule, rules_of
from jaxsal_converters.state_dict import State, count_modules, weight

# how every key of a bare network begins, MONAI's and MIC-DKFZ's
KEY_PATTERN = (
    r"(?:(?:stem|bottleneck\.\d+|enc_stages|down_blocks|up_blocks|dec_stages|out_0|out_blocks)\."
    r"|(?:enc_block|dec_block|down|up|out)_\d+\.|dummy_tensor$)"
)

Pair = tuple[str, str]


def renamed(state: State) -> State:
    """MIC-DKFZ's entries by MONAI's keys; MONAI's as they are."""
    levels = len({key.split(".")[0] for key in state if re.match(r"up_\d+\.", key)})
    names = {"enc_block": "enc_stages", "down": "down_blocks"}
    names |= {"up": "up_blocks", "dec_block": "dec_stages"}

    def stage(match: re.Match[str]) -> str:
        kind, level = match[1], int(match[2])
        from_below = kind in ("up", "dec_block")
        return f"{names[kind]}.{levels - 1 - level if from_below else level}."

    def name(key: str) -> str:
        key = re.sub(r"^(enc_block|dec_block|down|up)_(\d+)\.", stage, key)
        return re.sub(r"\.grn_(gamma|beta)$", r".global_resp_\1", key)

    return {name(key): value for key, value in state.items()}


def infer_arguments(state: State, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """As `MonaiNetwork.infer_arguments` describes it.

    Raises:
        InputError: an entry that is needed is missing, the network is not 3D, its kernels are of
            several sizes, or its norm is MONAI's layer norm.
    """
    arguments = _structure(state)
    assumptions: list[str] = []
    norm = state.get("bottleneck.0.norm.weight")
    if norm is not None and norm.ndim > 1:
        raise InputError(
            f"its layer norm is over a grid of {' × '.join(map(str, norm.shape[1:]))} voxels, "
            "which no image keeps at all levels: MONAI's own network cannot be run"
        )
    if "norm_type" not in given:
        assumptions.append(
            "norm_type: group, MONAI's default; MIC-DKFZ's layer norm looks the same, --config "
            "sets it"
        )
    if "use_residual_connection" not in given and not arguments["use_residual_connection"]:
        assumptions.append(
            "use_residual_connection: false, as no block that changes the size has one; MIC-DKFZ's "
            "do_res without do_res_up_down is not supported"
        )
    return {**arguments, **given}, assumptions


def _structure(state: State) -> dict[str, Any]:
    """What the shapes show for certain."""
    stem = weight(state, "stem")
    levels = count_modules(state, "enc_stages")
    blocks = [f"enc_stages.{i}.0" for i in range(levels)]
    return {
        "spatial_dims": 3,
        "init_filters": stem.shape[0],
        "in_channels": stem.shape[1],
        "out_channels": weight(state, "out_0.conv_out").shape[1],
        "encoder_expansion_ratio": [_ratio(state, block) for block in blocks],
        "decoder_expansion_ratio": [_ratio(state, f"up_blocks.{i}") for i in range(levels)],
        "bottleneck_expansion_ratio": _ratio(state, "bottleneck.0"),
        "down_expansion_ratio": [_ratio(state, f"down_blocks.{i}") for i in range(levels)],
        "kernel_size": _kernel_size(state),
        "use_residual_connection": any(".res_conv." in key for key in state),
        "blocks_down": [count_modules(state, f"enc_stages.{i}") for i in range(levels)],
        "blocks_bottleneck": count_modules(state, "bottleneck"),
        "blocks_up": [count_modules(state, f"dec_stages.{i}") for i in range(levels)],
        "global_resp_norm": any(key.endswith(".global_resp_gamma") for key in state),
    }


def _ratio(state: State, block: str) -> int:
    outputs, inputs = weight(state, f"{block}.conv2").shape[:2]
    return outputs // inputs


def _kernel_size(state: State) -> int:
    sizes = {v.shape[2:] for k, v in state.items() if re.search(r"\.conv1\.weight$", k)}
    if len(sizes) != 1 or len(set(min(sizes))) != 1:
        shown = ", ".join(str(list(size)) for size in sorted(sizes))
        raise InputError(f"its depthwise kernels must be of one size along all axes; got {shown}")
    return int(min(sizes)[0])


def parameter_rules(config: MedNeXtConfig) -> dict[str, Rule]:
    """The rule for every parameter of ours, by its name."""
    return rules_of(config, _paths(config), _rule)


def _rule(key: str, shape: tuple[int, ...]) -> Rule:
    if ".global_resp_" in key:  # (1, C, 1, 1, 1) of (1, 1, 1, 1, C)
        return Rule(key, (1, shape[-1], 1, 1, 1), (0, 2, 3, 4, 1))
    return plain_rule(key, shape)


def aliases(config: MedNeXtConfig) -> dict[str, str]:
    """MONAI's path of every module whose output is a layer of ours -> our layer name."""
    return aliases_of(config, _paths(config))


def _paths(config: MedNeXtConfig) -> Iterator[Pair]:
    """(our layer, MONAI's module path) for all modules; a layer can have several paths."""
    yield "stem", "stem"
    levels = [f"encoder.{i}" for i in range(config.levels)]
    for i, level in enumerate([*levels[1:], "bottleneck"]):
        yield from _block(f"{level}.downsample", f"down_blocks.{i}")
    for i, number in enumerate(config.blocks_down):
        yield from _stage(levels[i], f"enc_stages.{i}", number)
    yield from _stage("bottleneck", "bottleneck", config.blocks_bottleneck)
    for k, number in enumerate(config.blocks_up):
        level = f"decoder.{config.levels - 1 - k}"
        yield from _block(f"{level}.upsample", f"up_blocks.{k}")
        yield from _stage(level, f"dec_stages.{k}", number)
    yield "head", "out_0.conv_out"
    yield "head", "out_0"


def _stage(ours: str, theirs: str, number: int) -> Iterator[Pair]:
    for j in range(number):
        yield from _block(f"{ours}.blocks.{j}", f"{theirs}.{j}")
    yield ours, theirs


def _block(ours: str, theirs: str) -> Iterator[Pair]:
    parts = {"depthwise": "conv1", "norm": "norm", "expand": "conv2", "activation": "act"}
    parts |= {"compress": "conv3", "shortcut": "res_conv"}
    for our_part, their_part in parts.items():
        yield f"{ours}.{our_part}", f"{theirs}.{their_part}"
    yield f"{ours}.response", theirs  # holds its parameters
    yield ours, theirs


def _is_idle(key: str) -> bool:
    """Whether an entry does nothing at inference, as heads of deep supervision do."""
    return re.match(r"out_blocks\.|out_[1-9]\d*\.|dummy_tensor$", key) is not None


def restated(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for MONAI's constructor.

    Raises:
        InputError: MONAI has no such network.
    """
    own = dict(arguments)
    if own.pop("down_expansion_ratio") != own["encoder_expansion_ratio"]:
        raise InputError("MONAI cannot build MIC-DKFZ's MedNeXt with these expansion ratios")
    if own["norm_type"] == "layer":
        raise InputError("MONAI cannot build MIC-DKFZ's MedNeXt with layer norm")
    return own


MEDNEXT = MonaiNetwork(
    "mednext",
    "MedNeXt",
    KEY_PATTERN,
    MedNeXtConfig,
    infer_arguments,
    parameter_rules,
    aliases,
    restate=restated,
    renamed=renamed,
    is_idle=_is_idle,
)
convert = MEDNEXT.convert
