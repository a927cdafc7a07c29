"""What the converters of MONAI's networks share: from a checkpoint to a model, and comparing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.errors import InputError
from jaxsal.files import file_checksum
from jaxsal.model import Model
from jaxsal.nets.registry import NetworkConfig
from jaxsal_converters.config_file import read_config_file
from jaxsal_converters.outputs import name_outputs
from jaxsal_converters.state_dict import State, read_state_dict, select_network

_LEAST_SIZE = 16  # voxels per axis of the random input that networks are compared on

Converted = tuple[NetworkConfig, dict[str, jax.Array], list[str]]


@dataclass(frozen=True)
class MonaiNetwork:
    """A network of MONAI's that can be converted.

    Attributes:
        name: of the command line.
        class_name: in ``monai.networks.nets``.
        key_pattern: regular expression for the beginning of every key of the bare network.
        convert: a state dict and given constructor arguments -> architecture, parameters, and a
            sentence for all that was assumed.
        aliases: MONAI's module paths -> our layers.
        restate: our constructor arguments -> those with which the installed MONAI computes the
            same.
    """

    name: str
    class_name: str
    key_pattern: str
    convert: Callable[[State, Mapping[str, Any]], Converted]
    aliases: Callable[[Any], dict[str, str]]
    restate: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict


def convert_checkpoint(
    network: MonaiNetwork,
    source: str | Path,
    config_file: str | Path | None = None,
    *,
    threshold: float | None = None,
    channels: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    target: int | str | None = None,
) -> tuple[Model, list[str]]:
    """Converts a checkpoint.

    Args:
        network: what it holds.
        source: the file that ``torch.save`` wrote.
        config_file: JSON of MONAI's constructor arguments, those that the checkpoint does not
            show or all of them.
        threshold: lesion probability at and above which a voxel is lesion.
        channels: a name per input channel.
        outputs: a name per output channel.
        target: number or name of the lesion's output channel.

    Returns:
        The model, and a sentence for everything that was assumed.

    Raises:
        InputError: the files or arguments do not make a network.
    """
    given = read_config_file(config_file) if config_file is not None else {}
    state = read_state_dict(source)
    try:
        entries, _, outside = select_network(state, network.key_pattern)
        config, parameters, assumptions = network.convert(entries, given)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    if outside:
        assumptions.append(f"left out, not of the network: {', '.join(outside)}")
    if threshold is None:
        threshold = 0.5
        assumptions.append("threshold: 0.5; set it with --threshold")
    if channels is None:
        channels = [f"channel{c}" for c in range(config.in_channels)]
        assumptions.append(f"channel names: {' '.join(channels)}; name them with --channels")
    named = name_outputs(config.out_channels, outputs, target, assumptions)
    provenance = {
        "file": Path(source).name,
        "sha256": file_checksum(source),
        "converter": network.name,
        "assumptions": assumptions,
    }
    model = Model(
        config=config,
        parameters=parameters,
        channels=tuple(channels),
        threshold=threshold,
        aliases=network.aliases(config),
        source=provenance,
        outputs=named,
    )
    return model, assumptions


def verify_checkpoint(network: MonaiNetwork, model: Model, source: str | Path) -> float:
    """As `verify`, reading the checkpoint that the model was converted from.

    Raises:
        InputError: as `verify`, or the checkpoint cannot be read.
    """
    state, _, _ = select_network(read_state_dict(source), network.key_pattern)
    return verify(network, model, model.config.to_arguments(), state)


def verify(
    network: MonaiNetwork, model: Model, arguments: Mapping[str, Any], state: State, seed: int = 0
) -> float:
    """The largest difference of logits between MONAI's network and ours on random input.

    Args:
        network: which one it is.
        model: the converted network.
        arguments: constructor arguments for MONAI's.
        state: the bare network's entries.
        seed: of the input, standard normal numbers.

    Returns:
        The difference as a fraction of the largest magnitude of MONAI's logits.

    Raises:
        InputError: MONAI is not installed or cannot build this network.
    """
    batch = random_batch(model, seed)
    expected = _monai_logits(network, arguments, state, batch)
    difference = np.abs(np.asarray(model(jnp.asarray(batch))) - expected).max()
    return float(difference / np.abs(expected).max())


def random_batch(model: Model, seed: int = 0) -> np.ndarray:
    """Standard normal numbers (1, X, Y, Z, C) of a small size that the network takes."""
    size = [
        fixed or divisor * max(2, -(-_LEAST_SIZE // divisor))
        for fixed, divisor in zip(model.config.fixed_size, model.divisor, strict=True)
    ]
    return np.random.default_rng(seed).standard_normal((1, *size, len(model.channels)), "f4")


def _monai_logits(
    kind: MonaiNetwork, arguments: Mapping[str, Any], state: State, batch: np.ndarray
) -> np.ndarray:
    """MONAI's logits (B, X, Y, Z, K) of a batch (B, X, Y, Z, C)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch

            nets = import_module("monai.networks.nets")
    except ImportError as error:
        raise InputError(
            "comparing with MONAI needs it installed: pip install monai, or leave --verify out"
        ) from error
    try:
        network = getattr(nets, kind.class_name)(**kind.restate(arguments))
        tensors = {key: torch.from_numpy(value.copy()) for key, value in state.items()}
        missing = network.load_state_dict(tensors, strict=False).missing_keys
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"MONAI cannot build this network: {error}") from error
    absent = [key for key in missing if not key.endswith("num_batches_tracked")]
    if absent:
        raise InputError(f"MONAI's network has entries that the checkpoint lacks: {absent[:3]}")
    try:
        with torch.no_grad():
            logits = network.eval()(torch.from_numpy(np.moveaxis(batch, -1, 1).copy()))
    except ImportError as error:  # what MONAI needs for some networks only
        reason = str(error).splitlines()[0]
        raise InputError(f"comparing with MONAI needs more than MONAI: {reason}") from error
    return np.moveaxis(logits.numpy(), 1, -1)
