"""An interrupted run keeps its finished lesions; the same call goes on after them."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import ROI, TinyScan, contents, load, save

from jaxsal.errors import InputError, OutputError
from jaxsal.inputs.entries import Scan
from jaxsal.model import Model
from jaxsal.progress import Progress
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.explain import explain, forecast
from jaxsal.scan.predict import predict
from jaxsal.scan.unfinished import Unfinished
from jaxsal.settings import ExplainSettings, PredictSettings
from jaxsal.store.files import file_checksum

FINDING = PredictSettings(roi=ROI)
SETTINGS = ExplainSettings(SmoothGradSettings(samples=2, seed=5), pictures=False, portion=1)
KEPT = ".jaxsal-unfinished"


def run(model: Model, scan: TinyScan, out: Path, **arguments: object) -> list[str]:
    """Explains the tiny scan; returns what was said."""
    notes: list[str] = []
    settings = arguments.pop("settings", SETTINGS)
    given = Scan(arguments.pop("images", scan.images))
    explain(model, given, out, FINDING, settings, on_note=notes.append, **arguments)
    return notes


def interrupted(model: Model, scan: TinyScan, out: Path, lesions: int, **arguments: object) -> None:
    """Interrupts the run while it is on the lesion after so many."""
    done = 0

    def interrupt(progress: Progress) -> None:
        nonlocal done
        if progress.lesions_done == done == lesions:
            raise KeyboardInterrupt
        done = progress.lesions_done

    with pytest.raises(KeyboardInterrupt):
        run(model, scan, out, on_progress=interrupt, **arguments)


def results(out: Path) -> dict[str, bytes]:
    """All files but the two that hold times."""
    files = contents(out)
    return {name: files[name] for name in files if name not in ("run.json", "index.html")}


@pytest.fixture(scope="module")
def whole(
    scan: TinyScan, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The results of a run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole") / "out"
    run(tiny_model, scan, out)
    assert KEPT not in {path.name for path in out.iterdir()}
    return results(out)


@pytest.mark.parametrize("lesions", [1, 2])
def test_finished_lesions_are_kept_and_the_results_are_the_same(
    lesions: int, tmp_path: Path, scan: TinyScan, tiny_model: Model, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    interrupted(tiny_model, scan, out, lesions)
    assert [path.name for path in out.iterdir()] == [KEPT]
    assert Unfinished(out).lesions == lesions
    notes = run(tiny_model, scan, out)
    assert f"going on after {lesions} finished lesion" in notes[0]
    assert results(out) == whole


def test_an_interruption_of_the_rest_keeps_what_was_kept_before(
    tmp_path: Path, scan: TinyScan, tiny_model: Model, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    interrupted(tiny_model, scan, out, 1)
    interrupted(tiny_model, scan, out, 0)
    assert Unfinished(out).lesions == 1
    run(tiny_model, scan, out)
    assert results(out) == whole


@pytest.mark.thorough
def test_a_killed_run_is_gone_on_with(
    tmp_path: Path, scan: TinyScan, model_folder: Path, tiny_model: Model, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    program = f"""
import os, signal
from pathlib import Path
from jaxsal.checkpoints import load_model
from jaxsal.devices import computing_on
from jaxsal.inputs.entries import Scan
from jaxsal.scan.explain import explain
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.settings import ExplainSettings, PredictSettings

def kill(progress):
    if progress.lesions_done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

with computing_on(None):
    images = tuple(map(Path, {list(map(str, scan.images))}))
    settings = {SETTINGS!r}
    explain(load_model({str(model_folder)!r}), Scan(images), Path({str(out)!r}), {FINDING!r},
            settings, on_progress=kill)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert Unfinished(out).lesions == 1  # the second was complete, but not yet written
    run(tiny_model, scan, out)
    assert results(out) == whole


