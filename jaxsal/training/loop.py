"""The loop of a training: steps, and what is due between them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import jax
import numpy as np
import optax

from jaxsal.errors import OutputError
from jaxsal.training.interruption import Interruption
from jaxsal.training.pace import Pace

if TYPE_CHECKING:
    from jaxsal.evaluation.scans import Evaluation
    from jaxsal.model import Model
    from jaxsal.progress import Monitor
    from jaxsal.training.checkpoints import Checkpoints, Progress
    from jaxsal.training.config import TrainingConfig
    from jaxsal.training.folder import TrainingFolder
    from jaxsal.training.log import TrainingLog
    from jaxsal.training.step import Placement, TrainingState, Update
    from jaxsal.training.validation import Figures

Batches = Iterator[dict[str, np.ndarray]]
OnEvaluated = Callable[["Evaluation", int], None]  # what became of a scan, and how many are done
Validate = Callable[["Model", OnEvaluated], "Figures"]


class _InterruptedError(Exception):
    """A signal asked validation to end."""


@dataclass
class Loop:
    """A training under way.

    Attributes:
        config: what it is.
        start: the model that it began from.
        folder: of the results.
        checkpoints: to resume from.
        log: the table.
        update: the step.
        placement: of states and batches.
        schedule: the learning rate.
        validate: validates a model; None if there is no scan to validate on.
        source: where the models come from, for their directories.
        monitor: shows how far it is.
        state: as it is now, on the devices.
        progress: likewise.
    """

    config: TrainingConfig
    start: Model
    folder: TrainingFolder
    checkpoints: Checkpoints
    log: TrainingLog
    update: Update
    placement: Placement
    schedule: optax.Schedule
    validate: Validate | None
    source: dict[str, Any]
    monitor: Monitor
    state: TrainingState
    progress: Progress

    def __post_init__(self) -> None:
        self._pending: list[dict[str, jax.Array]] = []
        self._pace = Pace(self.config.patches.batch)
        self._shown = "steps"
        self._compiled = False

    def run(self, batches: Batches) -> None:
        """Steps until the training is over.

        Args:
            batches: from the present step on.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM; the state was saved.
            OutputError: the loss is not finite, or something cannot be written.
        """
        self._clock = time.perf_counter()
        self.monitor.stage("training")
        with closing(self._pace), Interruption(self._on_signal) as self._interruption:
            ahead = None
            while True:
                self._do_what_is_due()
                if self.progress.ended:
                    return
                ahead = self._step(ahead or self._next(batches), batches)
                if self._interruption.requested:
                    self._end_early()

    def _on_signal(self) -> None:
        self.monitor.say("interrupted: stopping after this step (once more: at once, unsaved)")

    @property
    def patches_per_second(self) -> float | None:
        """Mean over this run, without compiling, validating and saving; None without steps."""
        return self._pace.overall

    def _next(self, batches: Batches) -> tuple[jax.Array, jax.Array]:
        return self.placement.put_batch(next(batches))

    def _step(
        self, batch: tuple[jax.Array, jax.Array], batches: Batches
    ) -> tuple[jax.Array, jax.Array]:
        """Hands a batch to the device and has the next one ready while it computes."""
        self._pace.before()
        self.state, figures = self.update(self.state, *batch)
        self._pace.after(figures["loss"])
        self.progress.step += 1
        self._pending.append(figures)
        ahead = self._next(batches)
        if not self._compiled:  # which would be measured, too
            self._collect()
            self._pace.discard()
            self._compiled = True
            self.monitor.stage("training")
        self.monitor.count(self.progress.step, self.config.run.steps, self._shown)
        return ahead

    def _collect(self) -> None:
        """Adds up the figures of the steps that the device was given."""
        first = self.progress.step - len(self._pending) + 1
        found, self._pending = jax.device_get(self._pending), []
        self._pace.pause()
        for step, figures in enumerate(found, first):
            if not all(math.isfinite(value) for value in figures.values()):
                raise OutputError(self._not_finite(step, figures))
            for name, value in figures.items():
                self.progress.sums[name] = self.progress.sums.get(name, 0.0) + float(value)
            self.progress.summed += 1

    def _not_finite(self, step: int, figures: dict[str, Any]) -> str:
        found = ", ".join(f"{name} {float(value):g}" for name, value in figures.items())
        kept = [str(self.folder.root / name) for name in ("last", "best")]
        return (
            f"training came apart at step {step}: {found}. The models in {' and '.join(kept)}, if "
            "training came so far, are from before. Begin anew in another folder, with a lower "
            "[optimiser] rate, a longer warm_up, a smaller clip or [run] precision float32; "
            "[network] from = a model directory begins from its weights"
        )

    def _do_what_is_due(self) -> None:
        """The row, the validation and the checkpoint of the present step."""
        run, progress = self.config.run, self.progress
        step, is_last = progress.step, progress.step >= run.steps
        if step == progress.logged and not (is_last and not progress.ended):
            return
        validate = self.validate if step % run.validate_every == 0 or is_last else None
        is_logged = step != progress.logged
        if is_logged and (validate or is_last or step % run.log_every == 0):
            self._collect()
            if validate:
                self._save()  # lest the steps since the last checkpoint are lost by its failure
            self._write_row(self._validated(validate) if validate else None)
        if is_last and not progress.ended:
            progress.ended = f"all {run.steps} steps are done"
        if validate or progress.ended or step % run.save_every == 0:
            self._save()

    def _validated(self, validate: Validate) -> Figures:
        """Figures of the network as it is now; the best one's is written as a model."""
        self.monitor.stage("validating")
        try:
            figures = validate(self._model(), self._on_scan)
        except _InterruptedError:
            self._end_early()
        self.monitor.stage("training")
        progress, patience = self.progress, self.config.run.patience
        progress.threshold = figures.threshold
        progress.waiting += 1
        if figures.ndsc > progress.best.get("ndsc", -math.inf):
            progress.waiting = 0
            progress.best = {"step": progress.step, **asdict(figures)}
            self.folder.save("best", self._model())
        if patience and progress.waiting >= patience:
            progress.ended = (
                f"{patience} validations without a better one than at step {progress.best['step']}"
            )
        return figures

    def _on_scan(self, evaluation: Evaluation, done: int) -> None:
        if evaluation.reason:
            self.monitor.say(f"{evaluation.entry.id} cannot be evaluated: {evaluation.reason}")
        if self._interruption.requested:
            raise _InterruptedError

    def _write_row(self, figures: Figures | None) -> None:
        progress = self.progress
        update = (progress.step - 1) // self.config.optimiser.accumulate
        row: dict[str, Any] = {
            **{name: total / progress.summed for name, total in progress.sums.items()},
            "step": progress.step,
            "rate": float(self.schedule(update)),
            **self._pace.row(),
            **(figures.row() if figures else {}),
            "seconds": self._seconds(),
        }
        self.log.write(row)
        self._shown = _in_brief(row)
        progress.logged, progress.sums, progress.summed = progress.step, {}, 0
        if figures:
            self.monitor.say(
                f"step {progress.step}: loss {row['loss']:.4g}, normalised Dice "
                f"{figures.ndsc:.3f} at the threshold {figures.threshold:g} "
                f"(Dice {figures.dice:.3f}, TPR {figures.tpr:.2f}, FDR {figures.fdr:.2f})"
            )

    def _seconds(self) -> float:
        return round(self.progress.seconds + time.perf_counter() - self._clock, 2)

    def _save(self) -> None:
        """The checkpoint, and the model that goes with it."""
        self._collect()
        now = time.perf_counter()
        self.progress.seconds += now - self._clock
        self._clock = now
        self.folder.save("last", self._model())
        self.checkpoints.save(self.state, self.progress)

    def _model(self) -> Model:
        """The network as it is now, on the first device."""
        threshold = self.progress.threshold
        return replace(
            self.start,
            parameters=self.state.parameters,
            threshold=self.start.threshold if threshold is None else threshold,
            source={
                "trainer": "jaxsal train",
                "step": self.progress.step,
                "best_validation": dict(self.progress.best),
                **self.source,
            },
            roi=self.config.patches.size,
            overlap=self.config.run.overlap,
            precision=self.config.run.precision,
        )

    def _end_early(self) -> NoReturn:
        self._save()
        self._interruption.end(
            f"interrupted at step {self.progress.step} of {self.config.run.steps}; all is saved, "
            "and the same command, without --overwrite, goes on from there"
        )


def _in_brief(row: dict[str, Any]) -> str:
    """What is counted, with figures of the table's last row."""
    parts = ["steps", f"loss {row['loss']:.4g}"]
    if "patches_per_second" in row:
        parts.append(f"{row['patches_per_second']:.3g} patches/s")
    if row.get("waited_share", 0) >= 0.05:
        parts.append(f"{row['waited_share']:.0%} waiting for data")
    return ", ".join(parts)
