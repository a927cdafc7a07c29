"""MONAI's 3D ``SwinUNETR``, of any version -> `jaxsal.Model`: its modules and keys, and ours.

========================  ==============================================================
ours                      MONAI's
========================  ==============================================================
embedding.projection      swinViT.patch_embed.proj
stages.i                  swinViT.layers{i + 1}.0
stages.i.stem             swinViT.layers{i + 1}c.0.layer
stages.i.merging          ….downsample, its norm within ours as ….norm
stages.i.blocks.j         ….blocks.{j}
…attention_norm           ….norm1
…attention                ….attn, which works on windows
…perceptron_norm          ….norm2
…perceptron               ….mlp
skips.i                   encoder{i + 1}.layer
bottleneck                encoder10.layer
decoder.i.upsample        decoder{i + 1}.transp_conv
decoder.i.refine          decoder{i + 1}.conv_block
…units.0, …units.1        ….conv1 and ….norm1, ….conv2 and ….norm2
…shortcut                 ….conv3 and ….norm3
head                      out
========================  ==============================================================
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from jaxsal.errors import InputError
from jaxsal.nets.swin_unetr_config import OCTANTS, OLD_MERGING, STAGES, SwinUNETRConfig
from jaxsal_converters.monai import MonaiNetwork
from jaxsal_converters.rules import Rule, aliases_of, plain_rule, rules_of
from jaxsal_converters.swin_unetr_architecture import infer_arguments, is_rebuilt

# How every key of a bare network begins; the last two alternatives are those of a transformer that
# was saved without the rest.
KEY_PATTERN = (
    r"(?:swinViT|encoder(?:1|2|3|4|10)|decoder[1-5]|out)\."
    r"|patch_embed\.proj\.|layers[1-4]\.0\.blocks\."
)

Pair = tuple[str, str]


def parameter_rules(config: SwinUNETRConfig) -> dict[str, Rule]:
    """The rule for every parameter of ours, by its name."""
    return rules_of(config, _owners(config), _rule)


def _rule(key: str, shape: tuple[int, ...]) -> Rule:
    if key.endswith(".relative_position_bias_table"):
        return Rule(key, shape, (0, 1))
    # linear layers: PyTorch's are (outputs, inputs)
    return Rule(key, shape[::-1], (1, 0)) if len(shape) == 2 else plain_rule(key, shape)


def aliases(config: SwinUNETRConfig) -> dict[str, str]:
    """MONAI's path of every module whose output is a layer of ours -> our layer name.

    A module that works on windows has the layer that holds the same values on their grid.
    """
    return aliases_of(config, (*_owners(config), *_containers(config)))


def _owners(config: SwinUNETRConfig) -> Iterator[Pair]:
    """(our module, MONAI's path) for all modules that hold parameters."""
    yield "embedding.projection", "swinViT.patch_embed.proj"
    yield "embedding.norm", "swinViT.patch_embed.norm"
    for i in range(STAGES):
        ours, theirs = f"stages.{i}", f"swinViT.layers{i + 1}"
        yield from _residual(f"{ours}.stem", f"{theirs}c.0.layer")
        for j in range(config.depths[i]):
            yield from _transformer_block(f"{ours}.blocks.{j}", f"{theirs}.0.blocks.{j}")
        yield f"{ours}.merging.norm", f"{theirs}.0.downsample.norm"
        yield f"{ours}.merging.reduction", f"{theirs}.0.downsample.reduction"
    for ours, theirs in _residual_blocks(config):
        yield from _residual(ours, theirs)
    for i in range(STAGES + 1):
        yield f"decoder.{i}.upsample", f"decoder{i + 1}.transp_conv.conv"
    yield "head", "out.conv.conv"


def _transformer_block(ours: str, theirs: str) -> Iterator[Pair]:
    yield f"{ours}.attention_norm", f"{theirs}.norm1"
    yield f"{ours}.attention", f"{theirs}.attn"
    yield f"{ours}.attention.qkv", f"{theirs}.attn.qkv"
    yield f"{ours}.attention.projection", f"{theirs}.attn.proj"
    yield f"{ours}.perceptron_norm", f"{theirs}.norm2"
    yield f"{ours}.perceptron.hidden", f"{theirs}.mlp.linear1"
    yield f"{ours}.perceptron.output", f"{theirs}.mlp.linear2"


def _residual(ours: str, theirs: str) -> Iterator[Pair]:
    for unit, number in (("units.0", 1), ("units.1", 2), ("shortcut", 3)):
        yield f"{ours}.{unit}.conv", f"{theirs}.conv{number}.conv"
        yield f"{ours}.{unit}.norm", f"{theirs}.norm{number}"


def _residual_blocks(config: SwinUNETRConfig) -> Iterator[Pair]:
    """(our block, MONAI's) for all pairs of convolutions outside the transformer."""
    for i in range(STAGES):
        yield f"skips.{i}", f"encoder{i + 1}.layer"
    yield "bottleneck", "encoder10.layer"
    for i in range(STAGES + 1):
        yield f"decoder.{i}.refine", f"decoder{i + 1}.conv_block"


def _containers(config: SwinUNETRConfig) -> Iterator[Pair]:
    """(our layer, MONAI's path) for modules without parameters of their own."""
    yield "embedding", "swinViT.patch_embed"
    if config.patch_norm:
        yield "embedding", "swinViT.patch_embed.norm"
    yield "embedding", "swinViT.pos_drop"
    for i in range(STAGES):
        yield from _stage_containers(config, i)
    for ours, theirs in _residual_blocks(config):
        yield from _residual_containers(ours, theirs)
    for i in range(STAGES):
        yield f"skips.{i}", f"encoder{i + 1}"
    yield "bottleneck", "encoder10"
    for i in range(STAGES + 1):
        yield f"decoder.{i}.upsample", f"decoder{i + 1}.transp_conv"
        yield f"decoder.{i}", f"decoder{i + 1}"
    yield "head", "out.conv"
    yield "head", "out"


def _stage_containers(config: SwinUNETRConfig, stage: int) -> Iterator[Pair]:
    ours, theirs = f"stages.{stage}", f"swinViT.layers{stage + 1}"
    yield f"{ours}.stem", f"{theirs}c.0"
    yield from _residual_containers(f"{ours}.stem", f"{theirs}c.0.layer")
    for j in range(config.depths[stage]):
        block, source = f"{ours}.blocks.{j}", f"{theirs}.0.blocks.{j}"
        yield f"{block}.attention", f"{source}.attn.proj"
        yield f"{block}.attention", f"{source}.attn.proj_drop"
        yield f"{block}.perceptron.activation", f"{source}.mlp.fn"
        for module in (".linear2", ".drop1", ".drop2", ""):
            yield f"{block}.perceptron", f"{source}.mlp{module}"
        yield block, source
    for module in (".reduction", ""):
        yield f"{ours}.merging", f"{theirs}.0.downsample{module}"
    yield ours, f"{theirs}.0"


def _residual_containers(ours: str, theirs: str) -> Iterator[Pair]:
    for unit, number in (("units.0", 1), ("units.1", 2), ("shortcut", 3)):
        yield f"{ours}.{unit}.conv", f"{theirs}.conv{number}"
    yield ours, f"{theirs}.lrelu"  # applied twice; as a layer, it is the block's output
    yield ours, theirs


def restate(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Our constructor arguments -> those with which MONAI 1.5 and newer compute the same.

    Raises:
        InputError: an older MONAI is installed, to which the same arguments mean something else.
    """
    import torch
    from monai.networks.nets.swin_unetr import PatchMergingV2, SwinUNETR

    if "img_size" in inspect.signature(SwinUNETR).parameters:
        raise InputError("comparing with MONAI needs version 1.5 or newer of it")

    class OldMerging(PatchMergingV2):
        """What "merging" was until MONAI 1.4."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            starts = (map(int, octant) for octant in OCTANTS[OLD_MERGING])
            parts = [x[:, i::2, j::2, k::2] for i, j, k in starts]
            return self.reduction(self.norm(torch.cat(parts, -1)))

    is_old = arguments["downsample"] == OLD_MERGING
    return {**arguments, "downsample": OldMerging} if is_old else dict(arguments)


SWIN_UNETR = MonaiNetwork(
    "swin-unetr",
    "SwinUNETR",
    KEY_PATTERN,
    SwinUNETRConfig,
    infer_arguments,
    parameter_rules,
    aliases,
    restate,
    is_idle=is_rebuilt,
)
convert = SWIN_UNETR.convert
