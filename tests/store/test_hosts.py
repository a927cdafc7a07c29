"""Several hosts in one folder: who is kept out, and what is known of hosts that are gone.

A host is a process of another host's name.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from jaxsal.errors import InputError
from jaxsal.store.lock import WHOLE, Owner, Shard, locked, owners

ANOTHER = """
import socket, sys, time
from pathlib import Path
socket.gethostname = lambda: "another-host"
from jaxsal.store.lock import Shard, locked
with locked(Path(sys.argv[1]), Shard(1, int(sys.argv[2])), lambda others: None):
    print("at work", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    """The folder of the locks of a folder that hosts share."""
    return tmp_path / "out" / ".jaxsal" / "locks"


@pytest.fixture
def another(locks: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A run at work on another host, of the first of so many shards."""
    process = subprocess.Popen(
        [sys.executable, "-c", ANOTHER, str(locks), str(getattr(request, "param", 1))],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        yield process
        process.kill()


def hold(locks: Path, shard: Shard = WHOLE) -> Owner | None:
    """Takes the folder for a moment; returns who was killed in it."""
    with locked(locks, shard, lambda others: None) as killed:
        return killed


def test_a_run_on_another_host_keeps_others_out_and_is_named(
    locks: Path, another: subprocess.Popen[str]
) -> None:
    with pytest.raises(InputError, match=f"process {another.pid} on another-host"):
        hold(locks)
    assert owners(locks)["1/1"].host == "another-host"


@pytest.mark.parametrize("another", [2], indirect=True)
def test_another_shard_works_beside_it(locks: Path, another: subprocess.Popen[str]) -> None:
    assert hold(locks, Shard(2, 2)) is None
    with pytest.raises(InputError, match="on another-host"):
        hold(locks, Shard(1, 2))


def test_a_host_that_vanished_is_named_and_its_work_gone_on_with(
    locks: Path, another: subprocess.Popen[str]
) -> None:
    another.send_signal(signal.SIGKILL)
    another.wait()
    killed = hold(locks)
    assert killed is not None
    assert (killed.host, killed.process) == ("another-host", another.pid)
    assert hold(locks) is None  # it is told of once


@pytest.mark.parametrize("hours", [-1, 1])
def test_when_a_run_began_is_known_by_the_file_systems_clock_whatever_its_host_thinks(
    locks: Path, hours: int
) -> None:
    with locked(locks, WHOLE, lambda others: None):
        note = locks / "1-of-1.json"
        now = note.stat().st_mtime
        since = (datetime.now().astimezone() + timedelta(hours=hours)).isoformat()
        note.write_text(json.dumps({"host": "another-host", "process": 1, "since": since}))
        os.utime(note, (now, now))
        assert owners(locks)["1/1"] == Owner("another-host", 1, since, now)
        with pytest.raises(InputError, match="on another-host"):
            hold(locks)


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_in_a_sentence(
    locks: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(InputError, match=r"lets no file be locked .*choose a folder on another"):
        hold(locks)


@pytest.mark.filterwarnings("ignore:flock:UserWarning")
def test_without_flock_two_runs_are_still_kept_apart_or_refused(
    locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", missing)
    with (
        pytest.raises(InputError, match=rf"lets no file be locked|on {socket.gethostname()}"),
        locked(locks, WHOLE, lambda others: None),
    ):
        hold(locks)
