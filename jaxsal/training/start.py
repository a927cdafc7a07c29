"""The model that a training begins from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from jaxsal.checkpoints import load_model
from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.nets.registry import require_rematerialising
from jaxsal.toml import placed
from jaxsal.training.config import TrainingConfig, check_size


def starting_model(config: TrainingConfig) -> Model:
    """The model that training begins from: with fresh weights, or read from its directory.

    Raises:
        InputError: it cannot be read, or does not fit the configuration.
    """
    run = config.run
    if config.start is None:
        assert config.network is not None  # or there would be a start
        model = Model.initialise(config.network, config.data.channels, seed=run.seed)
    else:
        model = _loaded(config.start, config)
    if run.rematerialise:
        require_rematerialising(model.config.kind, "[run] rematerialise")
    return replace(model, rematerialise=run.rematerialise)


def _loaded(folder: Path, config: TrainingConfig) -> Model:
    model = load_model(folder)
    if model.members > 1:
        raise InputError(
            f"{folder} is an ensemble of {model.members} networks, and training is of one: convert "
            "one fold of it"
        )
    if config.data.channels and config.data.channels != model.channels:
        raise InputError(
            f"[data] channels must be those of {folder}, {', '.join(model.channels)}, or left out; "
            f"got {', '.join(config.data.channels)}"
        )
    with placed("[patches]"):
        check_size(model.config, config.patches.size)
    return model
