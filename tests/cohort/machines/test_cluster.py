"""Cohorts on many machines: with workers in processes of their own, one of them killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import jax
import pytest
from helpers.cohorts import PREDICTION, SETTINGS, begin, results, run

from jaxsal.checkpoints import load_model, save_model
from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.machines import task
from jaxsal.cohort.machines.cluster import Cluster
from jaxsal.cohort.machines.order import Order, UnableError
from jaxsal.cohort.machines.task import budget, explain_entry
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.model import Model
from jaxsal.nets.swin_unetr_config import SwinUNETRConfig
from jaxsal.preprocessing import Preprocessing
from jaxsal.settings import PredictSettings
from jaxsal.store.claims import Claim, Patience

distributed = pytest.importorskip("distributed")

NOWHERE = "tcp://127.0.0.1:9"
PATIENCE = 120.0  # seconds; only what is broken takes as long


@pytest.fixture(scope="module")
def cluster(
    model_folder: Path,
    entries: list[Entry],
    programs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    """A scheduler with two workers, of which only the first has to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSAL_CACHE", str(programs))
        cluster = distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=True,
            memory_limit=0,
            dashboard_address=":0",
            local_directory=str(tmp_path_factory.mktemp("dask")),
        )
        with cluster:
            out = tmp_path_factory.mktemp("first") / "out"
            run(model_folder, entries[:1], out, scheduler=cluster.scheduler_address)
            cluster.scale(2)
            cluster.wait_for_workers(2, timeout=PATIENCE)
            yield cluster


@pytest.fixture(scope="module")
def scheduler(cluster: Any) -> str:
    """Its address."""
    return str(cluster.scheduler_address)


@pytest.mark.thorough
def test_a_killed_worker_costs_neither_the_run_nor_recorded_portions(
    scheduler: str,
    model_folder: Path,
    entries: list[Entry],
    expected: dict[str, Any],
    tmp_path: Path,
) -> None:
    out, killed = tmp_path / "out", {}
    killing = threading.Thread(target=lambda: killed.update(kill_a_worker(scheduler, out)))
    killing.start()
    found = run(model_folder, entries, out, scheduler=scheduler)
    killing.join()
    assert sorted(result.id for result in found) == sorted(entry.id for entry in entries)
    assert {result.status for result in found} == {"finished"}
    assert all(path.is_file() for result in found for path in result.files)
    assert results(out) == expected
    record = CohortFolder(out).record(killed["stem"])
    assert record is not None
    seconds = {row["label"]: row["seconds"] for row in record.rows}
    assert killed["seconds"]
    assert {label: seconds[label] for label in killed["seconds"]} == killed["seconds"]


def kill_a_worker(scheduler: str, out: Path) -> dict[str, Any]:
    """Kills a worker when it has recorded a portion of a scan; tells what it had recorded."""
    work, end = out / ".jaxsal" / "work", monotonic() + PATIENCE
    with distributed.Client(scheduler, set_as_default=False) as client:
        while not (recorded := sorted(work.glob("*/portion-00000.json"))):
            assert monotonic() < end, "no portion was recorded"
            sleep(0.002)
        stem = recorded[0].parent.name
        given = client.processing()
        address = next(a for a, keys in given.items() if any(f"-{stem}-" in key for key in keys))
        os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)
    portion = json.loads(recorded[0].read_bytes())
    seconds = {int(label): row["seconds"] for label, row in portion["rows"].items()}
    return {"stem": stem, "seconds": seconds}


