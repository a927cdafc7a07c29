"""Checkpoints to resume a training from, each whole or not there (Orbax)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

import jax
import numpy as np

from jaxsal.checkpoints import quiet_orbax, writing_by_orbax
from jaxsal.errors import InputError, OutputError, warn
from jaxsal.store.files import content_of, sync_all, sync_folder, write_json
from jaxsal.store.parsing import parsed_json
from jaxsal.store.schema import settings_from
from jaxsal.training.step import TrainingState

_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
_LATER = "progress.json"


@dataclass
class Progress:
    """What a run knows besides the state of the network, ready for JSON.

    Attributes:
        step: number of batches so far.
        logged: step of the last row of the table.
        sums: of the figures of the steps since then, by name.
        summed: number of these steps.
        seconds: that training took so far, in all runs.
        threshold: that the last validation chose; None before the first.
        best: figures of the best validation, with its step; {} before the first.
        waiting: number of validations since then.
        ended: why training is over; "" if it is not.
        training: digest of all that the training's numbers depend on.
    """

    step: int = 0
    logged: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0
    seconds: float = 0.0
    threshold: float | None = None
    best: dict[str, float] = field(default_factory=dict)
    waiting: int = 0
    ended: str = ""
    training: str = ""


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: where they are.
        keep: how many of the latest ones are kept.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        import orbax.checkpoint as ocp

        # The state is used up by the next step: nothing is written behind our back. Nor removed:
        # the last one stays until the next is on the disk.
        options = ocp.CheckpointManagerOptions(create=True, enable_async_checkpointing=False)
        self._folder, self._keep = folder.resolve(), keep
        with quiet_orbax():
            self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, state: TrainingState, progress: Progress) -> None:
        """Writes a checkpoint; older ones make way.

        Of a step that has one already, as before its validation, only the progress is written.

        Raises:
            OutputError: it cannot be written.
        """
        import orbax.checkpoint as ocp

        if progress.step in self._manager.all_steps():
            write_json(self._later(progress.step), asdict(progress))
            return
        content = ocp.args.Composite(
            state=ocp.args.StandardSave(_by_name(state)),
            progress=ocp.args.JsonSave(asdict(progress)),
        )
        try:
            with writing_by_orbax():
                self._manager.save(progress.step, args=content, force=True)
            sync_all(self._folder / str(progress.step))
            sync_folder(self._folder)
            write_json(self._later(progress.step), asdict(progress))
            self._remove_older()
        except OSError as error:
            raise OutputError(
                f"cannot write a checkpoint to {self._folder}: {error}. Check rights and space; "
                "the same command then goes on from the last one"
            ) from error

    def restore(self, state: TrainingState, training: str) -> tuple[TrainingState, Progress] | None:
        """The latest checkpoint, on the host; None if there is none.

        Args:
            state: of the same structure.
            training: digest of the training that it must be of.

        Raises:
            InputError: it is damaged, or of another training.
        """
        import orbax.checkpoint as ocp

        self._remove_torn()
        self._remove_older()
        step = self._manager.latest_step()
        if step is None:
            return None
        names = _by_name(jax.tree.map(np.asarray, state))
        content = ocp.args.Composite(
            state=ocp.args.StandardRestore(names), progress=ocp.args.JsonRestore()
        )
        try:
            with quiet_orbax():
                found = self._manager.restore(step, args=content)
        except _DAMAGE as error:
            if not self._later(step).exists():  # a power cut kept it from the disk: the first one
                warn(
                    f"the checkpoint {self._folder / str(step)} is not whole, as after a power "
                    "cut, and there is none before it: training begins anew"
                )
                self._remove(step)
                return None
            raise self._damaged(step, error) from error
        later = self._later(step)
        try:
            content = parsed_json(content_of(later)) if later.exists() else found["progress"]
            settings_from(Progress, content, "the progress")  # which refuses what no run writes
        except _DAMAGE as error:
            raise self._damaged(step, error) from error
        progress = Progress(**content)
        if progress.training != training:
            raise InputError(
                f"the checkpoints in {self._folder} are of another training than this one: choose "
                "another folder, or begin anew with --overwrite"
            )
        values = [found["state"][name] for name in names]
        return jax.tree.unflatten(jax.tree.structure(state), values), progress

    def _damaged(self, step: int, error: Exception) -> InputError:
        said = next(iter(str(error).splitlines()), repr(error))
        return InputError(
            f"the checkpoint {self._folder / str(step)} is damaged: remove it to go on from the "
            f"one before it, or begin anew ({said})"
        )

    def _remove_torn(self) -> None:
        """Removes checkpoints that a power cut kept from the disk, if an earlier one is whole."""
        steps = sorted(self._manager.all_steps())
        whole = [step for step in steps if self._later(step).exists()]
        for step in steps:
            if whole and step > whole[-1]:
                self._remove(step)

    def _remove_older(self) -> None:
        for step in sorted(self._manager.all_steps())[: -self._keep]:
            self._remove(step)

    def _remove(self, step: int) -> None:
        with quiet_orbax():
            self._manager.delete(step)

    def _later(self, step: int) -> Path:
        """Where the progress is that was made since; there as soon as all is on the disk."""
        return self._folder / str(step) / _LATER

    def close(self) -> None:
        """Ends what Orbax has running."""
        self._manager.close()


def _by_name(state: TrainingState) -> dict[str, np.ndarray]:
    """All arrays of the state on the host, by where they are in it."""
    leaves, _ = jax.tree.flatten_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.array(value)
        for path, value in leaves
    }
