"""A training from its configuration to its models; the same call again goes on where it ended."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxsal.devices import default_devices
from jaxsal.errors import InputError, OutputError
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.mixture import warn_if_mixed
from jaxsal.inputs.sources import has_subjects, read_cohort
from jaxsal.model import Model
from jaxsal.monitor import Monitor, Silence
from jaxsal.nets.training import TrainingFunction
from jaxsal.scan.provenance import model_facts, software
from jaxsal.store.identity import digest
from jaxsal.training.augmentation import augment
from jaxsal.training.checkpoints import Checkpoints, Progress
from jaxsal.training.config import TrainingConfig
from jaxsal.training.folder import TrainingFolder
from jaxsal.training.log import TrainingLog, require_tensorboard
from jaxsal.training.loop import Loop, OnScan
from jaxsal.training.optimiser import learning_rate, make_optimiser
from jaxsal.training.patches import patch_batches, require_grain
from jaxsal.training.reading import check_scans
from jaxsal.training.scans import open_scans
from jaxsal.training.splits import split
from jaxsal.training.start import starting_model
from jaxsal.training.step import Placement, initial_state, make_update
from jaxsal.training.validation import Figures, validate
from jaxsal.wording import counted


@dataclass(frozen=True)
class Trained:
    """What became of a training.

    Attributes:
        ended: why it is over.
        step: number of batches.
        best: figures of the best validation, with its step and threshold; {} without validation.
        models: the model directories that there are, by "best" and "last".
        training: number of scans trained on.
        validation: number of scans validated on.
        devices: number of devices that shared the batches.
        seconds: that it took, in all runs.
        patches_per_second: mean over this run, without compiling, validating and saving; None if it
            took no steps.
    """

    ended: str
    step: int
    best: dict[str, float]
    models: dict[str, Path]
    training: int
    validation: int
    devices: int
    seconds: float
    patches_per_second: float | None


def train(
    config: TrainingConfig,
    out: Path,
    *,
    devices: Sequence[jax.Device] | None = None,
    overwrite: bool = False,
    monitor: Monitor | None = None,
) -> Trained:
    """Trains a network, or goes on with a training that was begun in the folder.

    A run that was killed goes on from its last checkpoint to the same numbers as without the kill,
    bit for bit on the same devices.

    Args:
        config: of the training.
        out: the folder; see `jaxsal.training.folder`.
        devices: that share each batch; by default those chosen, else as `default_devices` says.
        overwrite: begin anew where earlier runs left results; see `jaxsal.store`.
        monitor: shows how far it is.

    Raises:
        InputError: the configuration, the scans or the folder cannot be worked with.
        OutputError: the loss is not finite, or something cannot be written.
        KeyboardInterrupt: Ctrl-C or SIGTERM; all is saved.
    """
    monitor = monitor or Silence()
    monitor.stage("reading the scans")
    require_grain()  # before anything is read or written
    if config.run.tensorboard:
        require_tensorboard()
    start = starting_model(config)
    channels, folder = start.channels, TrainingFolder(out)
    named_by = "[data] channels" if config.start is None else str(config.start)
    entries = read_cohort(config.data.cohort, channels, config.data.select or None, named_by)
    warn_if_mixed(entries, start.preprocessing)
    training, validation = split(entries, config.data.validation, config.run.seed)
    _check_validation(config, validation)
    _say_subjects(config, training, validation, monitor)
    placement = _placement(config, devices or default_devices(), monitor)
    identity = config.identity() | _identity(config, start, training, validation)
    facts = {**software(), "devices": [str(device) for device in placement.devices]}
    with folder.opened(identity, facts, overwrite=overwrite), ExitStack() as open_until_the_end:
        total = len(training) + len(validation)
        held = check_scans(
            "validation",
            validation,
            channels,
            start.preprocessing,
            lambda done: monitor.count(done, total, "scans"),
        )
        scans = open_scans(
            training,
            channels,
            start.preprocessing,
            config.data.cache or folder.scans,
            lambda done: monitor.count(len(validation) + done, total, "scans"),
        )
        files = {scan.id: scan.files for scan in scans}
        files |= {entry.id: files for entry, files in zip(validation, held, strict=True)}
        folder.require_same_scans(files)
        identity["files"] = digest(files)
        source = {"training": identity, "start": dict(start.source)}
        lesions = max(scan.lesions for scan in scans)
        loop = _loop(config, start, folder, placement, validation, lesions, source, monitor)
        open_until_the_end.enter_context(closing(loop.checkpoints))
        open_until_the_end.enter_context(closing(loop.log))
        if not loop.progress.ended:
            batches = patch_batches(scans, config.patches, config.run.seed, loop.progress.step)
            open_until_the_end.enter_context(closing(batches))
            with _memory_errors():
                loop.run(batches)
    progress = loop.progress
    return Trained(
        ended=progress.ended,
        step=progress.step,
        best=progress.best,
        models={n: out / n for n in ("best", "last") if (out / n).is_dir()},
        training=len(training),
        validation=len(validation),
        devices=len(placement.devices),
        seconds=progress.seconds,
        patches_per_second=loop.patches_per_second,
    )


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Raises a lack of memory with what helps in training."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise OutputError(
            "out of memory in training: set a smaller [patches] batch with a larger [optimiser] "
            "accumulate, a smaller [patches] size, or [run] precision bfloat16 (on a GPU)"
        ) from error


def _say_subjects(
    config: TrainingConfig,
    training: Sequence[Entry],
    validation: Sequence[Entry],
    monitor: Monitor,
) -> None:
    """Says how the scans are split, and warns if it is unknown which are of one subject."""
    parts = [
        f"{counted(len(entries), 'scan')} of "
        f"{counted(len({entry.entities['subject'] for entry in entries}), 'subject')} to {use}"
        for use, entries in (("train on", training), ("validate on", validation))
    ]
    monitor.say(", ".join(parts))
    scans = [*training, *validation]
    alone = len({entry.entities["subject"] for entry in scans}) == len(scans)
    if validation and alone and not has_subjects(config.data.cohort):
        warnings.warn(
            f"{config.data.cohort} has no column 'subject', so that a subject with several scans "
            "may be trained and validated on: add the column if there are such, and 'session' or "
            "'run' to tell a subject's scans apart",
            stacklevel=3,
        )


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


def _check_validation(config: TrainingConfig, validation: Sequence[Entry]) -> None:
    if config.run.patience and not validation:
        raise InputError(
            f"[run] patience counts validations, and there is no scan to validate on: set it to 0, "
            f"or [data] validation; got {config.run.patience}"
        )


def _identity(
    config: TrainingConfig, start: Model, training: Sequence[Entry], validation: Sequence[Entry]
) -> dict[str, Any]:
    """What results depend on besides the configuration: scans by name, and weights."""
    facts = model_facts(start)
    return {
        "start": facts["parameters_sha256"] if config.start else "fresh weights",
        "channels": list(start.channels),
        "network": {"kind": start.config.kind, **start.config.to_arguments()},
        "scans": {
            "training": [entry.id for entry in training],
            "validation": [entry.id for entry in validation],
        },
    }


def _loop(
    config: TrainingConfig,
    start: Model,
    folder: TrainingFolder,
    placement: Placement,
    validation: Sequence[Entry],
    lesions: int,
    source: dict[str, Any],
    monitor: Monitor,
) -> Loop:
    """All that a training needs, where the last run left it."""
    run = config.run
    schedule = learning_rate(config.optimiser, run.steps)
    optimiser = make_optimiser(config.optimiser, schedule)
    state = initial_state(start.config, start.parameters, optimiser)
    network = TrainingFunction(
        start.config, run.precision, config.optimiser.momentum_per_batch, run.rematerialise
    )
    change = partial(augment, config.augmentation) if config.augmentation else None
    loss = replace(
        config.loss,
        probability=start.outputs.probability if start.outputs else "softmax",
        target=start.lesion_output(),
        maximum_instances=max(lesions, 1),  # of a scan, and so of a patch
    )
    checkpoints = Checkpoints(folder.checkpoints, run.keep)
    training = digest(source["training"])
    found = checkpoints.restore(state, training)
    state, progress = found or (state, Progress(training=training))
    parts = [name for name, weight in loss.weights.items() if weight]

    def check(model: Model, on_scan: OnScan) -> Figures:
        return validate(model, validation, config, on_scan)

    return Loop(
        config=config,
        start=start,
        folder=folder,
        checkpoints=checkpoints,
        log=TrainingLog(folder.root, parts, progress.logged, tensorboard=run.tensorboard),
        update=make_update(network, loss, optimiser, placement, seed=run.seed, augment=change),
        placement=placement,
        schedule=schedule,
        validate=check if validation else None,
        source=source,
        monitor=monitor,
        state=placement.put_state(state),
        progress=progress,
    )