@pytest.mark.thorough
def test_a_scan_that_workers_do_not_survive_is_recorded_and_can_be_tried_again(
    cluster: Any,
    model_folder: Path,
    entries: list[Entry],
    expected: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, killed = tmp_path / "out", {}
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    address = cluster.scheduler_address
    killing = threading.Thread(target=lambda: killed.update(kill_a_worker(address, out)))
    killing.start()
    found = run(model_folder, entries, out, scheduler=address)
    killing.join()
    failed = {result.id: result.reason for result in found if result.status == "failed"}
    record = CohortFolder(out).record(killed["stem"])
    assert record is not None
    assert "workers that computed it ended, 1 of them" in failed[record.id]
    assert len(found) == len(entries)
    again = run(model_folder, entries, out, scheduler=address, retry_failed=True)
    assert {result.id for result in again if result.is_new} == set(failed)
    assert results(out) == expected


@pytest.mark.thorough
def test_a_run_that_is_closed_leaves_no_worker_at_work_and_can_be_gone_on_with(
    scheduler: str,
    model_folder: Path,
    entries: list[Entry],
    expected: dict[str, Any],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    begun = begin(model_folder, entries, out, scheduler=scheduler)
    first = next(begun)
    begun.close()
    with distributed.Client(scheduler, set_as_default=False) as client:
        assert not any(client.processing().values())
    assert CohortFolder(out).runs() == {}
    rest = run(model_folder, entries, out, scheduler=scheduler)
    assert first.id in {result.id for result in rest if not result.is_new}
    assert results(out) == expected


def test_a_bad_scan_is_recorded_and_the_others_go_on(
    scheduler: str, model_folder: Path, entries: list[Entry], tmp_path: Path
) -> None:
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(entries[0].scan.images[0].read_bytes()[:5000])
    bad = Entry("bad", Scan((cut, entries[0].scan.images[1])), {"subject": "bad"})
    out, scans = tmp_path / "out", [bad, entries[1]]
    found = {r.id: r for r in run(model_folder, scans, out, scheduler=scheduler)}
    assert found[entries[1].id].status == "finished"
    assert found["bad"].status == "failed"
    assert str(cut) in found["bad"].reason
    record = CohortFolder(out).record("sub-bad")
    assert record is not None
    assert record.reason == found["bad"].reason
    again = run(model_folder, scans, out, scheduler=scheduler)
    assert [result.is_new for result in again] == [False, False]


@pytest.mark.thorough
def test_workers_with_another_model_are_refused(
    scheduler: str, tiny_model: Model, entries: list[Entry], tmp_path: Path
) -> None:
    save_model(tiny_model, tmp_path / "model")
    begun = begin(tmp_path / "model", entries, tmp_path / "out", scheduler=scheduler)
    save_model(replace(tiny_model, threshold=0.5), tmp_path / "model", overwrite=True)
    with pytest.raises(
        InputError, match="another model and prediction than the run was begun with"
    ):
        list(begun)


@pytest.mark.thorough
def test_workers_resample_as_the_run_does(
    scheduler: str, tiny_model: Model, entries: list[Entry], tmp_path: Path
) -> None:
    coarse = Preprocessing(spacing=(1.5, 1.5, 1.5))
    save_model(replace(tiny_model, preprocessing=coarse), tmp_path / "model")
    model = load_model(tmp_path / "model").with_resampling("linear", any_size=True)
    run(model, entries[:1], tmp_path / "here")
    options = {"scheduler": scheduler, "model_folder": tmp_path / "model"}
    run(model, entries[:1], tmp_path / "there", **options)
    run(tmp_path / "model", entries[:1], tmp_path / "cubic", scheduler=scheduler)
    here, there, cubic = (results(tmp_path / name) for name in ("here", "there", "cubic"))
    assert there == here
    (map_,) = [name for name in here if name.endswith("label-L_probseg.nii.gz")]
    assert here[map_] != cubic[map_]


@pytest.mark.thorough
def test_what_is_ordered_is_the_model_as_the_run_applies_it(tmp_path: Path) -> None:
    config = SwinUNETRConfig.from_arguments(
        {"in_channels": 1, "out_channels": 2, "feature_size": 12}
    )
    known = Preprocessing(spacing=(1.0, 1.0, 1.0), mirror_axes=(0, 2))
    save_model(replace(Model.initialise(config, ("t1",)), preprocessing=known), tmp_path / "model")
    plain = load_model(tmp_path / "model")
    model = plain.with_resampling("linear", any_size=True).with_mirroring()
    model = model.with_rematerialisation()
    job = CohortJob(model, PredictSettings(roi=(32, 32, 32)), SETTINGS)
    loaded = Order.of(job, tmp_path / "model").load()
    assert loaded.preprocessing == model.preprocessing != plain.preprocessing
    assert loaded.function == model.function


def test_a_worker_that_cannot_do_what_is_ordered_leaves_it_to_others(
    scheduler: str, model_folder: Path, entries: list[Entry], tmp_path: Path
) -> None:
    def spoil() -> None:
        from jaxsal.cohort.machines import task as there
        from jaxsal.errors import InputError

        def unable(*_: Any) -> None:
            raise InputError("the model directory is not there")

        there.job_before, there.ordered_job = there.ordered_job, unable

    def mend() -> None:
        from jaxsal.cohort.machines import task as there

        there.ordered_job = there.job_before

    with distributed.Client(scheduler, set_as_default=False) as client:
        workers = sorted(client.nthreads())[:1]
        client.run(spoil, workers=workers)
        found = run(model_folder, entries[:2], tmp_path / "out", scheduler=scheduler)
        client.run(mend, workers=workers)
    assert [result.status for result in found] == ["finished", "finished"]


def test_a_folder_that_is_not_shared_is_told(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "Claim", partial(Claim, patience=Patience(find=0.0)))
    monkeypatch.setattr(task, "worker_address", lambda: "tcp://here:1")
    order = Order("model", "float32", None, False, (), PREDICTION, SETTINGS, "{}")
    with pytest.raises(UnableError, match="give a folder that all machines share") as raised:
        explain_entry(order, entries[0], str(tmp_path / "another disk"), "run")
    assert raised.value.worker == "tcp://here:1"


def test_a_wrong_address_is_told(model_folder: Path) -> None:
    cluster = Cluster(NOWHERE, model_folder, explain_entry, budget, patience=0.5)
    with pytest.raises(InputError, match=f"no Dask scheduler answers at '{NOWHERE}'"):
        cluster.memory()


def test_a_scheduler_without_workers_is_told(model_folder: Path) -> None:
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0") as empty:
        address = empty.scheduler_address
        cluster = Cluster(address, model_folder, explain_entry, budget, patience=0.5)
        with pytest.raises(InputError, match="has no workers"):
            cluster.memory()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": None}, "give a folder for the results"),
        ({"devices": jax.devices()}, "devices are the workers' own"),
    ],
)
def test_what_workers_cannot_be_given_is_refused(
    options: dict[str, Any], message: str, model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        begin(model_folder, [], **{"out": tmp_path, "scheduler": NOWHERE, **options})


def test_a_model_in_memory_is_refused(tiny_model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the model as its directory"):
        begin(tiny_model, [], tmp_path, scheduler=NOWHERE)


def test_dask_that_is_missing_is_told(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'jaxsal\[distributed\]'"):
        begin(model_folder, [], tmp_path, scheduler=NOWHERE)
