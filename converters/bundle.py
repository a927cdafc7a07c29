"""MONAI's bundles: a folder with a state dict, the architecture, and names of channels.

``models/model.pt`` holds the weights; ``configs/inference.json`` (or ``.yaml``) the network, its
windows and how probabilities come of logits; ``configs/metadata.json`` what channels and outputs
are. See MONAI's "bundle specification".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from os.path import lexists  # true of links without content, which are said where they are read
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal.types import Triple
from jaxsal_converters.config_file import NETWORK, network_arguments, read_mapping
from jaxsal_converters.outputs import fit_names

_METADATA = "metadata.json"
_NAMES = ("inference", "evaluate", "train")  # of configurations, the first one that is there
_SUFFIXES = (".json", ".yaml", ".yml")
_LONGEST = 80  # characters of a name
_MOST_VALUES = 10_000  # of a configuration that are looked through


@dataclass(frozen=True)
class Source:
    """A checkpoint, and what is said of its network elsewhere.

    Attributes:
        checkpoint: the file with the weights.
        arguments: of the network's constructor.
        channels: a name per input channel; None if nothing is said, as for the following.
        outputs: a name per output channel.
        probability: how probabilities come of logits.
        roi: window size in voxels.
        overlap: share of a window that the next one covers again.
        blend: how windows are weighted where they overlap, the ``mode`` of MONAI's inferer.
    """

    checkpoint: Path
    arguments: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    probability: str | None = None
    roi: Triple | None = None
    overlap: float | None = None
    blend: str | None = None

    def completed(self, other: Source) -> Source:
        """With all that another one says, which goes before; the arguments of both together."""
        said = {f.name: getattr(other, f.name) for f in fields(other)}
        said |= {"checkpoint": self.checkpoint, "arguments": {**self.arguments, **other.arguments}}
        return replace(self, **{name: value for name, value in said.items() if value is not None})


def read_bundle(folder: Path, class_name: str) -> Source:
    """What a bundle's folder holds.

    Args:
        folder: of the bundle.
        class_name: of the network in ``monai.networks.nets``.

    Raises:
        InputError: it is no bundle, or one of another network, or files in it are damaged.
    """
    if not (folder / "configs").is_dir() or not (folder / "models").is_dir():
        raise InputError(
            f"{folder} is a folder, but no MONAI bundle, which has the folders configs and models: "
            "give the file with the weights"
        )
    path = _configuration(folder)
    return read_configuration(_checkpoint(folder / "models"), path, class_name)


def read_configuration(checkpoint: Path, path: Path, class_name: str) -> Source:
    """What a file that describes a network says: a bundle's configuration, or arguments alone.

    Args:
        checkpoint: the file with the weights.
        path: of the description; of a bundle's, the metadata beside it name the channels.
        class_name: of the network in ``monai.networks.nets``.

    Raises:
        InputError: it describes another network, or a file is missing or damaged.
    """
    config, beside = read_mapping(path), path.with_name(_METADATA)
    arguments = network_arguments(config, path, class_name)
    has_metadata = any(name in config for name in ("_target_", *NETWORK)) and lexists(beside)
    data = read_mapping(beside).get("network_data_format") if has_metadata else None
    channels = _names(data, "inputs")
    return Source(
        checkpoint,
        arguments,
        channels and fit_names(channels),
        _names(data, "outputs"),
        _probability(config),
        *_windows(config),
    )


def _configuration(folder: Path) -> Path:
    files = (folder / "configs" / f"{name}{suffix}" for name in _NAMES for suffix in _SUFFIXES)
    found = next((path for path in files if lexists(path)), None)
    if found is None:
        raise InputError(
            f"{folder / 'configs'} has none of {', '.join(_NAMES)} (.json or .yaml), one of which "
            "describes a bundle's network"
        )
    return found


def _checkpoint(folder: Path) -> Path:
    usual = folder / "model.pt"
    others = sorted({*folder.glob("*.pt"), *folder.glob("*.pth")})
    if lexists(usual) or not others:
        if not lexists(usual):
            raise InputError(
                f"{usual} is missing; weights of a bundle are often not in its repository but "
                "listed in large_files.yml: download them first"
            )
        return usual
    if len(others) > 1:
        raise InputError(
            f"{folder} holds {', '.join(path.name for path in others)} and no model.pt: give the "
            "file itself, and the bundle's configuration with --config"
        )
    return others[0]


def _names(data: Any, side: str) -> tuple[str, ...] | None:
    """Names of the channels, counted from 0, of the one image on this side of the network."""
    images = data.get(side) if isinstance(data, dict) else None
    described = list(images.values()) if isinstance(images, dict) else []
    if len(described) != 1 or not isinstance(described[0], dict):
        return None
    listed = described[0].get("channel_def")
    if not isinstance(listed, dict) or not all(isinstance(n, str) for n in listed.values()):
        return None
    names = [listed.get(str(c)) for c in range(len(listed))]
    known = tuple(n for n in names if n and n.strip() and n.isprintable() and len(n) < _LONGEST)
    return known if len(known) == len(listed) == len(set(known)) else None


def _probability(config: Mapping[str, Any]) -> str | None:
    """What the bundle's post-processing takes of the logits, if it says."""
    activations = [d for d in _described(config) if _class(d) in ("Activations", "Activationsd")]
    kinds = ("sigmoid", "softmax")
    return next((k for k in kinds if any(d.get(k) is True for d in activations)), None)


def _windows(
    config: Mapping[str, Any],
) -> tuple[Triple | None, float | None, str | None]:
    """Size, overlap and blending of the bundle's sliding window, as far as plain values say it."""
    found = (d for d in _described(config) if _class(d).startswith("SlidingWindowInferer"))
    inferer = next(found, None)
    if inferer is None:
        return None, None, None
    blend = str(inferer.get("mode", "constant"))  # MONAI's default, as the following
    roi, overlap = inferer.get("roi_size"), inferer.get("overlap", 0.25)
    sizes = roi if isinstance(roi, list) and len(roi) == 3 else []
    if not sizes or not all(type(n) is int and n > 0 for n in sizes):
        return None, None, blend
    fits = type(overlap) in (int, float) and 0 <= overlap < 1
    return (sizes[0], sizes[1], sizes[2]), float(overlap) if fits else None, blend


def _class(described: Mapping[str, Any]) -> str:
    return str(described.get("_target_")).rpartition(".")[2]


def _described(config: Any) -> Iterator[dict[str, Any]]:
    """Everything in a configuration that stands for an object, wherever it is."""
    waiting = [config]
    for _ in range(_MOST_VALUES):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, dict):
            if "_target_" in value:
                yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
