"""What the converters of MONAI's networks share: from a checkpoint to a model, and comparing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.nets.registry import NetworkConfig
from jaxsal.registry import Registry
from jaxsal.store.files import file_checksum
from jaxsal_converters.bundle import Source, read_bundle, read_configuration
from jaxsal_converters.checkpoint_file import shown, some_of
from jaxsal_converters.comparison import library, random_batch, relative_difference
from jaxsal_converters.outputs import name_outputs
from jaxsal_converters.rules import Rule, apply_rules
from jaxsal_converters.saved_weights import Weights
from jaxsal_converters.state_dict import State
from jaxsal_converters.weights import read_network

Converted = tuple[NetworkConfig, dict[str, jax.Array], list[str]]


def _none(key: str) -> bool:
    return False


@dataclass(frozen=True)
class MonaiNetwork:
    """A network of MONAI's that can be converted.

    Attributes:
        name: of the command line.
        class_name: in ``monai.networks.nets``.
        key_pattern: regular expression for the beginning of every key of the bare network.
        config: class of the architecture.
        infer_arguments: the bare network's entries by MONAI's keys, each once, and constructor
            arguments that the user states, which take precedence -> all arguments, and a sentence
            for each that was assumed rather than read or given.
        rules: of an architecture's parameters, by our names.
        aliases: MONAI's module paths -> our layers.
        restate: our constructor arguments -> those with which the installed MONAI computes the
            same.
        renamed: the entries of older versions of MONAI by the newer ones' keys.
        own: the entries without those that are there twice.
        is_idle: whether an entry that is not used may be left out, by its key.
    """

    name: str
    class_name: str
    key_pattern: str
    config: type[NetworkConfig]
    infer_arguments: Callable[[State, Mapping[str, Any]], tuple[dict[str, Any], list[str]]]
    rules: Callable[[Any], Mapping[str, Rule]]
    aliases: Callable[[Any], dict[str, str]]
    restate: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    renamed: Callable[[State], State] = dict
    own: Callable[[State], State] = dict
    is_idle: Callable[[str], bool] = _none

    def convert(self, state: State, given: Mapping[str, Any] | None = None) -> Converted:
        """Architecture and parameters from the state dict of the bare network.

        Args:
            state: arrays by MONAI's keys.
            given: constructor arguments that take precedence over what the shapes show.

        Returns:
            The architecture, the parameters by our names, and a sentence for all that was assumed.

        Raises:
            InputError: entries are missing, extra, misshapen or contradictory, or the architecture
                is unclear.
        """
        entries = self.own(state)
        arguments, assumptions = self.infer_arguments(entries, given or {})
        config = self.config.from_arguments(arguments)
        rules = self.rules(config)
        used = {rule.key for rule in rules.values()}
        needed = {k: v for k, v in entries.items() if k in used or not self.is_idle(k)}
        return config, apply_rules(rules, needed), assumptions


def convert_checkpoint(
    network: MonaiNetwork,
    source: str | Path,
    config_file: str | Path | None = None,
    *,
    threshold: float | None = None,
    channels: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    target: int | str | None = None,
    weights: Weights | None = None,
) -> tuple[Model, list[str]]:
    """Converts a checkpoint, or a bundle of MONAI's.

    Args:
        network: what it holds.
        source: the file that ``torch.save`` wrote, or a bundle's folder.
        config_file: MONAI's constructor arguments in JSON or YAML, those that nothing else shows
            or all of them; or a configuration of a bundle, which also says window, probability
            and, by the metadata beside it, names. It goes before what a bundle's folder says.
        threshold: lesion probability at and above which a voxel is lesion.
        channels: a name per input channel.
        outputs: a name per output channel.
        target: number or name of the lesion's output channel.
        weights: which ones, where a file holds raw and averaged ones; None: the usual ones.

    Returns:
        The model, and a sentence for everything that was assumed or one has to know.

    Raises:
        InputError: the files or arguments do not make a network.
    """
    described = _described(network, source)
    if config_file is not None:
        said = read_configuration(described.checkpoint, Path(config_file), network.class_name)
        described = described.completed(said)
    notes: list[str] = []
    entries, outside = read_network(described.checkpoint, network.key_pattern, weights, notes)
    try:
        config, parameters, assumptions = network.convert(
            network.renamed(entries), described.arguments
        )
    except InputError as error:
        raise InputError(f"{described.checkpoint}: {error}") from error
    assumptions = [*notes, *assumptions]
    if outside:
        assumptions.append(f"left out, not of the network: {some_of(outside)}")
    _note_blending(described, assumptions)
    if threshold is None:
        threshold = 0.5
        assumptions.append("threshold: 0.5; set it with --threshold")
    if channels is None:
        channels = _channel_names(described, config.in_channels, assumptions)
    if outputs is None:
        outputs = _fitting("outputs", described.outputs, config.out_channels, assumptions)
    model = Model(
        config=config,
        parameters=parameters,
        channels=tuple(channels),
        threshold=threshold,
        aliases=network.aliases(config),
        source={
            "file": described.checkpoint.name,
            "sha256": file_checksum(described.checkpoint),
            "converter": network.name,
            "assumptions": assumptions,
        },
        outputs=name_outputs(
            config.out_channels, outputs, target, assumptions, described.probability or "softmax"
        ),
        roi=described.roi,
        overlap=described.overlap,
    )
    return model, assumptions


def _channel_names(described: Source, count: int, assumptions: list[str]) -> Sequence[str]:
    """The bundle's, or channel0, channel1, …."""
    names = _fitting("channels", described.channels, count, assumptions)
    if names is None:
        names = [f"channel{c}" for c in range(count)]
        assumptions.append(f"channel names: {' '.join(names)}; name them with --channels")
    return names


