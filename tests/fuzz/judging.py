"""What becomes of a stranger's files: refused in a sentence, computed, or a fault.

A case is a folder of files. It is read within limits of time and memory, beside a file that must
stay as it is; whatever Python code writes, removes or starts outside of the folder is seen.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from hypothesis.strategies import SearchStrategy

from jaxsal.errors import JaxsalError

SECONDS = 30.0  # a case takes milliseconds; this is what a busy machine may need
BYTES = 2 * 2**30  # beyond what the process has
LONGEST = 8000  # characters of a message: a table's lists its first mistakes

Outcome = Literal["refused", "computed", "traceback", "hang", "memory", "outside"]
GOOD: tuple[Outcome, ...] = ("refused", "computed")


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Pipe:
    """A named pipe, from which reading waits for ever."""


Files = Mapping[
    str, "bytes | Link | Pipe | None"
]  # by their names in the folder; None: it is not there


@dataclass(frozen=True)
class Kind:
    """A kind of file that jaxsal reads.

    Attributes:
        name: of the kind.
        sound: the files of a folder that is read without complaint.
        cases: files that take the places of some of these, from the sound ones.
        read: reads the folder by all functions that read such files.
        seeds: what once was no sentence.
        share: of the cases of other kinds, for kinds that are slow to read.
    """

    name: str
    sound: Callable[[], Files]
    cases: Callable[[Files], SearchStrategy[Files]]
    read: Callable[[Path], object]
    seeds: tuple[Callable[[Files], Files], ...] = ()
    share: float = 1.0

    def strategy(self) -> SearchStrategy[Files]:
        """The cases."""
        return self.cases(_sound(self))

    def seed(self, number: int) -> Files:
        """One of the seeds."""
        return self.seeds[number](_sound(self))


@cache
def _sound(kind: Kind) -> Files:
    return kind.sound()


@dataclass(frozen=True)
class Verdict:
    """What became of a case, and the message or error."""

    outcome: Outcome
    said: str = ""


class _TooLong(BaseException):
    """The time is over; no handler of `Exception` takes it."""


class Judge:
    """Reads cases in a folder of its own.

    Args:
        root: the folder, empty.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.realpath(root))
        self._case, self._victim = self._root / "case", self._root / "elsewhere" / "victim"
        self._victim.parent.mkdir()
        self._victim.write_text("precious")
        (self._root / "temporary").mkdir()

    def __call__(self, kind: Kind, files: Files) -> Verdict:
        """Reads one case."""
        shutil.rmtree(self._case, ignore_errors=True)
        write(self._case, {**_sound(kind), **files})
        done: list[str] = []
        try:
            with _quiet(), _watched(self._root, done), _limited():
                kind.read(self._case)
            verdict = Verdict("computed")
        except JaxsalError as error:
            said = str(error)
            clean = all(c.isprintable() or c == "\n" for c in said) and 0 < len(said) < LONGEST
            verdict = Verdict("refused" if clean else "traceback", said)
        except _TooLong:
            verdict = Verdict("hang")
        except MemoryError as error:
            verdict = Verdict("memory", _shown(error))
        except Exception as error:
            verdict = Verdict("traceback", _shown(error))
        if done or not self._is_untouched():
            return Verdict("outside", done[0] if done else "the file beside the folder")
        return verdict

    def _is_untouched(self) -> bool:
        others = {"case", "elsewhere", "temporary"}
        return (
            self._victim.read_text() == "precious"
            and os.listdir(self._victim.parent) == ["victim"]
            and {*os.listdir(self._root)} == others
        )


def write(folder: Path, files: Files) -> None:
    """Writes the files of a case."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            continue
        if isinstance(content, Link):
            path.symlink_to(content.target)
        elif isinstance(content, Pipe):
            os.mkfifo(path)
        else:
            path.write_bytes(content)


def read_files(folder: Path) -> Files:
    """All files of a folder, as a case."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _shown(error: BaseException) -> str:
    place = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "/jaxsal" in code.co_filename or "/converters/" in code.co_filename:
            place = f"{Path(code.co_filename).name}:{trace.tb_lineno} "
        trace = trace.tb_next
    return f"{place}{type(error).__name__}: {str(error)[:300]!r}"


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _limited() -> Iterator[None]:
    """Ends what takes too long or too much memory, where the system can."""

    def end(signal: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def _base(descriptor: object) -> str:
    """The folder that a name is relative to, where it is given as an open one."""
    if isinstance(descriptor, int) and descriptor >= 0 and not isinstance(descriptor, bool):
        with suppress(OSError):
            return os.readlink(f"/proc/self/fd/{descriptor}")
    return os.getcwd()


_STARTS = {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"}
_CHANGES = {
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"),
    *("os.chmod", "os.chown", "os.utime", "shutil.rmtree"),
}
_BY_DESCRIPTOR = {"os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}  # of the folder
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_watching: list[tuple[str, list[str]]] = []  # the folder, and what was done outside of it


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    root, done = _watching[-1]
    if event in _STARTS:
        done.append(f"{event} {arguments!r}"[:300])
    elif event in _CHANGES or _writes(event, arguments):
        named = arguments[:1] if event == "open" else arguments
        places = [a for a in named if isinstance(a, str | bytes | os.PathLike)]
        base = _base(arguments[-1]) if event in _BY_DESCRIPTOR else os.getcwd()
        for place in places[1 if event in ("os.link", "os.symlink") else 0 :]:
            path = os.path.join(base, os.fsdecode(place))
            real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            if not real.startswith(root) and real != os.devnull:
                done.append(f"{event} {path}")


def _writes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether a file is opened by its name to be written."""
    named = event == "open" and not isinstance(arguments[0], int)
    return named and bool(int(arguments[2] or 0) & _WRITES)


@cache
def _hook() -> None:
    sys.addaudithook(_hear)  # which cannot be taken away


@contextmanager
def _watched(root: Path, done: list[str]) -> Iterator[None]:
    """Notes what is changed outside of a folder; temporary files lie in it."""
    _hook()
    before, tempfile.tempdir = tempfile.tempdir, str(root / "temporary")
    _watching.append((f"{root}{os.sep}", done))
    try:
        yield
    finally:
        _watching.pop()
        tempfile.tempdir = before
