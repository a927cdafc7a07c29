"""A command is tried at every operation on files: it fails, the disk is full, the process dies.

`Trials` runs a command once undisturbed and notes its operations. A trial is one fault at one of
them, and then the same command again, undisturbed: it must come to the same results and leave
nothing else behind. What a kill or a power cut leaves is made from the journal of the first run, so
that no process need be started; that this is what real kills leave is tested in
``tests/cohort/test_faults.py``.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock
from zlib import crc32

from helpers.faulty_files import TAKES_SPACE, Fault, Watch, without_chance
from helpers.power_cuts import LOSSES, Folder, Operation, plain, write

from jaxsal.cli.main import main

FAULTS = ("EIO", "ENOSPC", "short write", "killed", "power cut")
GOES_ON, HARMLESS, NOT_MET = "goes on", "harmless", "not met"


class Trial(NamedTuple):
    """A fault at an operation."""

    operation: Operation
    fault: str


@dataclass(frozen=True)
class Case:
    """A command, and what its results are.

    Attributes:
        name: of the command.
        prepare: writes what the command is given into a folder; returns its arguments, but for
            ``--out``.
        results: all that its results say, by name, but for what differs from run to run.
        damaged: which results are not whole, although they look as if they were.
        warm: what spares the runs of one process to do again what has nothing to do with files.
        once: it refuses a folder whose results are complete, unless it is told to overwrite them.
    """

    name: str
    prepare: Callable[[Path], Sequence[str]]
    results: Callable[[Path], dict[str, Any]]
    damaged: Callable[[Path], Sequence[str]] = lambda out: ()
    warm: Callable[[], Iterable[Any]] = lambda: ()
    once: bool = False


class Ended(NamedTuple):
    """How a run ended."""

    status: int
    said: str


class Trials:
    """The trials of a command; a context manager.

    Args:
        case: the command.
        root: a folder for all of it.

    Attributes:
        name: of the command.
        all: the trials.
        states: how many different folders were gone on with after kills and power cuts.
    """

    def __init__(self, case: Case, root: Path) -> None:
        self.name = case.name
        self._case, self._given, self._disk = case, root / "given", root / "disk"
        self._out = self._disk / "out"
        self._tried: dict[str, str] = {}

    def __enter__(self) -> Trials:
        self._given.mkdir(parents=True)
        self._disk.mkdir()
        with ExitStack() as stack:
            stack.enter_context(mock.patch("tempfile.tempdir", str(self._disk)))
            stack.enter_context(mock.patch.dict(os.environ, {"JAXSAL_PROGRESS": "off"}))
            arguments = self._case.prepare(self._given)
            self._arguments = [*arguments, "--out", str(self._out)]
            for patch in self._case.warm():
                stack.enter_context(patch)
            self._begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _begin(self) -> None:
        self._run()  # so that the next one finds all compiled
        self._empty()
        self._before = _names(self._given)
        with Watch(self._disk) as watch, mock.patch.object(os, "getpid", _ended_process):
            ended = self._run()
        assert ended.status == 0, ended.said
        assert watch.unseen == []
        self._expected, self._names = self._case.results(self._out), _names(self._disk)
        self._states: dict[Operation, Folder] = {}
        self.all = []
        last = None
        for last in watch.journal.states():
            if last.operation is not None:
                self.all += [Trial(last.operation, fault) for fault in _faults_of(last.operation)]
        assert last is not None
        assert plain(last.folder) == _contents(self._disk), "the journal is not complete"
        self._journal = watch.journal
        tried = {trial.operation for trial in self.all}
        # Such as to remove what is not there: they change nothing, and may yet fail.
        others = [each for each in watch.operations if each not in tried]
        self.all += [Trial(operation, "EIO") for operation in others]

    @property
    def states(self) -> int:
        return len(self._tried)

    def some(self, share: float, seed: int) -> list[Trial]:
        """One fault at each of a share of the operations, by chance."""
        chance = random.Random(seed)
        operations = sorted({trial.operation for trial in self.all})
        chosen = chance.sample(operations, max(2, round(share * len(operations))))
        faults = {each: [t for t in self.all if t.operation == each] for each in chosen}
        return [chance.choice(faults[operation]) for operation in chosen]

    def outcomes(self, trials: Iterable[Trial]) -> Iterator[tuple[Trial, str]]:
        """What came of trials: `GOES_ON`, `HARMLESS`, `NOT_MET`, or what is wrong."""
        wanted = set(trials)
        cut = {trial for trial in wanted if trial.fault in ("killed", "power cut")}
        for trial in wanted - cut:
            yield trial, self._disturbed(trial)
        left = {trial.operation for trial in cut}
        for operation, folder in self._journal.states():
            if operation in left:
                for fault in ("killed", "power cut"):
                    if (trial := Trial(operation, fault)) in cut:
                        yield trial, self._cut(trial, folder)

    def _disturbed(self, trial: Trial) -> str:
        self._empty()
        with Watch(self._disk, Fault(trial.fault, trial.operation)) as watch:
            ended = self._run()
        if not watch.struck:  # how many files TensorStore writes differs from run to run
            by_chance = "/d/hex" in trial.operation.name
            return NOT_MET if by_chance else "WRONG: the operation was not met again"
        if ended.status not in (0, 1):
            return f"WRONG: exit status {ended.status}: {ended.said}"
        if "Traceback" in ended.said or (ended.status and "error: " not in ended.said):
            return f"WRONG: it does not say in a sentence what failed: {ended.said}"
        if damaged := self._damaged():
            return f"WRONG: results are damaged that look whole: {damaged[0]}"
        if ended.status == 0 and (wrong := self._differs(self._case.results(self._out))):
            return f"WRONG: all seemed well, but {wrong}"
        again = self._again()
        return again if again.startswith("WRONG") or ended.status else HARMLESS

    def _cut(self, trial: Trial, folder: Folder) -> str:
        for loss in ("nothing",) if trial.fault == "killed" else LOSSES:
            left = plain(folder, loss, seed=crc32(str(trial.operation).encode()))
            known = hashlib.sha256(repr(sorted(left.items())).encode()).hexdigest()
            if known not in self._tried:
                self._empty()
                write(left, self._disk)
                self._tried[known] = self._after_cut()
            if self._tried[known] != GOES_ON:
                return f"{self._tried[known]} (of what was not on the disk: {loss} lost)"
        return GOES_ON

    def _after_cut(self) -> str:
        if damaged := self._damaged():
            return f"WRONG: results are damaged that look whole: {damaged[0]}"
        return self._again()

    def _again(self) -> str:
        """What comes of the same command, undisturbed."""
        complete = self._case.once and not self._differs(self._case.results(self._out))
        with mock.patch.object(os, "fsync"):
            ended = self._run(*(["--overwrite"] if complete else []))
        if ended.status != 0:
            return f"WRONG: the same command ends with exit status {ended.status}: {ended.said}"
        if wrong := self._differs(self._case.results(self._out)):
            return f"WRONG: after the same command, {wrong}"
        if damaged := self._damaged():
            return f"WRONG: after the same command {damaged[0]} is damaged"
        # Complete results that could not be moved into place are kept; the command says where.
        names = {name for name in _names(self._disk) if ".jaxsal-kept-" not in name}
        if names != self._names:
            more, fewer = sorted(names - self._names), sorted(self._names - names)
            return f"WRONG: left behind: {more}; missing: {fewer}"
        if _names(self._given) != self._before:
            return "WRONG: it changed what it was given"
        return GOES_ON

    def _differs(self, found: dict[str, Any]) -> str:
        names = [n for n in {**self._expected, **found} if found.get(n) != self._expected.get(n)]
        return f"{names[0]} is another" if names else ""

    def _damaged(self) -> Sequence[str]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._case.damaged(self._out)

    def _run(self, *more: str) -> Ended:
        said = io.StringIO()
        with (
            warnings.catch_warnings(),
            mock.patch.object(warnings, "showwarning", warnings.showwarning),
            redirect_stdout(io.StringIO()),
            redirect_stderr(said),
        ):
            warnings.simplefilter("default")
            status = main([*self._arguments, *more])
        errors = [line for line in said.getvalue().splitlines() if not line.startswith("[")]
        return Ended(status, "\n".join(errors))

    def _empty(self) -> None:
        for path in self._disk.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


@cache
def _ended_process() -> int:
    """The number of a process that is no more, as which the run appears that is killed."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _faults_of(operation: Operation) -> Iterator[str]:
    yield "EIO"
    if operation.kind in TAKES_SPACE:
        yield "ENOSPC"
    if operation.kind == "write":
        yield "short write"
    yield from ("killed", "power cut")