def _note_blending(described: Source, assumptions: list[str]) -> None:
    if described.blend in (None, "gaussian"):
        return
    assumptions.append(
        f"windows: the bundle's inferer has the mode {shown(described.blend)!r}, and all commands "
        "weight the voxels of a window by a Gaussian, as the mode 'gaussian' does: logits differ "
        "where windows overlap; in Python, jaxsal.sliding_window takes blend='constant'"
    )


def _described(network: MonaiNetwork, source: str | Path) -> Source:
    """The checkpoint with what a bundle around it says."""
    path = Path(source)
    return read_bundle(path, network.class_name) if path.is_dir() else Source(path)


def _fitting(
    what: str, names: Sequence[str] | None, count: int, notes: list[str]
) -> Sequence[str] | None:
    """A bundle's names, unless the network has another number of channels."""
    if names is None or len(names) == count:
        return names
    notes.append(
        f"{what}: the bundle names {len(names)}, {' '.join(names)}, and the network has {count}; "
        f"its names are left out, --{what} gives others"
    )
    return None


def verify_checkpoint(
    network: MonaiNetwork, model: Model, source: str | Path, weights: Weights | None = None
) -> float:
    """As `verify`, reading the checkpoint that the model was converted from.

    Raises:
        InputError: as `verify`, or the checkpoint cannot be read.
    """
    state, _ = read_network(_described(network, source).checkpoint, network.key_pattern, weights)
    return verify(network, model, model.config.to_arguments(), network.renamed(state))


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
    used = {rule.key for rule in network.rules(model.config).values()}
    entries = {k: v for k, v in state.items() if k in used or not network.is_idle(k)}
    expected = _monai_logits(network, arguments, entries, batch, used)
    return relative_difference(model, batch, expected)


def require_monai() -> Any:
    """The module of MONAI's networks.

    Raises:
        InputError: MONAI is not installed.
    """
    return library("monai.networks.nets", "monai")


def _without_shared(missing: Sequence[str], network: Any, loaded: Mapping[str, Any]) -> list[str]:
    """Missing entries, but for counters, and for those that are another name of a loaded one."""
    places = {key: tensor.data_ptr() for key, tensor in network.state_dict().items()}
    filled = {places[key] for key in loaded if key in places}
    counted = (key for key in missing if not key.endswith("num_batches_tracked"))
    return [key for key in counted if places[key] not in filled]


def _monai_logits(
    kind: MonaiNetwork,
    arguments: Mapping[str, Any],
    state: State,
    batch: np.ndarray,
    used: Set[str],
) -> np.ndarray:
    """MONAI's logits (B, X, Y, Z, K) of a batch (B, X, Y, Z, C); idle entries may be missing."""
    nets = require_monai()
    import torch

    try:
        network = getattr(nets, kind.class_name)(**kind.restate(arguments))
        tensors = {key: torch.from_numpy(value.copy()) for key, value in state.items()}
        missing = network.load_state_dict(tensors, strict=False).missing_keys
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"MONAI cannot build this network: {error}") from error
    needed = [key for key in missing if key in used or not kind.is_idle(key)]
    absent = _without_shared(needed, network, tensors)
    if absent:
        raise InputError(f"MONAI's network has entries that the checkpoint lacks: {absent[:3]}")
    try:
        with torch.no_grad():
            logits = network.eval()(torch.from_numpy(np.moveaxis(batch, -1, 1).copy()))
    except ImportError as error:  # what MONAI needs for some networks only
        reason = str(error).splitlines()[0]
        raise InputError(f"comparing with MONAI needs more than MONAI: {reason}") from error
    return np.moveaxis(logits.numpy(), 1, -1)


MONAI_NETWORKS: Registry[MonaiNetwork] = Registry(
    "network of MONAI's",
    "jaxsal.monai_networks",
    {
        "unet": "jaxsal_converters.unet:UNET",
        "dynunet": "jaxsal_converters.dynunet:DYNUNET",
        "swin-unetr": "jaxsal_converters.swin_unetr:SWIN_UNETR",
        "segresnet": "jaxsal_converters.segresnet:SEGRESNET",
        "segresnet-ds": "jaxsal_converters.segresnet_ds:SEGRESNET_DS",
        "mednext": "jaxsal_converters.mednext:MEDNEXT",
    },
)
