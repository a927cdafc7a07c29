"""A training from its configuration to its models; the same call again goes on where it ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax

from jaxsal.errors import OutputError
from jaxsal.progress import Monitor, Silence
from jaxsal.store.identity import digest
from jaxsal.training.config import TrainingConfig
from jaxsal.training.folder import MODELS, TrainingFolder
from jaxsal.training.patches import patch_batches
from jaxsal.training.setup import set_up
from jaxsal.versions import software


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
    bit for bit on the same devices; on GPUs within rounding, unless XLA_FLAGS holds
    ``--xla_gpu_deterministic_ops=true`` in all runs.

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
    setup = set_up(config, devices, monitor or Silence())
    folder = TrainingFolder(out)
    facts = {**software(), "devices": [str(device) for device in setup.placement.devices]}
    with folder.opened(setup.identity(), facts, overwrite=overwrite), ExitStack() as to_close:
        read, files = setup.read(folder)
        folder.require_same_scans(files)
        loop = setup.loop(folder, max(scan.lesions for scan in read), digest(files))
        to_close.enter_context(closing(loop.checkpoints))
        to_close.enter_context(closing(loop.log))
        if not loop.progress.ended:
            batches = patch_batches(read, config.patches, config.run.seed, loop.progress.step)
            to_close.enter_context(closing(batches))
            with _memory_errors():
                loop.run(batches)
    return Trained(
        ended=loop.progress.ended,
        step=loop.progress.step,
        best=loop.progress.best,
        models={name: out / name for name in MODELS if (out / name).is_dir()},
        training=len(setup.scans),
        validation=len(setup.validation),
        devices=len(setup.placement.devices),
        seconds=loop.progress.seconds,
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
