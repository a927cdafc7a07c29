"""The folder of results: whole or not at all, and nothing of the user's lost."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiny import contents

from jaxsal.errors import InputError, OutputError
from jaxsal.store.files import file_checksum
from jaxsal.store.output_folder import OutputFolder, write_later

RECORD = {"command": "predict", "jaxsal": "1.2.3"}
FIRST = {"instances.tsv": b"first", "maps/lesion-0001.nii.gz": b"map", "index.html": b"page"}
SECOND = {"instances.tsv": b"second", "maps/lesion-0002.nii.gz": b"other map"}


def write(folder: Path, files: dict[str, bytes], *, overwrite: bool = False) -> None:
    with OutputFolder(folder, overwrite=overwrite) as results:
        for name, content in files.items():
            results.path(name).write_bytes(content)
        results.commit(RECORD)


def seen_in(folder: Path) -> dict[str, bytes]:
    return {name: file for name, file in contents(folder).items() if not name.startswith(".")}


def results_in(folder: Path) -> dict[str, bytes]:
    found = contents(folder)
    del found["run.json"]
    return found


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A folder with the results of an earlier run."""
    write(tmp_path / "out", FIRST)
    return tmp_path / "out"


def test_results_appear_with_a_record_of_their_checksums(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    with OutputFolder(folder) as results:
        results.path("instances.tsv").write_bytes(b"first")
        assert not [p for p in folder.iterdir() if not p.name.startswith(".")]
        results.commit(RECORD)
    assert set(contents(folder)) == {"instances.tsv", "run.json"}
    record = json.loads((folder / "run.json").read_text())
    # echo -n first | sha256sum
    checksum = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e"
    assert record == {**RECORD, "files": {"instances.tsv": checksum}}
    assert file_checksum(folder / "instances.tsv") == checksum


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("file managers leave this")
    write(tmp_path, FIRST)
    assert results_in(tmp_path) == {**FIRST, ".DS_Store": b"file managers leave this"}


def test_without_commit_nothing_appears(tmp_path: Path) -> None:
    with OutputFolder(tmp_path / "new" / "out") as results:
        results.path("instances.tsv").write_bytes(b"first")
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_is_made_of_results_is_replaced_and_goes_with_them(used: Path) -> None:
    for content in (b"of one reader", b"of two"):
        write_later(used, "ratings.html", content)
        assert results_in(used) == {**FIRST, "ratings.html": content}
    write(used, SECOND, overwrite=True)
    assert results_in(used) == SECOND


@pytest.mark.parametrize("before", [b"", b"of one reader"])
def test_a_page_of_the_users_is_neither_replaced_nor_removed(used: Path, before: bytes) -> None:
    if before:
        write_later(used, "ratings.html", before)
    (used / "ratings.html").write_bytes(before + b"mine")
    told = contents(used)
    with pytest.raises(InputError, match=r"ratings.html was not written by jaxsal, or was changed"):
        write_later(used, "ratings.html", b"of two")
    with pytest.raises(InputError, match=r"holds files that no run .* such as ratings.html"):
        write(used, SECOND, overwrite=True)
    assert contents(used) == told


@pytest.mark.parametrize("number", [1, 2])
def test_a_page_can_be_made_again_after_a_kill(
    used: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_later(used, "ratings.html", b"of one reader")
    moves, replace = iter(range(1, 3)), os.replace

    def killed(source: Path, target: Path) -> None:
        if next(moves) == number:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_later(used, "ratings.html", b"of two")
    write_later(used, "ratings.html", b"of two")
    write(used, SECOND, overwrite=True)
    assert results_in(used) == SECOND


def test_where_no_results_are_no_page_is_made_of_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no results of jaxsal"):
        write_later(tmp_path, "ratings.html", b"of one reader")
    assert not contents(tmp_path)


@pytest.mark.parametrize("name", ["notes.txt", "instances.tsv", "maps/mine.nii.gz"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_of_other_files_is_refused_with_no_option_that_would_not_help(
    tmp_path: Path, name: str, overwrite: bool
) -> None:
    (tmp_path / "maps").mkdir()
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(InputError, match="holds no results of jaxsal but other") as raised:
        write(tmp_path, FIRST, overwrite=overwrite)
    assert "--overwrite" not in str(raised.value)
    assert contents(tmp_path) == {name: b"mine"}


def test_results_are_replaced_only_when_asked_to(used: Path) -> None:
    with pytest.raises(InputError, match=r"already holds results; .*--overwrite"):
        write(used, SECOND)
    assert results_in(used) == FIRST


def test_overwriting_replaces_the_earlier_results(used: Path) -> None:
    write(used, SECOND, overwrite=True)
    assert results_in(used) == SECOND
    write(used, {"instances.tsv": b"third"}, overwrite=True)
    assert results_in(used) == {"instances.tsv": b"third"}
    assert not (used / "maps").exists()


def test_overwriting_keeps_what_the_user_put_beside(used: Path) -> None:
    (used / "notes.txt").write_bytes(b"mine")
    (used / "figures").mkdir()
    (used / "figures" / "lesion-0001.png").write_bytes(b"mine too")
    write(used, SECOND, overwrite=True)
    mine = {"notes.txt": b"mine", "figures/lesion-0001.png": b"mine too"}
    assert results_in(used) == {**SECOND, **mine}


def test_a_result_never_takes_the_place_of_a_file_of_the_users(used: Path) -> None:
    (used / "notes.txt").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"notes\.txt, which no run of jaxsal wrote") as raised:
        write(used, {**SECOND, "notes.txt": b"a result"}, overwrite=True)
    assert results_in(kept_results(str(raised.value))) == {**SECOND, "notes.txt": b"a result"}
    assert {name: seen_in(used)[name] for name in FIRST} == FIRST
    assert (used / "notes.txt").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name", ["maps/mine.nii.gz", "maps/lesion-0009.nii.gz", "prediction.nii.gz", "pictures"]
)
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_of_the_users_where_results_go_blocks_the_run(
    used: Path, name: str, overwrite: bool
) -> None:
    (used / name).write_bytes(b"mine")
    before = contents(used)
    with pytest.raises(InputError, match=f"no run of jaxsal wrote.*{name}.*not overwritten"):
        OutputFolder(used, overwrite=overwrite).__enter__()
    assert contents(used) == before


def test_a_result_that_the_user_changed_blocks_the_run(used: Path) -> None:
    (used / "instances.tsv").write_bytes(b"first, corrected by hand")
    before = contents(used)
    with pytest.raises(InputError, match=r"changed since, such as instances\.tsv"):
        OutputFolder(used, overwrite=True).__enter__()
    assert contents(used) == before


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"files": {}}', '{"files": ["notes.txt"]}'])
def test_results_without_a_record_of_jaxsal_block_the_run(tmp_path: Path, record: str) -> None:
    (tmp_path / "run.json").write_text(record)
    (tmp_path / "notes.txt").write_bytes(b"mine")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="holds no results of jaxsal"):
        OutputFolder(tmp_path, overwrite=True).__enter__()
    assert contents(tmp_path) == before


