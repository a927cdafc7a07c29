"""A run survives what happens at night: it is killed, disks fill up, scans are bad."""

from __future__ import annotations

import _thread
import errno
import gzip
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from filelock import FileLock, Timeout
from helpers.cohorts import OPTIONS, SETTINGS, begin, make_cohort, results, run, write_manifest
from helpers.thorough import thorough_except
from helpers.tiny import contents, read_table, save

from jaxsal.cohort.status import cohort_status
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import TABLES
from jaxsal.errors import InputError, OutputError
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.model import Model
from jaxsal.progress import Progress
from jaxsal.store.lock import Shard
from jaxsal.store.records import Stamp

KILLED_RUN = str(Path(__file__).parents[1] / "helpers" / "killed_run.py")


@pytest.fixture
def own(tmp_path: Path) -> list[Entry]:
    """A cohort of two scans whose files may be changed."""
    return make_cohort(tmp_path / "own cohort", 2)


@pytest.fixture(scope="session")
def command(
    entries: list[Entry], model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """Arguments of the run of the tiny cohort, but for its folder."""
    manifest = write_manifest(tmp_path_factory.mktemp("manifest") / "Kohorte ä.tsv", entries)
    return ["cohort", "run", str(model_folder), str(manifest), *OPTIONS]


@pytest.fixture(scope="session")
def environment(programs: Path) -> dict[str, str]:
    """Of other processes: they share what they compile."""
    return {**os.environ, "JAXSAL_CACHE": str(programs)}


def unfinished_names(folder: Path) -> list[str]:
    """Files outside of the hidden folder that no record tells of and no run writes at its end."""
    told = {name for record in CohortFolder(folder).records() for name in record.files}
    own = {"run.json", "dataset_description.json", "README", ".bidsignore", "report.html", *TABLES}
    return [name for name in results(folder) if name not in told | own]


AMIDST = 100  # changes of files: a scan has finished portions, and is not finished


@pytest.mark.thorough
@pytest.mark.parametrize("times", thorough_except([2, 10], 2))
def test_a_run_killed_at_random_points_leaves_no_map_that_looks_finished_and_is_gone_on_with(
    times: int,
    command: list[str],
    environment: dict[str, str],
    tmp_path: Path,
    expected: dict[str, Any],
) -> None:
    out = tmp_path / "out"
    # The whole takes about 600 changes of files, so that each of these is before the end.
    points = [AMIDST, *random.Random(6).sample(range(1, 70), times - 1)]
    done = 0
    for point in [*points, 0]:
        ended = subprocess.run(
            [
                sys.executable,
                KILLED_RUN,
                str(point),
                *command,
                "--out",
                str(out),
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == (-signal.SIGKILL if point else 0), ended.stderr
        if point == AMIDST:
            assert CohortFolder(out).unfinished()
            assert unfinished_names(out) == []
        if (out / "run.json").exists():
            status = cohort_status(out, verify=True)
            assert status.finished >= done
            assert status.damaged == []
            done = status.finished
    assert results(out) == expected
    assert "an earlier run was killed" in ended.stderr
    assert not list((out / ".jaxsal" / "work").iterdir())


@pytest.mark.thorough
def test_sigterm_ends_a_run_in_good_order(
    command: list[str], environment: dict[str, str], tmp_path: Path, expected: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    arguments = [sys.executable, "-m", "jaxsal", *command, "--out", str(out)]
    process = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
    while not list(out.glob(".jaxsal/work/*/portion-*.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    assert cohort_status(out).runs["1/1"].process == process.pid
    process.terminate()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "the same command goes on from there" in said
    assert cohort_status(out).runs == {}
    assert unfinished_names(out) == []
    subprocess.run(arguments, env=environment, check=True, capture_output=True)
    assert results(out) == expected


def test_an_interrupted_run_keeps_its_portions(
    entries: list[Entry], tiny_model: Model, tmp_path: Path, expected: dict[str, Any]
) -> None:
    def interrupt(entry: Entry, progress: Progress) -> None:
        if progress.lesions_done > 1 and progress.gradients_done and not sent:
            sent.append(True)
            _thread.interrupt_main()  # as Ctrl-C does
            time.sleep(1)

    sent: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        list(begin(tiny_model, entries, tmp_path, on_scan=interrupt))
    portion = next(tmp_path.glob(".jaxsal/work/*/portion-00000.json"))
    recorded = {row["seconds"] for row in json.loads(portion.read_bytes())["rows"].values()}
    assert cohort_status(tmp_path).runs == {}
    run(tiny_model, entries, tmp_path)
    rows = [row for record in CohortFolder(tmp_path).records() for row in record.rows]
    assert recorded <= {row["seconds"] for row in rows}  # it was not computed again
    for record in CohortFolder(tmp_path).records():
        assert record.seconds >= 0.999 * sum(row["seconds"] for row in record.rows)
    assert results(tmp_path) == expected


def test_a_full_disk_ends_a_run_which_goes_on_later(
    entries: list[Entry],
    tiny_model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expected: dict[str, Any],
) -> None:
    room = iter(range(40))  # changes that still fit: amidst the first scan

    def fsync(file: int) -> None:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OutputError, match="No space left"):
            run(tiny_model, entries, tmp_path)
    assert cohort_status(tmp_path, verify=True).damaged == []
    assert unfinished_names(tmp_path) == []
    run(tiny_model, entries, tmp_path)
    assert results(tmp_path) == expected


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that nobody can write")
def test_a_folder_that_cannot_be_written_is_refused(
    entries: list[Entry], tiny_model: Model
) -> None:
    with pytest.raises(InputError, match="cannot write into /proc/self"):
        run(tiny_model, entries, Path("/proc/self/out"))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def move_grid(path: Path) -> None:
    image = nib.load(path)
    data, affine = np.asanyarray(image.dataobj).copy(), image.affine.copy()
    affine[:3, 3] += 2
    save(path, data, affine)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (cut_in_half, "truncated"),
        (move_grid, "must lie on one grid"),
        (Path.unlink, "does not exist"),
    ],
)
def test_a_bad_scan_is_recorded_and_the_others_are_done(
    spoil: Any,
    reason: str,
    own: list[Entry],
    tiny_model: Model,
    tmp_path: Path,
) -> None:
    good = own[0].scan.images[1].read_bytes()
    spoil(own[0].scan.images[1])
    out = tmp_path / "out"
    by_id = {result.id: result for result in run(tiny_model, own, out)}
    assert by_id[own[0].id].status == "failed"
    assert reason in by_id[own[0].id].reason
    assert by_id[own[1].id].status == "finished"
    assert [row["status"] for row in read_table(out / "status.tsv")] == ["failed", "finished"]
    assert [r.is_new for r in run(tiny_model, own, out)] == [False, False]
    again = {r.id: r for r in run(tiny_model, own, out, retry_failed=True)}
    assert (again[own[0].id].is_new, again[own[1].id].is_new) == (True, False)
    own[0].scan.images[1].write_bytes(good)  # a mended scan is noticed without being asked for
    assert {r.status for r in run(tiny_model, own, out)} == {"finished"}


def test_an_unexpected_error_is_a_bad_scans_too(
    own: list[Entry], tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("of all things")

    with monkeypatch.context() as patch:
        patch.setattr("jaxsal.cohort.job.find_uncertain_lesions", fail)
        found = run(tiny_model, own, tmp_path / "out")
    assert [r.reason for r in found] == ["ZeroDivisionError: of all things"] * 2
    record = next(CohortFolder(tmp_path / "out").records())
    assert "Traceback" in record.ran["traceback"]


def test_a_changed_image_is_noticed_even_if_clocks_went_back(
    own: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(tiny_model, own, out)
    before = results(out)
    touched, changed = own[0].scan.images[0], own[1].scan.images[0]
    os.utime(touched, (1, 1))
    assert not any(r.is_new for r in run(tiny_model, own, out))  # the same content
    image = nib.load(changed)
    save(changed, np.asanyarray(image.dataobj) * (1 + 0.1 * np.eye(28, 20)), image.affine)
    os.utime(changed, (1, 1))
    cohort = begin(tiny_model, own, out)
    assert [r.is_new for r in sorted(cohort, key=lambda r: r.id)] == [False, True]
    assert cohort.notes == [f"{own[1].id}: its files have changed since; it is done again"]
    after = results(out)
    assert {
        name for name in before if name.startswith("sub-00") and before[name] != after[name]
    } == set()
    assert after["lesions.tsv"] != before["lesions.tsv"]
    assert unfinished_names(out) == []


def test_a_result_that_is_gone_is_made_again(
    own: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(tiny_model, own, out)
    before = results(out)
    next(out.glob("sub-01/anat/*_saliency.nii.gz")).unlink()
    assert sum(r.is_new for r in run(tiny_model, own, out)) == 1
    assert results(out) == before


def test_a_damaged_result_is_found_by_its_checksum(
    own: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    run(tiny_model, own[:1], tmp_path / "out")
    path = next((tmp_path / "out").glob("sub-00/anat/*_saliency.nii.gz"))
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    assert cohort_status(tmp_path / "out").damaged is None
    assert cohort_status(tmp_path / "out", verify=True).damaged == [
        path.relative_to(tmp_path / "out").as_posix()
    ]


@pytest.mark.parametrize("what", ["settings", "model"])
def test_other_settings_or_another_model_are_refused_or_begin_anew(
    what: str, own: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(tiny_model, own[:1], out)
    (out / "sub-00" / "mine.txt").write_text("not of jaxsal")
    before = contents(out)
    options: dict[str, Any] = {}
    model = tiny_model
    if what == "settings":
        options["settings"] = replace(SETTINGS, output="table")
    else:
        parameters = {name: 1.01 * value for name, value in tiny_model.parameters.items()}
        model = replace(tiny_model, parameters=parameters)
    with pytest.raises(
        InputError, match=r"results of (other settings|another model), which are not mixed"
    ):
        run(model, own[:1], out, **options)
    assert {k: v for k, v in contents(out).items() if "locks" not in k} == {
        k: v for k, v in before.items() if "locks" not in k
    }
    (again,) = run(model, own[:1], out, overwrite=True, **options)
    assert again.is_new
    assert (out / "sub-00" / "mine.txt").read_text() == "not of jaxsal"
    assert set(unfinished_names(out)) == {"sub-00/mine.txt"}


def test_a_folder_of_other_files_is_refused(
    own: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files, such as thesis\.txt"):
        run(tiny_model, own, tmp_path / "out", overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


@pytest.fixture
def at_work(entries: list[Entry], tiny_model: Model, tmp_path: Path) -> Iterator[Path]:
    """A folder in which a run of the first of two shards is at work."""
    cohort = begin(tiny_model, entries, tmp_path, shard=Shard(1, 2))
    next(cohort)
    yield tmp_path
    cohort.close()


@pytest.mark.parametrize("shard", [Shard(1, 2), Shard(1, 1), Shard(2, 3)], ids=str)
def test_a_second_run_is_refused_with_the_firsts_host_and_process(
    shard: Shard, at_work: Path, entries: list[Entry], tiny_model: Model
) -> None:
    def finished() -> set[Path]:
        """What stays; the first run goes on meanwhile with what it has not finished."""
        found = (f for f in at_work.rglob("*") if ".jaxsal" not in f.parts)
        return {f for f in found if f.suffix != ".part"}

    before = finished()
    with pytest.raises(InputError, match=rf"process {os.getpid()} on {socket.gethostname()}"):
        run(tiny_model, entries, at_work, shard=shard)
    assert finished() >= before
    assert list(cohort_status(at_work).runs) == ["1/2"]


def test_shards_of_other_scans_do_not_work_beside(
    at_work: Path, entries: list[Entry], tiny_model: Model
) -> None:
    before = contents(at_work)
    with pytest.raises(InputError, match="on another list of scans"):
        run(tiny_model, entries[:3], at_work, shard=Shard(2, 2))
    assert contents(at_work)["run.json"] == before["run.json"]


def test_a_run_ends_with_its_block(entries: list[Entry], tiny_model: Model, tmp_path: Path) -> None:
    with begin(tiny_model, entries, tmp_path) as cohort:
        next(cohort)
        assert list(cohort_status(tmp_path).runs) == ["1/1"]
    assert cohort_status(tmp_path).runs == {}


def test_a_folder_that_was_hardly_begun_is_gone_on_with(
    own: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "dataset_description.json").touch()
    (out / ".run.json.1-0a.part").touch()
    (result,) = run(tiny_model, own[:1], out)
    assert result.status == "finished"
    assert not list(out.glob(".*.part"))


class Killed(BaseException):
    """In place of a signal."""


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_kill_while_results_are_removed_leaves_none_of_them(
    steps: int,
    own: list[Entry],
    tiny_model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    run(tiny_model, own[:1], out)
    folder = CohortFolder(out)
    (record,) = folder.records()
    left, unlink = iter(range(steps)), Path.unlink

    def deadly(path: Path, missing_ok: bool = False) -> None:
        if next(left, None) is None:
            raise Killed
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(Path, "unlink", deadly)
        folder.forget(record)
    assert not list(folder.records())
    folder.complete_forgetting(record.stem)
    assert unfinished_names(out) == []


def test_tables_are_written_by_one_shard_at_a_time(
    own: list[Entry], tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(*_: object) -> None:
        lock = FileLock(tmp_path / "out" / ".jaxsal" / "locks" / "tables.lock", timeout=0)
        with pytest.raises(Timeout):
            lock.acquire()
        seen.append(True)

    seen: list[bool] = []
    monkeypatch.setattr("jaxsal.cohort.cohort_run.write_tables", waits)
    run(tiny_model, own[:1], tmp_path / "out")
    assert seen == [True]


def test_another_shard_may_work_beside(
    at_work: Path, entries: list[Entry], tiny_model: Model
) -> None:
    assert len(run(tiny_model, entries, at_work, shard=Shard(2, 2))) == len(entries) // 2


@pytest.mark.parametrize(("part", "parts"), [(0, 2), (3, 2), (1, 0)])
def test_a_shard_is_one_of_its_number(part: int, parts: int) -> None:
    with pytest.raises(InputError, match="such as 1/8"):
        Shard(part, parts)


def test_equal_files_of_one_content_are_not_read_twice(tmp_path: Path) -> None:
    """Checksums are looked at where size or time differ, so that thousands of scans resume soon."""
    path = tmp_path / "image.nii.gz"
    path.write_bytes(gzip.compress(b"1"))
    stamp = replace(Stamp.of(path), sha256="of another content")
    assert stamp.is_same(path)
    os.utime(path, (1, 1))
    assert not stamp.is_same(path)


def test_scans_that_may_not_be_read_are_told(
    own: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    nowhere = replace(own[0], scan=Scan((tmp_path, tmp_path)))
    (result,) = run(tiny_model, [nowhere], tmp_path / "out")
    assert "is a folder" in result.reason
