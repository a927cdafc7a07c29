"""What a training is set up from, and the loop that is made of it where the last run left it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxsal.checkpoints import load_model
from jaxsal.devices import default_devices
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.sources import read_cohort, warn_if_mixed
from jaxsal.model import Model
from jaxsal.nets.registry import require_rematerialising
from jaxsal.nets.training import TrainingFunction
from jaxsal.progress import Monitor
from jaxsal.scan.provenance import model_facts
from jaxsal.store.identity import digest
from jaxsal.store.schema import placed
from jaxsal.training.augmentation import augment
from jaxsal.training.checkpoints import Checkpoints, Progress
from jaxsal.training.config import TrainingConfig, check_size
from jaxsal.training.folder import TrainingFolder
from jaxsal.training.log import TrainingLog, require_tensorboard
from jaxsal.training.loop import Loop
from jaxsal.training.patches import require_grain
from jaxsal.training.reading import Contents, check_scans
from jaxsal.training.scans import TrainingScan, open_scans
from jaxsal.training.splits import say_subjects, split
from jaxsal.training.step import (
    Placement,
    initial_state,
    learning_rate,
    make_optimiser,
    make_update,
)
from jaxsal.training.validation import validate


@dataclass(frozen=True)
class Setup:
    """A training whose scans are not read yet.

    Attributes:
        config: of the training.
        start: the model that it begins from.
        scans: to train on.
        validation: scans to validate on; there may be none.
        placement: of states and batches.
        monitor: shows how far it is.
    """

    config: TrainingConfig
    start: Model
    scans: Sequence[Entry]
    validation: Sequence[Entry]
    placement: Placement
    monitor: Monitor

    def identity(self) -> dict[str, Any]:
        """What results depend on: the configuration, scans by name, and weights."""
        start = self.start
        weights = model_facts(start)["parameters_sha256"] if self.config.start else "fresh weights"
        return self.config.identity() | {
            "start": weights,
            "channels": list(start.channels),
            "network": {"kind": start.config.kind, **start.config.to_arguments()},
            "scans": {
                "training": [entry.id for entry in self.scans],
                "validation": [entry.id for entry in self.validation],
            },
        }

    def read(self, folder: TrainingFolder) -> tuple[list[TrainingScan], dict[str, Contents]]:
        """The scans to train on, and what the files of all scans hold, by scan."""
        total, before = len(self.scans) + len(self.validation), len(self.validation)
        count = self.monitor.count
        channels, preprocessing = self.start.channels, self.start.preprocessing
        if preprocessing is not None:
            preprocessing = replace(preprocessing, permit="none")
        held = check_scans(
            "validation",
            self.validation,
            channels,
            preprocessing,
            lambda done: count(done, total, "scans"),
        )
        scans = open_scans(
            self.scans,
            channels,
            preprocessing,
            self.config.data.cache or folder.scans,
            lambda done: count(before + done, total, "scans"),
        )
        files = {scan.id: scan.files for scan in scans}
        files |= {entry.id: own for entry, own in zip(self.validation, held, strict=True)}
        return scans, files

    def loop(self, folder: TrainingFolder, lesions: int, files: str) -> Loop:
        """All that the training needs, where the last run left it.

        Args:
            folder: of the results.
            lesions: the largest number of them in a scan.
            files: digest of what the scans' files hold.
        """
        config, start, run = self.config, self.start, self.config.run
        schedule = learning_rate(config.optimiser, run.steps)
        optimiser = make_optimiser(config.optimiser, schedule)
        state = initial_state(start.config, start.parameters, optimiser)
        network = TrainingFunction(
            start.config, run.precision, config.optimiser.momentum_per_batch, run.rematerialise
        )
        loss = replace(
            config.loss,
            probability=start.outputs.probability if start.outputs else "softmax",
            target=start.lesion_output(),
            maximum_instances=max(lesions, 1),  # of a scan, and so of a patch
        )
        augmented = partial(augment, config.augmentation) if config.augmentation else None
        identity = self.identity() | {"files": files}
        checkpoints = Checkpoints(folder.checkpoints, run.keep)
        found = checkpoints.restore(state, digest(identity))
        state, progress = found or (state, Progress(training=digest(identity)))
        parts = [name for name, weight in loss.weights.items() if weight]
        return Loop(
            config=config,
            start=start,
            folder=folder,
            checkpoints=checkpoints,
            log=TrainingLog(folder.root, parts, progress.logged, tensorboard=run.tensorboard),
            update=make_update(
                network, loss, optimiser, self.placement, seed=run.seed, augment=augmented
            ),
            placement=self.placement,
            schedule=schedule,
            validate=partial(validate, self.validation, config) if self.validation else None,
            source={"training": identity, "start": dict(start.source)},
            monitor=self.monitor,
            state=self.placement.put_state(state),
            progress=progress,
        )


def set_up(config: TrainingConfig, devices: Sequence[jax.Device] | None, monitor: Monitor) -> Setup:
    """The training, found to be possible as far as that can be seen without reading scans."""
    monitor.stage("reading the scans")
    require_grain()  # before anything is read or written
    if config.run.tensorboard:
        require_tensorboard()
    start = starting_model(config)
    named_by = "[data] channels" if config.start is None else str(config.start)
    entries = read_cohort(config.data.cohort, start.channels, config.data.select or None, named_by)
    warn_if_mixed(entries, start.preprocessing)
    scans, validation = split(entries, config.data.validation, config.run.seed)
    if config.run.patience and not validation:
        raise InputError(
            f"[run] patience counts validations, and there is no scan to validate on: set it to 0, "
            f"or [data] validation; got {config.run.patience}"
        )
    say_subjects(config.data.cohort, scans, validation, monitor)
    placement = _placement(config, devices or default_devices(), monitor)
    return Setup(config, start, scans, validation, placement, monitor)


def _placement(
    config: TrainingConfig, devices: Sequence[jax.Device], monitor: Monitor
) -> Placement:
    batch = config.patches.batch
    placement = Placement(devices, batch)
    used = len(placement.devices)
    if used < len(devices):
        monitor.say(
            f"{used} of {len(devices)} devices are used, as many as divide the [patches] batch of "
            f"{batch}: make it a multiple of {len(devices)} to use all"
        )
    return placement


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
