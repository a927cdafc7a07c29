"""MONAI's 3D ``UNet`` -> `jaxsal.Model`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.errors import InputError
from jaxsal.files import file_checksum
from jaxsal.model import Model, describe_mismatch
from jaxsal.nets.unet_config import UNetConfig
from jaxsal_converters.config_file import read_config_file
from jaxsal_converters.state_dict import State, read_state_dict, select_network
from jaxsal_converters.unet_architecture import infer_arguments
from jaxsal_converters.unet_keys import KEY_PATTERN, aliases, parameter_rules

_LEAST_SIZE = 16  # voxels per axis of the random input that networks are compared on


def convert_unet(
    source: str | Path,
    config_file: str | Path | None = None,
    *,
    threshold: float | None = None,
    channels: Sequence[str] | None = None,
) -> tuple[Model, list[str]]:
    """Converts a checkpoint of MONAI's ``UNet``.

    Args:
        source: the file that ``torch.save`` wrote.
        config_file: JSON of MONAI's constructor arguments, those that the checkpoint does not
            show or all of them.
        threshold: lesion probability at and above which a voxel is lesion.
        channels: a name per input channel.

    Returns:
        The model, and a sentence for everything that was assumed.

    Raises:
        InputError: the files or arguments do not make a network.
    """
    given = read_config_file(config_file) if config_file is not None else {}
    state = read_state_dict(source)
    try:
        network, _, outside = select_network(state, KEY_PATTERN)
        config, parameters, assumptions = convert(network, given)
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
    provenance = {
        "file": Path(source).name,
        "sha256": file_checksum(source),
        "converter": "unet",
        "assumptions": assumptions,
    }
    model = Model(
        config=config,
        parameters=parameters,
        channels=tuple(channels),
        threshold=threshold,
        aliases=aliases(config),
        source=provenance,
    )
    return model, assumptions


def convert(
    state: State, given: Mapping[str, Any] | None = None
) -> tuple[UNetConfig, dict[str, jax.Array], list[str]]:
    """Architecture and parameters from the state dict of a bare MONAI ``UNet``.

    Args:
        state: arrays by MONAI's keys.
        given: constructor arguments that take precedence over what the shapes show.

    Returns:
        The architecture, the parameters by our names, and a sentence for all that was assumed.

    Raises:
        InputError: entries are missing, extra or misshapen, or the architecture is unclear.
    """
    arguments, assumptions = infer_arguments(state, given or {})
    config = UNetConfig.from_arguments(arguments)
    rules = parameter_rules(config)
    expected = dict(sorted((rule.key, rule.shape) for rule in rules.values()))
    mismatch = describe_mismatch(expected, {key: value.shape for key, value in state.items()})
    if mismatch:
        raise InputError(f"its entries are not those of the network: {mismatch}")
    parameters = {name: jnp.asarray(rule.apply(state[rule.key])) for name, rule in rules.items()}
    return config, parameters, assumptions


def verify(model: Model, arguments: Mapping[str, Any], state: State, seed: int = 0) -> float:
    """The largest difference of logits between MONAI's network and ours on random input.

    Args:
        model: the converted network.
        arguments: constructor arguments for MONAI's.
        state: the bare network's entries.
        seed: of the input, standard normal numbers.

    Returns:
        The difference as a fraction of the largest magnitude of MONAI's logits.

    Raises:
        InputError: MONAI is not installed or cannot build this network.
    """
    size = [
        fixed or divisor * max(2, -(-_LEAST_SIZE // divisor))
        for fixed, divisor in zip(model.config.fixed_size, model.divisor, strict=True)
    ]
    batch = np.random.default_rng(seed).standard_normal((1, *size, len(model.channels)), "f4")
    expected = _monai_logits(arguments, state, batch)
    difference = np.abs(np.asarray(model(jnp.asarray(batch))) - expected).max()
    return float(difference / np.abs(expected).max())


def verify_unet(model: Model, source: str | Path) -> float:
    """As `verify`, reading the checkpoint that the model was converted from.

    Raises:
        InputError: as `verify`, or the checkpoint cannot be read.
    """
    state, _, _ = select_network(read_state_dict(source), KEY_PATTERN)
    return verify(model, model.config.to_arguments(), state)


def _monai_logits(arguments: Mapping[str, Any], state: State, batch: np.ndarray) -> np.ndarray:
    """MONAI's logits (B, X, Y, Z, K) of a batch (B, X, Y, Z, C)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
            from monai.networks.nets import UNet
    except ImportError as error:
        raise InputError(
            "comparing with MONAI needs it installed: pip install monai, or leave --verify out"
        ) from error
    try:
        network = UNet(**arguments)
        tensors = {key: torch.from_numpy(value.copy()) for key, value in state.items()}
        missing = network.load_state_dict(tensors, strict=False).missing_keys
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"MONAI cannot build this network: {error}") from error
    absent = [key for key in missing if not key.endswith("num_batches_tracked")]
    if absent:
        raise InputError(f"MONAI's network has entries that the checkpoint lacks: {absent[:3]}")
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(np.moveaxis(batch, -1, 1).copy()))
    return np.moveaxis(logits.numpy(), 1, -1)
