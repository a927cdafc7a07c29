"""The table of a training: a row every so many steps, and one per validation."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsal.errors import OutputError
from jaxsal.extras import import_extra
from jaxsal.store.files import require_content, whole_file

_STEP = re.compile(r"\d{1,18}\t", re.ASCII)  # how rows begin
_AFTER = (
    *("rate", "gradient_norm", "patches_per_second", "waited_share"),
    *("validation_dice", "validation_ndsc", "validation_tpr", "validation_fdr", "threshold"),
    "seconds",
)


class TrainingLog:
    """Writes ``log.tsv`` and, if asked for, the same for TensorBoard.

    A row counts as written when it is on the disk. Rows that the checkpoint which a run is resumed
    from does not know of are removed, for the run will write them again.

    Args:
        folder: of the run.
        parts: names of the losses that the loss is the sum of; a column each.
        step: of the last row that the checkpoint knows of; 0 for none.
        tensorboard: whether to write for TensorBoard.

    Raises:
        InputError: tensorboardX is not installed.
    """

    def __init__(
        self, folder: Path, parts: Sequence[str], step: int = 0, *, tensorboard: bool = False
    ) -> None:
        self._path = folder / "log.tsv"
        self._names = ("step", "loss", *(f"loss_{part}" for part in parts), *_AFTER)
        self._board: Any = None
        if tensorboard:
            board = str(folder / "tensorboard")
            self._board = require_tensorboard()(board, purge_step=step + 1)
        kept = [line for line in self._lines() if int(line.split("\t")[0]) <= step]
        with whole_file(self._path) as file:
            file.write("".join(["\t".join(self._names) + "\n", *kept]).encode())

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a row; columns that are not given stay empty."""
        cells = [_cell(row.get(name)) for name in self._names]
        try:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write("\t".join(cells) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror or error}") from error
        if self._board is not None:
            for name in self._names[1:-1]:
                if row.get(name) is not None:
                    # With its group before a slash.
                    place = re.sub("^(loss|validation)_", r"\1/", name)
                    self._board.add_scalar(place, row[name], row["step"])
            self._board.flush()

    def close(self) -> None:
        """Ends writing for TensorBoard."""
        if self._board is not None:
            self._board.close()

    def _lines(self) -> list[str]:
        """The whole rows that there are."""
        if not self._path.exists():
            return []
        require_content(self._path)
        text = self._path.read_text(encoding="utf-8", errors="replace")
        lines = text.splitlines(keepends=True)[1:]
        return [line for line in lines if _STEP.match(line) and line.endswith("\n")]


def require_tensorboard() -> Any:
    """The class that writes for TensorBoard.

    Raises:
        InputError: tensorboardX is not installed.
    """
    return import_extra("tensorboardX", "tensorboard", "[run] tensorboard = true").SummaryWriter


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.8g}" if isinstance(value, float) else str(value)
