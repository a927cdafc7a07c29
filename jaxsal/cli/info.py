"""``jaxsal info``: what is in a model directory."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "info",
        help="show a model's architecture, channels, threshold, receptive field and layers",
    )
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from jaxsal.checkpoints import load_model
    from jaxsal.nets.registry import layer_shapes

    model = load_model(options.model)
    field = model.receptive_field
    facts = {
        "network": model.config.kind,
        "parameters": f"{model.parameter_count:,}",
        "channels": ", ".join(model.channels),
        "threshold": model.threshold,
        "sizes must be multiples of": " × ".join(map(str, model.divisor)),
        "receptive field": "unlimited"
        if field is None
        else f"{' × '.join(map(str, field))} voxels",
        "architecture": json.dumps(model.config.to_arguments()),
        "source": json.dumps(dict(model.source)),
    }
    for name, value in facts.items():
        print(f"{name}: {value}")
    print(f"layers, with their shapes for an input of {' × '.join(map(str, model.divisor))}:")
    shapes = layer_shapes(model.config)
    width = max(map(len, shapes))
    for layer, shape in shapes.items():
        size = " × ".join(map(str, shape))
        others = [source for source, ours in model.aliases.items() if ours == layer]
        print(f"  {layer:{width}}  {size:20}  {', '.join(others)}".rstrip())
