"""The rule table of nnU-Net v2's networks: module paths and state-dict keys, and ours.

======================  ==============================================================
ours                    nnU-Net's
======================  ==============================================================
stem                    encoder.stem.convs.0
encoder.i.units.j       encoder.stages.i.0.convs.j
encoder.i.blocks.b      encoder.stages.i.blocks.b
…units.j of a block     ….conv{j + 1}
…pooled, …shortcut      ….skip.0, the last of ….skip
decoder.i.upsample      decoder.transpconvs.{stages - 2 - i}
decoder.i.refine        decoder.stages.{stages - 2 - i}
head                    decoder.seg_layers.{stages - 2}
…conv, …norm            ….conv, ….norm
…activation             ….nonlin; a block's last: ….nonlin2, with bottleneck ….nonlin3
======================  ==============================================================

nnU-Net lists the encoder a second time under ``decoder.encoder``, and the layers of a convolution
a second time under ``all_modules``. The other ``seg_layers`` are those of deep supervision.

Its arrays are (Z, Y, X), moreover transposed as the plans say: ``axes[d]`` is the axis of its
kernels that lies along our axis d.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from jaxsal.nets.nnunet_config import NNUNetConfig
from jaxsal.types import Triple
from jaxsal_converters.rules import Rule, aliases_of, rules_of
from jaxsal_converters.state_dict import State, each_once

KEY_PATTERN = r"(?:encoder|decoder)\."  # how every key of a bare network begins
REVERSED: Triple = (2, 1, 0)  # (Z, Y, X)


def own_entries(state: State, stages: int) -> State:
    """The entries that matter at inference, each once.

    Args:
        state: the bare network's entries.
        stages: of the encoder.

    Raises:
        InputError: an entry and its duplicate differ.
    """
    idle = re.compile(rf"\.all_modules\.|^decoder\.seg_layers\.(?!{stages - 2}\.)")
    used = {key: value for key, value in state.items() if not idle.search(key)}
    return each_once(used, lambda key: re.sub(r"^decoder\.(?=encoder\.)", "", key))


def parameter_rules(config: NNUNetConfig, axes: Triple = REVERSED) -> dict[str, Rule]:
    """The rule for every parameter of ours, by its name."""
    return rules_of(config, (*_paths(config), *_block_activations(config)), partial(_rule, axes))


def aliases(config: NNUNetConfig) -> dict[str, str]:
    """nnU-Net's path of every module whose output is a layer of ours -> our layer name."""
    return aliases_of(config, _paths(config))


def _rule(axes: Triple, key: str, shape: tuple[int, ...]) -> Rule:
    if len(shape) != 5:
        return Rule(key, shape, (0,))
    theirs = tuple(shape[axes.index(a)] for a in range(3))
    return Rule(key, (*shape[:2:-1], *theirs), (*(2 + a for a in axes), 1, 0))


def _paths(config: NNUNetConfig) -> Iterator[tuple[str, str]]:
    """(our layer, nnU-Net's module path) for all modules; a layer can have several paths."""
    if config.is_residual:
        yield from _row(config, "stem", "encoder.stem", 1)
    for i, count in enumerate(config.encoder_units):
        theirs = f"encoder.stages.{i}"
        if config.is_residual:
            for b in range(count):
                yield from _block(config, i, b)
            yield f"encoder.{i}", f"{theirs}.blocks"
        else:
            yield from _row(config, f"encoder.{i}", f"{theirs}.0", count)
        yield f"encoder.{i}", theirs
    last = config.stages - 2
    for i in range(config.stages - 1):
        yield f"decoder.{i}.upsample", f"decoder.transpconvs.{last - i}"
        count = config.decoder_units[last - i]
        yield from _row(config, f"decoder.{i}.refine", f"decoder.stages.{last - i}", count)
        yield f"decoder.{i}", f"decoder.stages.{last - i}"
    yield "head", f"decoder.seg_layers.{last}"
    yield "head", "decoder"


def _row(config: NNUNetConfig, ours: str, theirs: str, count: int) -> Iterator[tuple[str, str]]:
    for j in range(count):
        unit = ours if ours == "stem" else f"{ours}.units.{j}"
        yield from _unit(config, unit, f"{theirs}.convs.{j}")
    yield ours, f"{theirs}.convs"
    yield ours, theirs


def _unit(
    config: NNUNetConfig, ours: str, theirs: str, *, activated: bool = True
) -> Iterator[tuple[str, str]]:
    yield f"{ours}.conv", f"{theirs}.conv"
    if config.norm:
        yield f"{ours}.norm", f"{theirs}.norm"
    if config.act and activated:
        yield f"{ours}.activation", f"{theirs}.nonlin"
    yield ours, f"{theirs}.all_modules"
    yield ours, theirs


def _block(config: NNUNetConfig, stage: int, block: int) -> Iterator[tuple[str, str]]:
    ours, theirs = f"encoder.{stage}.blocks.{block}", f"encoder.stages.{stage}.blocks.{block}"
    units = 3 if config.bottleneck_channels else 2
    for j in range(units):
        path = f"{theirs}.conv{j + 1}"
        yield from _unit(config, f"{ours}.units.{j}", path, activated=j < units - 1)
    strided = block == 0 and config.strides[stage] != (1, 1, 1)
    if strided:
        yield f"{ours}.pooled", f"{theirs}.skip.0"
    if _projects(config, stage, block):
        position = int(strided)
        yield from _unit(config, f"{ours}.shortcut", f"{theirs}.skip.{position}", activated=False)
        yield f"{ours}.shortcut", f"{theirs}.skip"
    elif strided:
        yield f"{ours}.pooled", f"{theirs}.skip"
    if config.act:
        yield ours, f"{theirs}.nonlin{units}"
    yield ours, theirs


def _projects(config: NNUNetConfig, stage: int, block: int) -> bool:
    """Whether the block changes the number of channels, so that its shortcut must."""
    widths = (config.stem_channels, *config.features_per_stage)
    return block == 0 and widths[stage] != widths[stage + 1]


def _block_activations(config: NNUNetConfig) -> Iterator[tuple[str, str]]:
    """(our activation function of a block, nnU-Net's): it may have learnt slopes."""
    number = 3 if config.bottleneck_channels else 2
    for i, count in enumerate(config.encoder_units):
        for b in range(count):
            ours, theirs = f"encoder.{i}.blocks.{b}", f"encoder.stages.{i}.blocks.{b}"
            yield f"{ours}.activation", f"{theirs}.nonlin{number}"