def test_a_full_disk_ends_the_run_and_what_was_kept_stays(
    tmp_path: Path,
    scan: TinyScan,
    tiny_model: Model,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, module = tmp_path / "out", sys.modules["jaxsal.scan.writing"]
    write = module.write_maps

    def full(paths: list[Path], *rest: object, **others: object) -> None:
        if "lesion-0002" in paths[0].name:
            raise OutputError("no space left")
        write(paths, *rest, **others)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_maps", full)
        with pytest.raises(OutputError, match="no space"):
            run(tiny_model, scan, out)
    assert Unfinished(out).lesions == 1
    run(tiny_model, scan, out)
    assert results(out) == whole


def test_other_settings_and_changed_files_are_refused_and_overwrite_begins_anew(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    out = tmp_path / "out"
    interrupted(tiny_model, scan, out, 1)
    other = replace(SETTINGS, saliency=replace(SETTINGS.saliency, seed=6))
    with pytest.raises(InputError, match=r"settings\.saliency\.seed was 5, is 6"):
        run(tiny_model, scan, out, settings=other)
    changed = save(tmp_path / "changed.nii.gz", load(scan.flair) + 1)
    with pytest.raises(InputError, match=r"inputs\.flair was"):
        run(tiny_model, scan, out, images=(changed, scan.t1))
    assert Unfinished(out).lesions == 1
    notes = run(tiny_model, scan, out, settings=other, overwrite=True)
    assert "going on" not in notes[0]


def test_overwrite_goes_on_with_its_own_interrupted_run(
    tmp_path: Path, scan: TinyScan, tiny_model: Model, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    run(tiny_model, scan, out, settings=replace(SETTINGS, labels=(1,)))
    before = contents(out)
    interrupted(tiny_model, scan, out, 1, overwrite=True)
    assert {name: bytes_ for name, bytes_ in contents(out).items() if KEPT not in name} == before
    notes = run(tiny_model, scan, out, overwrite=True)
    assert "going on after 1 finished lesion" in notes[0]
    assert results(out) == whole


def test_a_kept_file_that_changed_is_computed_again(
    tmp_path: Path, scan: TinyScan, tiny_model: Model, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    interrupted(tiny_model, scan, out, 2)
    next((out / KEPT).rglob("lesion-0001*.nii.gz")).write_bytes(b"damaged")
    notes = run(tiny_model, scan, out)
    assert "going on after 1 finished lesion" in notes[0]
    assert results(out) == whole


@pytest.mark.parametrize("listed", [False, True])
def test_files_that_no_run_wrote_are_no_results(
    listed: bool, tmp_path: Path, scan: TinyScan, tiny_model: Model, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    run(tiny_model, scan, out, settings=replace(SETTINGS, labels=(1,)))
    (out / "notes.txt").write_text("mine")
    interrupted(tiny_model, scan, out, 1, overwrite=True)
    planted = {
        name: planted_file(out / KEPT / "files" / name)
        for name in ("notes.txt", "prediction.nii.gz", "maps/lesion-0001_other.nii.gz")
    }
    if listed:
        change_record(out, lambda told: told["files"].update(planted))
    run(tiny_model, scan, out, overwrite=True)
    assert results(out) == {**whole, "notes.txt": b"mine"}
    recorded = json.loads((out / "run.json").read_bytes())["files"]
    assert not {"notes.txt", "maps/lesion-0001_other.nii.gz"} & set(recorded)


def planted_file(path: Path) -> str:
    """Writes a file; returns its checksum."""
    path.write_bytes(b"planted")
    return file_checksum(path)


def change_record(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the record of the first portion, of lesion 1."""
    record = out / KEPT / "portion-00000.json"
    told = json.loads(record.read_bytes())
    change(told)
    record.write_text(json.dumps(told))


RECORDS: dict[str, Callable[[dict[str, Any]], object]] = {
    "of no lesion": lambda told: told.update(rows=[], files={}),
    "of a row that is none": lambda told: told.update(rows=[1]),
    "of files elsewhere": lambda told: told["files"].update({"../../../mine.txt": "0"}),
}


@pytest.mark.parametrize("change", RECORDS.values(), ids=RECORDS.keys())
def test_a_record_that_is_not_of_its_lesions_is_not_believed(
    change: Callable[[dict[str, Any]], object],
    tmp_path: Path,
    scan: TinyScan,
    tiny_model: Model,
    whole: dict[str, bytes],
) -> None:
    out = tmp_path / "out"
    interrupted(tiny_model, scan, out, 1)
    change_record(out, change)
    notes = run(tiny_model, scan, out)
    assert "going on" not in notes[0]
    assert results(out) == whole


def test_links_in_what_is_kept_are_refused(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    interrupted(tiny_model, scan, out, 1)
    maps = out / KEPT / "files" / "maps"
    maps.rename(mine)
    maps.symlink_to(mine)
    before = contents(mine)
    with pytest.raises(InputError, match="is a symbolic link"):
        run(tiny_model, scan, out, overwrite=True)
    assert contents(mine) == before


def test_a_forecast_counts_as_the_progress_does_and_writes_nothing(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    seen: list[Progress] = []
    settings = replace(SETTINGS, portion=20)
    amount, duration = forecast(tiny_model, Scan(scan.images), tmp_path / "out", FINDING, settings)
    assert list(tmp_path.iterdir()) == []
    assert duration is not None
    assert duration.low <= duration.seconds <= duration.high
    notes = run(tiny_model, scan, tmp_path / "out", settings=settings, on_progress=seen.append)
    assert amount.total == seen[-1].gradients == seen[-1].gradients_done
    assert {progress.gradients for progress in seen} == {amount.total}
    assert notes[0] == str(amount)
    assert str(amount).startswith(f"{amount.total} gradients (2 noisy images, ")


def test_a_forecast_leaves_out_what_is_kept(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    out = tmp_path / "out"
    interrupted(tiny_model, scan, out, 2)
    before = contents(out)
    amount, _ = forecast(tiny_model, Scan(scan.images), out, FINDING, SETTINGS)
    assert (amount.kept, list(amount.rows)) == (2, [3])
    assert contents(out) == before


def test_a_forecast_counts_no_lesions_that_explaining_finds_no_more(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    out = tmp_path / "out"
    interrupted(tiny_model, scan, out, 1)
    record = out / KEPT / "record.json"
    told = json.loads(record.read_bytes())
    record.write_text(json.dumps({**told, "domains": "of another device"}))
    amount, _ = forecast(tiny_model, Scan(scan.images), out, FINDING, SETTINGS)
    assert (amount.kept, list(amount.rows)) == (0, [1, 2, 3])


def test_a_run_on_another_host_that_ends_first_takes_nothing_away(
    tmp_path: Path,
    scan: TinyScan,
    tiny_model: Model,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    others: list[list[str]] = []

    def other(progress: Progress) -> None:
        if progress.lesions_done == 1 and not others:
            with monkeypatch.context() as patch:
                patch.setattr(socket, "gethostname", lambda: "another-host")
                others.append([])
                others[0] = run(tiny_model, scan, out)

    with pytest.raises(InputError, match="already holds results") as raised:
        run(tiny_model, scan, out, on_progress=other)
    kept = Path(str(raised.value).partition("results are kept in ")[2])
    assert results(kept) == whole
    shutil.rmtree(kept.parent)
    assert results(out) == whole
    assert KEPT not in {path.name for path in out.iterdir()}


def test_predict_leaves_finished_lesions_alone_and_overwrite_removes_them(
    tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    out = tmp_path / "out"
    interrupted(tiny_model, scan, out, 1)
    before = contents(out)
    with pytest.raises(InputError, match=r"finished lesions.*same command.*--overwrite"):
        predict(tiny_model, Scan(scan.images), out, FINDING)
    assert contents(out) == before
    predict(tiny_model, Scan(scan.images), out, FINDING, overwrite=True)
    assert (out / "instances.tsv").exists()
    assert not (out / KEPT).exists()
