"""``jaxsal info``: what is in a model directory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared
from jaxsal.cli.command import Command, Given

if TYPE_CHECKING:
    from jaxsal.model import Model


def run(given: Given) -> None:
    """Runs the command."""
    from jaxsal.checkpoints import load_model

    model = load_model(given["model"])
    field = model.receptive_field
    facts = {
        "network": model.config.kind,
        **_of_the_source(model),
        "parameters": f"{model.parameter_count:,}",
        "channels": ", ".join(model.channels),
        "threshold": model.threshold,
        **_sizes(model),
        "receptive field": "unlimited"
        if field is None
        else f"{' × '.join(map(str, field))} voxels",
        "architecture": _architecture(model),
        "source": json.dumps(dict(model.source)),
    }
    for name, value in facts.items():
        print(f"{name}: {value}")
    _print_layers(model)


def _sizes(model: Model) -> dict[str, str]:
    """Which sizes of images the network takes."""
    fixed, facts = model.config.fixed_size, {}
    if any(fixed):
        facts["size must be"] = " × ".join(str(size or "any") for size in fixed)
    if None in fixed:
        facts["sizes must be multiples of"] = " × ".join(map(str, model.divisor))
    return facts


def _architecture(model: Model) -> str:
    """The source's arguments; of a graph of operations, which would fill pages, a summary."""
    summary = getattr(model.config, "summary", None)
    return json.dumps(model.config.to_arguments()) if summary is None else str(summary)


def _of_the_source(model: Model) -> dict[str, Any]:
    """What not every model states."""
    from jaxsal.preprocessing import Preprocessing

    facts: dict[str, Any] = {}
    if model.members > 1:
        facts["members"] = f"{model.members}, whose logits are averaged"
    if model.outputs is not None:
        facts["outputs"] = f"{', '.join(model.outputs.names)} ({model.outputs.probability})"
        lesion = model.outputs.lesion
        facts["target"] = (
            "not known; commands need --target"
            if lesion is None
            else f"{model.outputs.names[lesion]} (output {lesion})"
        )
    known = model.preprocessing or Preprocessing()
    facts["axes"] = known.orientation or "as they are"
    size = known.spacing and f"{' × '.join(f'{s:g}' for s in known.spacing)} mm"
    facts["voxel size"] = size or "any"
    own = [n.scheme for n in known.normalisation or ()]
    facts["normalisation"] = ", ".join(own) or "z-score over what is no background"
    if known.spacing is not None:
        facts["other voxels"] = f"resampled by splines of order {known.rules.images.order}"
    if roi := model.roi or known.roi:
        facts["window"] = " × ".join(map(str, roi))
    return facts


def _print_layers(model: Model) -> None:
    from jaxsal.nets.registry import layer_shapes

    each = "each member's layers" if model.members > 1 else "layers"
    smallest = model.function.smallest_size
    print(f"{each}, with their shapes for an input of {' × '.join(map(str, smallest))}:")
    shapes = layer_shapes(model.config)
    width = max(map(len, shapes))
    for layer, shape in shapes.items():
        size = " × ".join(map(str, shape))
        others = [source for source, ours in model.aliases.items() if ours == layer]
        print(f"  {layer:{width}}  {size:20}  {', '.join(others)}".rstrip())


COMMAND = Command(
    "Shows a model's architecture, channels, threshold, receptive field and layers.",
    (shared.MODEL,),
    run,
    configurable=False,
)
