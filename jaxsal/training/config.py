"""The configuration of a training: read from a TOML file and checked before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal.losses import DICE_AND_BLOB, DICE_AND_FOCAL, WeightedLoss
from jaxsal.nets.registry import NetworkConfig, config_from_arguments
from jaxsal.registry import NETWORKS
from jaxsal.store.schema import as_type, check_known, placed, settings_from
from jaxsal.toml import read_tables
from jaxsal.training.augmentation import AugmentationSettings
from jaxsal.training.patches import PatchSettings
from jaxsal.training.settings import DataSettings, OptimiserSettings, RunSettings
from jaxsal.types import Triple
from jaxsal.wording import counted

PRESETS = {"dice-and-blob": DICE_AND_BLOB, "dice-and-focal": DICE_AND_FOCAL}
# Published is 0, with which nothing is learnt from patches without lesions; see `losses`.
SMOOTH = 1.0

_SECTIONS = ("data", "network", "patches", "augmentation", "loss", "optimiser", "run")
# Arguments of the sources' constructors that matter in training alone, and are not built here.
_NOT_TRAINED = ("drop_rate", "attn_drop_rate", "dropout_path_rate", "deep_supervision")
# What no number depends on, so that a run may be resumed with another value.
_FREE = {
    "data": ("cohort", "cache"),  # the scans themselves are compared
    "patches": ("workers",),
    "run": ("keep", "save_every", "tensorboard"),
    "loss": ("maximum_instances",),  # as many as the scans have
}
# Of the losses' options those that are not chosen: the rest of the program must do the same.
_NOT_CHOSEN = {
    "probability": "follows from the network: softmax of two or more outputs, sigmoid of one, "
    "or as the model of [network] from has it",
    "target": "is the network's output 1, or its only one, or as the model of [network] from has "
    "it",
    "maximum_instances": "is the largest number of lesions in a scan",
}


@dataclass(frozen=True)
class TrainingConfig:
    """A training.

    Attributes:
        data: the scans.
        network: the architecture; None for that of the model that training begins from.
        start: a model directory to begin from, for fine-tuning; None for fresh weights.
        patches: how patches are cut.
        augmentation: how they are changed; None for not at all.
        loss: what is minimised.
        optimiser: how weights follow their gradients.
        run: how long training takes, and what is written on the way.

    Raises:
        InputError: the rate would not come to its peak.
    """

    data: DataSettings
    network: NetworkConfig | None
    start: Path | None
    patches: PatchSettings
    augmentation: AugmentationSettings | None
    loss: WeightedLoss
    optimiser: OptimiserSettings
    run: RunSettings

    def __post_init__(self) -> None:
        steps, optimiser = self.run.steps, self.optimiser
        updates = steps // optimiser.accumulate
        if optimiser.warm_up >= updates:
            each = f" at every {optimiser.accumulate} steps" if optimiser.accumulate > 1 else ""
            made = f"{counted(updates, 'update')}{each}"
            raise InputError(
                "[optimiser] warm_up must be less than the number of updates, for the rate to come "
                f"to its peak; got {optimiser.warm_up}, and [run] steps = {steps} make {made}: "
                f"set a warm_up such as {updates // 10}, or more steps"
            )

    def with_steps(self, steps: int) -> TrainingConfig:
        """The same for another number of steps.

        Raises:
            InputError: they are too few for the warm-up of the rate.
        """
        return replace(self, run=replace(self.run, steps=steps))

    def identity(self) -> dict[str, Any]:
        """All that the numbers depend on but scans and initial weights, ready for JSON."""
        identity: dict[str, Any] = {
            "data": asdict(self.data),
            "network": self.network and {"kind": self.network.kind, **self.network.to_arguments()},
            "patches": asdict(self.patches),
            "augmentation": self.augmentation and asdict(self.augmentation),
            "loss": asdict(self.loss),
            "optimiser": asdict(self.optimiser),
            "run": asdict(self.run),
        }
        for section, names in _FREE.items():
            for name in names:
                identity[section].pop(name)
        return identity


def read_config(path: Path) -> TrainingConfig:
    """Reads the file of a training; paths in it are relative to it.

    Raises:
        InputError: it cannot be read, or all of a key's rule, place and value.
    """
    tables = read_tables(path, _SECTIONS)
    here = {name: f"{path}: [{name}]" for name in _SECTIONS}
    data = _data(tables["data"], here["data"], path.parent)
    if "from" not in tables["network"] and not data.channels:
        raise InputError(
            f'{here["data"]} needs the key channels, such as ["flair", "t1"]: a name per image'
        )
    network, start = _network(tables["network"], here["network"], data, path.parent)
    patches = settings_from(PatchSettings, tables["patches"], here["patches"])
    if network is not None:
        with placed(here["patches"]):
            check_size(network, patches.size)
    augmentation = _augmentation(tables["augmentation"], here["augmentation"])
    loss = _loss(tables["loss"], here["loss"])
    optimiser = settings_from(OptimiserSettings, tables["optimiser"], here["optimiser"])
    run = settings_from(RunSettings, tables["run"], here["run"])
    with placed(f"{path}:"):
        return TrainingConfig(data, network, start, patches, augmentation, loss, optimiser, run)


def check_size(network: NetworkConfig, size: Triple) -> None:
    """Patches must be of a size that the network takes.

    Raises:
        InputError: they are not.
    """
    if any(n % d for n, d in zip(size, network.divisor, strict=True)):
        raise InputError(
            f"size must be a multiple of the network's total stride {list(network.divisor)}; got "
            f"{list(size)}"
        )
    fixed = network.fixed_size
    if any(f not in (None, n) for f, n in zip(fixed, size, strict=True)):
        raise InputError(f"size must be {list(fixed)}, which the network has; got {list(size)}")


def _data(table: Mapping[str, Any], place: str, folder: Path) -> DataSettings:
    data = settings_from(DataSettings, table, place)
    cache = data.cache and folder / data.cache.expanduser()
    return replace(data, cohort=folder / data.cohort.expanduser(), cache=cache)


def _network(
    table: Mapping[str, Any], place: str, data: DataSettings, folder: Path
) -> tuple[NetworkConfig | None, Path | None]:
    """The architecture, or the model to begin from."""
    if "from" in table:
        if len(table) > 1:
            others = ", ".join(name for name in table if name != "from")
            raise InputError(f"{place} takes the architecture of `from`: leave out {others}")
        start: Path = as_type(Path, table["from"], f"{place} from")
        return None, folder / start.expanduser()
    if "kind" not in table:
        raise InputError(
            f"{place} needs the key kind, one of {', '.join(NETWORKS)}, with the arguments of its "
            "constructor; or `from`, a model directory to begin from"
        )
    arguments = {name: value for name, value in table.items() if name != "kind"}
    for name in _NOT_TRAINED:
        if arguments.get(name):
            raise InputError(
                f"{place} {name} is not supported in training: leave it out; got "
                f"{arguments[name]!r}"
            )
    arguments = {"in_channels": len(data.channels), "out_channels": 2, **arguments}
    with placed(place):
        network = config_from_arguments(as_type(str, table["kind"], f"{place} kind"), arguments)
        if network.in_channels != len(data.channels):
            raise InputError(
                f"in_channels must be the number of [data] channels, {len(data.channels)}; got "
                f"{network.in_channels}"
            )
    return network, None


def _augmentation(table: Mapping[str, Any], place: str) -> AugmentationSettings | None:
    values = dict(table)
    known = ["enabled", *(field.name for field in fields(AugmentationSettings))]
    check_known(place, values, known, "key")
    enabled = as_type(bool, values.pop("enabled", True), f"{place} enabled")
    settings = settings_from(AugmentationSettings, values, place)
    return settings if enabled else None


def _loss(table: Mapping[str, Any], place: str) -> WeightedLoss:
    values = dict(table)
    for name, rule in _NOT_CHOSEN.items():
        if name in values:
            raise InputError(f"{place} {name} {rule}: leave it out; got {values[name]!r}")
    options = [f.name for f in fields(WeightedLoss) if f.name not in _NOT_CHOSEN]
    known = ["preset", *options]
    check_known(place, values, known, "key")
    weights = [name for name in DICE_AND_BLOB.weights if name in values]
    preset = values.pop("preset", None)
    if preset is not None and not (isinstance(preset, str) and preset in PRESETS):
        raise InputError(f"{place} preset must be one of {', '.join(PRESETS)}; got {preset!r}")
    if preset is not None and weights:
        raise InputError(f"{place} takes a preset or weights, not both; got {weights[0]} as well")
    if weights:
        start = dict.fromkeys(DICE_AND_BLOB.weights, 0.0)
    else:
        start = PRESETS[preset or "dice-and-blob"].weights
    return settings_from(WeightedLoss, values, place, smooth=SMOOTH, **start)