def test_results_of_another_program_block_the_run(tmp_path: Path) -> None:
    (tmp_path / "prediction.nii.gz").write_bytes(b"mine")
    checksum = file_checksum(tmp_path / "prediction.nii.gz")
    record = {"command": "predict", "files": {"prediction.nii.gz": checksum}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    before = contents(tmp_path)
    with pytest.raises(InputError, match="holds no results of jaxsal"):
        OutputFolder(tmp_path, overwrite=True).__enter__()
    assert contents(tmp_path) == before


def test_a_malicious_record_removes_nothing_of_the_users(used: Path) -> None:
    outside, inside = used.parent / "thesis.txt", used / "notes.txt"
    for path in (outside, inside):
        path.write_bytes(b"mine")
    record = json.loads((used / "run.json").read_text())
    (used / "link").symlink_to(used.parent)
    names = ["../thesis.txt", "notes.txt", str(outside), "maps/../notes.txt", "."]
    names += ["link/thesis.txt", "a\0b", ""]
    record["files"].update(dict.fromkeys(names, file_checksum(outside)))
    (used / "run.json").write_text(json.dumps(record))
    write(used, SECOND, overwrite=True)
    (used / "link").unlink()
    assert outside.read_bytes() == inside.read_bytes() == b"mine"
    assert results_in(used) == {**SECOND, "notes.txt": b"mine"}


def test_what_a_link_leads_to_is_left_alone(used: Path) -> None:
    elsewhere = used.parent / "elsewhere"
    (used / "maps").rename(elsewhere)
    (used / "maps").symlink_to(elsewhere)
    with pytest.raises(InputError, match="such as maps"):
        OutputFolder(used, overwrite=True).__enter__()
    assert contents(elsewhere) == {"lesion-0001.nii.gz": b"map"}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError, InputError])