def _names(folder: Path) -> set[str]:
    return {without_chance(path.relative_to(folder).as_posix()) for path in folder.rglob("*")}


def _contents(folder: Path) -> dict[str, Any]:
    return {
        path.relative_to(folder).as_posix(): (
            os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
        )
        for path in folder.rglob("*")
    }


def table(outcomes: Iterable[tuple[Trial, str]]) -> str:
    """Operations × faults, with the outcomes, and how often there was which."""
    found: dict[Operation, dict[str, str]] = {}
    for trial, outcome in outcomes:
        found.setdefault(trial.operation, {})[trial.fault] = outcome
    cells = [
        [str(operation), *(by_fault.get(fault, "").partition(":")[0] for fault in FAULTS)]
        for operation, by_fault in found.items()
    ]
    rows = [["operation", *FAULTS], *cells]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    return "\n".join([*lines, "", summary(found)])


def summary(found: dict[Operation, dict[str, str]]) -> str:
    """How many operations there are, and of each fault how often it came to what."""
    lines = [f"{len(found)} operations"]
    for fault in FAULTS:
        outcomes = [by_fault[fault] for by_fault in found.values() if fault in by_fault]
        counts = Counter(outcome.partition(":")[0] for outcome in outcomes)
        if counts:
            told = ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common())
            lines.append(f"{fault}: {len(outcomes)} trials: {told}")
    wrong = {
        f"{operation}, {fault}: {outcome}"
        for operation, by_fault in found.items()
        for fault, outcome in by_fault.items()
        if outcome.startswith("WRONG")
    }
    return "\n".join([*lines, *sorted(wrong)])
