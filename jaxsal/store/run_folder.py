"""The folder of a command's results, which its runs share one after the other.

A record, ``run.json``, says which command began the folder, and all that its results depend on: the
run's identity. A run of the same identity goes on with what is there. A run of another is refused
or, with ``overwrite``, first removes the results of earlier runs. The hidden folder ``.jaxsal``
holds the locks, and whatever else runs need.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError, unwritable
from jaxsal.store.files import read_json, remove_partial, write_json
from jaxsal.store.identity import ADVICE, require_same
from jaxsal.store.lock import WHOLE, Owner, Shard, locked

Recorded = dict[str, Any]  # what a record says


class RunFolder:
    """A folder for the results of one command.

    Args:
        root: the folder.
        command: the command, such as "train".
        record: name of the record.
        key: of the identity in the record.
        holds: what the folder holds if identities differ; see `require_same`.
        layout: version of the rules by which files are named; None: there has been one only.
        harmless: names of what a killed run may leave in a folder without a record.

    Attributes:
        state: the hidden folder.
        record: the record.
    """

    def __init__(
        self,
        root: Path,
        command: str,
        *,
        record: str = "run.json",
        key: str = "identity",
        holds: str = "",
        layout: int | None = None,
        harmless: Collection[str] = (),
    ) -> None:
        self.root, self.state, self.record = root, root / ".jaxsal", root / record
        self._command, self._key, self._holds = command, key, holds
        self._layout, self._harmless = layout, harmless

    def recorded(self) -> Recorded:
        """What the record says.

        Raises:
            InputError: there is no record of the command; or another version wrote it, which gave
                files other names.
        """
        recorded = self._of_any_version()
        if self._layout is not None and recorded.get("layout") != self._layout:
            raise InputError(
                f"the results in {self.root} were written by another version of jaxsal, under "
                "other names than BIDS has for them: read them with that version, or write them "
                "anew, into another folder or with --overwrite"
            )
        return recorded

    def _identity(self) -> Recorded:
        identity = self.recorded().get(self._key)
        if isinstance(identity, dict):
            return identity
        raise InputError(
            f"{self.record} is damaged, it does not say what the results depend on: choose another "
            "folder, or begin anew with --overwrite"
        )

    def _of_any_version(self) -> Recorded:
        recorded = read_json(self.record)
        if recorded.get("command") == self._command:
            return recorded
        raise InputError(
            f"{self.root} holds no results of `jaxsal {self._command}`: there is no "
            f"{self.record.name} of such a run; give the folder that was its --out, or a new one"
        )

    @contextmanager
    def in_use(self, begin: Callable[[bool], None], shard: Shard = WHOLE) -> Iterator[Owner | None]:
        """Holds the folder for one run, or for one shard of it.

        Args:
            begin: called once the folder is held, while no other run can begin; with whether other
                shards are at work.
            shard: of the scans.

        Yields:
            Who worked in it last, if that run was killed.

        Raises:
            InputError: the folder is a file, holds files of others, cannot be written, or another
                run is at work in it.
            OutputError: the disk fails, or is full.
        """
        self._require_own()

        def begun(others: bool) -> None:
            if not others:
                for folder in (self.root, self.state, *self.state.glob("*/")):
                    remove_partial(folder)
            begin(others)

        try:
            with locked(self.state / "locks", shard, begun) as killed:
                yield killed
        except OSError as error:
            if error.filename is None:
                raise
            path = Path(str(error.filename))  # within the folder, or on the way to it
            if not (path.is_relative_to(self.root) or self.root.is_relative_to(path)):
                raise
            raise unwritable(self.root, error) from error

    @contextmanager
    def opened(
        self,
        identity: Mapping[str, Any],
        begin: Callable[[Recorded | None, bool], Mapping[str, Any]],
        remove: Callable[[Recorded], None],
        shard: Shard = WHOLE,
        *,
        overwrite: bool,
        advice: str = ADVICE,
    ) -> Iterator[Owner | None]:
        """Holds the folder for a run, which begins it or has the identity that it was begun with.

        Args:
            identity: all that results depend on, ready for JSON.
            begin: makes the folder ready, as for `in_use`; also called with what the record says of
                the results that the run goes on with, or None. Returns what is recorded beside the
                identity.
            remove: removes the results of earlier runs, and nothing else; called with what their
                record says.
            shard: of the scans.
            overwrite: begin anew; have the results of earlier runs removed.
            advice: what to do if the identities differ.

        Yields:
            Who worked in it last, if that run was killed.

        Raises:
            InputError: as `in_use`, or the folder holds results of another command or version.
            OtherResultsError: it holds results of another identity.
            OutputError: its record cannot be written.
        """
        now = json.loads(json.dumps(identity))  # as it is read back

        def begun(others: bool) -> None:
            earlier = self._of_any_version() if self.record.exists() else None
            if earlier is not None and overwrite:
                remove(earlier)
                earlier = None
            elif earlier is not None:
                require_same(self.root, self._identity(), now, self._holds, advice)
            facts = begin(earlier, others)
            layout = {} if self._layout is None else {"layout": self._layout}
            write_json(self.record, {"command": self._command, **layout, self._key: now, **facts})

        with self.in_use(begun, shard) as killed:
            yield killed

    def _require_own(self) -> None:
        """Refuses a folder that others wrote into, before anything is written."""
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"{self.root} is a file; give a folder for the results")
        if self.record.exists():
            self._of_any_version()
        elif self.root.is_dir():
            self._require_no_others()

    def _require_no_others(self) -> None:
        names = {path.name for path in self.root.iterdir() if not path.name.startswith(".")}
        foreign = sorted(names - {*self._harmless})
        if foreign and not self.record.exists():  # another run may have begun meanwhile
            raise InputError(
                f"{self.root} holds other files, such as {foreign[0]}; give a new or empty folder, "
                f"or one that `jaxsal {self._command}` was begun in"
            )