@pytest.mark.parametrize("earlier", [True, False])
def test_an_error_leaves_everything_as_it_was(
    tmp_path: Path, kind: type[BaseException], earlier: bool
) -> None:
    folder = tmp_path / "new" / "out"
    if earlier:
        write(folder, FIRST)
    before = sorted(tmp_path.rglob("*"))

    def fail() -> None:
        with OutputFolder(folder, overwrite=True) as results:
            results.path("maps/lesion-0003.nii.gz").write_bytes(b"half")
            raise kind

    with pytest.raises(kind):
        fail()
    assert sorted(tmp_path.rglob("*")) == before
    assert not earlier or results_in(folder) == FIRST


def kept_results(message: str) -> Path:
    """The folder that an error names."""
    found = re.search(r"results are kept in (.*)", message)
    assert found
    return Path(found[1])


@pytest.mark.parametrize("last", range(7))  # four go, three come
@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_an_error_while_results_are_moved_puts_all_back(
    used: Path, monkeypatch: pytest.MonkeyPatch, last: int, kind: BaseException
) -> None:
    replace, moved = os.replace, []

    def fail_once(source: Path, target: Path) -> None:
        if Path(target).parent.name != "new":  # not the record, which is written before
            moved.append(target)
            if len(moved) == last + 1:
                raise kind
        replace(source, target)

    before = contents(used)
    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(OutputError if isinstance(kind, OSError) else KeyboardInterrupt) as raised:
        write(used, SECOND, overwrite=True)
    assert seen_in(used) == before
    if isinstance(kind, OSError):
        assert results_in(kept_results(str(raised.value))) == SECOND
    else:
        assert contents(used) == before


def test_earlier_results_that_cannot_be_put_back_are_not_deleted(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if ".jaxsal-" not in str(target):
            raise OSError(errno.EROFS, "Read-only file system")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="Read-only"):
        write(used, SECOND, overwrite=True)
    assert set(FIRST.values()) <= set(contents(used).values())


