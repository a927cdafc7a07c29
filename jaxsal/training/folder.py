"""The folder of a training: one run at a time, of one configuration.

``best`` and ``last`` are model directories, ``log.tsv`` is the table of losses, ``run.json`` tells
all that these depend on; the hidden folder ``.jaxsal`` holds checkpoints, locks and scans' copies.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxsal.checkpoints import save_model
from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.store.files import write_json
from jaxsal.store.identity import require_same
from jaxsal.store.lock import Owner, Shard, locked

_RUN, _COMMAND = "run.json", "train"
_FILES = "files"  # what those of each scan hold
MODELS = ("best", "last")
_RESULTS = (*MODELS, "log.tsv", "tensorboard")
_OTHER = "a training with other settings or scans, which cannot go on with these"


class TrainingFolder:
    """Where a training's results are.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._state = self.root / ".jaxsal"
        self.checkpoints = self._state / "checkpoints"
        self.scans = self._state / "scans"

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
        """
        self._check_content()

        def begin(_: bool) -> None:
            self._begin(json.loads(json.dumps(identity)), facts, overwrite=overwrite)

        try:
            with locked(self._state / "locks", Shard(), begin) as killed:
                yield killed
        except OSError as error:
            if error.filename is None or not str(error.filename).startswith(str(self.root)):
                raise
            raise InputError(
                f"cannot write into {self.root}: {error.strerror}; choose another folder, or see "
                "to its rights and space"
            ) from error

    def require_same_scans(self, files: Mapping[str, Any]) -> None:
        """Refuses to go on with other scans, or others under the same names, than before.

        Args:
            files: what each scan's files hold, ready for JSON.

        Raises:
            InputError: it was begun with others.
        """
        told = json.loads((self.root / _RUN).read_bytes())
        if _FILES in told:
            self._require_same({_FILES: told[_FILES]}, {_FILES: files})
        else:
            write_json(self.root / _RUN, {**told, _FILES: files})

    def save(self, name: str, model: Model) -> None:
        """Writes one of `MODELS`, in place of the earlier one."""
        save_model(model, self.root / name, overwrite=True)

    def _check_content(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"{self.root} is a file; give a folder for the results")
        if not self.root.is_dir() or (self.root / _RUN).exists():
            return
        foreign = sorted(p.name for p in self.root.iterdir() if not p.name.startswith("."))
        if foreign:
            raise InputError(
                f"{self.root} holds other files, such as {foreign[0]}; give a new or empty folder, "
                "or one that this training was begun in"
            )

    def _begin(
        self, identity: Mapping[str, Any], facts: Mapping[str, Any], *, overwrite: bool
    ) -> None:
        told: dict[str, Any] = {"command": _COMMAND, "identity": identity, **facts}
        earlier = self._earlier() if (self.root / _RUN).exists() else None
        if earlier is None or overwrite:
            self._remove_results()  # without earlier ones: hidden ones may have been left
        else:
            self._require_same(earlier["identity"], identity)
            told |= {name: earlier[name] for name in (_FILES,) if name in earlier}
        self._mend()
        write_json(self.root / _RUN, told)

    def _require_same(self, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        try:
            require_same(self.root, earlier, now, _OTHER)
        except InputError as error:
            last = self.root / "last"
            if not last.is_dir():
                raise
            raise InputError(
                f"{error}. To train its network further, give a new folder with [network] from = "
                f'"{last}"'
            ) from error

    def _earlier(self) -> dict[str, Any]:
        try:
            told = json.loads((self.root / _RUN).read_bytes())
            if told["command"] == _COMMAND and isinstance(told["identity"], dict):
                return dict(told)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise InputError(
            f"{self.root} holds other results than a training's, by its {_RUN}; give another folder"
        )

    def _remove_results(self) -> None:
        """Removes what a run wrote, and nothing else; the copies of scans stay right."""
        hidden = [path for name in MODELS for path in self.root.glob(f".{name}.*")]
        for path in (self.checkpoints, *hidden, *(self.root / name for name in _RESULTS)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _mend(self) -> None:
        """Puts back a model that a kill caught between two names; removes half-written ones."""
        for name in MODELS:
            for previous in self.root.glob(f".{name}.*.previous"):
                if not (self.root / name).exists():
                    previous.rename(self.root / name)
            for partial in self.root.glob(f".{name}.*"):
                shutil.rmtree(partial, ignore_errors=True)
