"""The folder of a training: one run at a time, of one configuration.

``best`` and ``last`` are model directories, ``log.tsv`` is the table of losses, ``run.json`` holds
all that these depend on; the hidden folder ``.jaxsal`` holds checkpoints, locks and scans' copies.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxsal.checkpoints import check_target, save_model
from jaxsal.model import Model
from jaxsal.store.files import mend_folder, write_json
from jaxsal.store.identity import ADVICE, require_same
from jaxsal.store.lock import Owner
from jaxsal.store.run_folder import RunFolder

_FILES = "files"  # what those of each scan hold
MODELS = ("best", "last")
_HOLDS = "a training with {} or scans, which cannot go on with these"


class TrainingFolder:
    """Where a training's results are.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._folder = RunFolder(self.root, "train", holds=_HOLDS)
        self.checkpoints = self._folder.state / "checkpoints"
        self.scans = self._folder.state / "scans"

    @contextmanager
    def opened(
        self, identity: Mapping[str, Any], facts: Mapping[str, Any], *, overwrite: bool
    ) -> Iterator[Owner | None]:
        """The folder in use by a run, begun with its identity or found to have the same.

        Args:
            identity: all that results depend on, ready for JSON.
            facts: what is recorded beside it.
            overwrite: remove the results of an earlier run.

        Yields:
            Who worked in it last, if that run was killed.

        Raises:
            InputError: it cannot be written, holds other files or results of another identity, or
                another run is at work in it.
            OutputError: its record cannot be written.
        """

        def begin(earlier: Mapping[str, Any] | None, _: bool) -> Mapping[str, Any]:
            for name in MODELS:
                mend_folder(self.root / name)
            if earlier is None:
                self._remove_results()  # hidden ones may be left of a run that was killed
            kept = {_FILES: earlier[_FILES]} if earlier and _FILES in earlier else {}
            return {**facts, **kept}

        with self._folder.opened(
            identity,
            begin,
            lambda _: None,  # `begin` removes them
            overwrite=overwrite,
            advice=self._advice,
        ) as killed:
            yield killed

    def require_same_scans(self, files: Mapping[str, Any]) -> None:
        """Refuses to go on with other scans, or others under the same names, than before.

        Args:
            files: what each scan's files hold, ready for JSON.

        Raises:
            InputError: it was begun with others.
            OutputError: its record cannot be written.
        """
        record = self._folder.recorded()
        if _FILES in record:
            before, now = {_FILES: record[_FILES]}, {_FILES: files}
            require_same(self.root, before, now, _HOLDS, self._advice)
        else:
            write_json(self._folder.record, {**record, _FILES: files})

    @property
    def _advice(self) -> str:
        """What to do where an earlier training cannot go on."""
        last = self.root / "last"
        if not last.is_dir():
            return ADVICE
        new = f'give a new folder with [network] from = "{last}"'
        return f"{ADVICE}. To train its network further, {new}"

    def save(self, name: str, model: Model) -> None:
        """Writes one of `MODELS`, in place of the earlier one."""
        save_model(model, self.root / name, overwrite=True)

    def _remove_results(self) -> None:
        """Removes what a run wrote, and nothing else; the copies of scans stay right.

        Raises:
            InputError: a model's directory holds something else; nothing is removed.
        """
        models = [self.root / name for name in MODELS]
        for model in models:
            if not model.is_symlink():
                check_target(model, overwrite=True)
        board = self.root / "tensorboard"
        written = [board] if board.is_symlink() else [*board.glob("events.out.tfevents.*")]
        for path in (self.checkpoints, *models, self.root / "log.tsv", *written):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        with suppress(OSError):  # it is not there, or holds other files
            board.rmdir()