def test_a_full_disk_is_reported_before_anything_changes(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(used)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left") as raised:
        write(used, SECOND, overwrite=True)
    assert seen_in(used) == before
    assert contents(kept_results(str(raised.value))) == SECOND


def test_results_of_another_run_meanwhile_are_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OutputFolder(tmp_path) as results:
        results.path("instances.tsv").write_bytes(b"second")
        monkeypatch.setattr(socket, "gethostname", lambda: "another-host")
        write(tmp_path, FIRST)
        with pytest.raises(InputError, match="already holds results") as raised:
            results.commit(RECORD)
    assert {name: file for name, file in seen_in(tmp_path).items() if name != "run.json"} == FIRST
    kept = kept_results(str(raised.value))
    assert results_in(kept) == {"instances.tsv": b"second"}
    write(tmp_path, SECOND, overwrite=True)
    assert results_in(kept) == {"instances.tsv": b"second"}


def test_a_folder_that_another_run_writes_into_is_refused_at_once(tmp_path: Path) -> None:
    with OutputFolder(tmp_path) as first:
        with pytest.raises(InputError, match=f"process {os.getpid()}, is writing into"):
            OutputFolder(tmp_path).__enter__()
        first.path("instances.tsv").write_bytes(b"first")
        first.commit(RECORD)
    assert set(contents(tmp_path)) == {"instances.tsv", "run.json"}
    assert not list(tmp_path.glob(".*"))


def staging_of(process: int, folder: Path, files: dict[str, bytes], host: str = "") -> Path:
    staging = folder / f".jaxsal-{process}-abc_123@{host or socket.gethostname()}"
    for name, content in files.items():
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).write_bytes(content)
    return staging


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("number", [None, 10**20])
def test_what_a_killed_run_left_is_removed(tmp_path: Path, number: int | None) -> None:
    process = number or ended_process()  # or a number that no process has
    staging = staging_of(process, tmp_path, {"new/maps/lesion-0001.nii.gz": b"half"})
    write(tmp_path, FIRST)
    assert not staging.exists()
    assert results_in(tmp_path) == FIRST


def test_a_living_process_is_recognised(tmp_path: Path) -> None:
    staging = staging_of(os.getppid(), tmp_path, {"new/instances.tsv": b"half"})
    before = contents(tmp_path)
    with pytest.raises(InputError, match=f"process {os.getppid()}, is writing") as raised:
        write(tmp_path, FIRST)
    assert str(staging) in str(raised.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["earlier/instances.tsv", "new/run.json"])
def test_what_may_be_the_only_copy_is_not_removed(tmp_path: Path, name: str) -> None:
    staging = staging_of(ended_process(), tmp_path, {name: b"only copy"})
    write(tmp_path, FIRST)
    assert contents(staging) == {name: b"only copy"}


def moved_when_the_power_went(used: Path) -> None:
    """All is at its place, and, but for links, still where it came from; the record is not."""
    files = {f"new/{name}": content for name, content in contents(used).items()}
    staging_of(ended_process(), used, files)
    (used / "run.json").unlink()


def test_what_a_power_cut_left_at_both_ends_of_its_move_is_taken_back(used: Path) -> None:
    moved_when_the_power_went(used)
    write(used, SECOND)
    assert results_in(used) == SECOND


def test_an_earlier_result_of_equal_content_stays_when_a_move_is_taken_back(used: Path) -> None:
    earlier = contents(used)
    staging_of(ended_process(), used, {f"new/{name}": file for name, file in earlier.items()})
    with pytest.raises(InputError, match="already holds results"):
        write(used, SECOND)
    assert seen_in(used) == earlier


def test_nothing_is_concluded_about_processes_of_another_host(tmp_path: Path) -> None:
    files = {"new/instances.tsv": b"theirs"}
    staging = staging_of(ended_process(), tmp_path, files, host="another-host")
    write(tmp_path, FIRST)
    assert contents(staging) == files


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    with pytest.raises(InputError, match="out is a file"):
        OutputFolder(tmp_path / "out", overwrite=overwrite).__enter__()
    assert contents(tmp_path) == {"out": b"mine"}


@pytest.mark.parametrize("name", ["file/out", "file/deeper/out"])
def test_a_folder_below_a_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(InputError, match=f"cannot write into .*{name}"):
        OutputFolder(tmp_path / name).__enter__()
    assert contents(tmp_path) == {"file": b"mine"}


def test_where_nothing_may_be_written_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)  # rights do not bind every user
    with pytest.raises(InputError, match=r"cannot write into .*Permission denied"):
        OutputFolder(tmp_path / "new" / "out").__enter__()
    assert list(tmp_path.iterdir()) == []
