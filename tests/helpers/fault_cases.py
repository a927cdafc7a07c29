"""The commands whose every operation on files is made to fail, each on a toy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from helpers.cohorts import OPTIONS, make_cohort, results, write_manifest
from helpers.fault_trials import Case
from helpers.tiny import CHANNELS, contents, make_model, make_scan, read_table
from helpers.training_runs import make_cohort as make_training_cohort
from helpers.training_runs import write_config

import jaxsal.checkpoints
import jaxsal.cohort.job
import jaxsal.training.setup
from jaxsal.cohort.status import cohort_status
from jaxsal.errors import InputError


def model_in(folder: Path) -> str:
    """The tiny model's directory."""
    (folder / "scan").mkdir()
    jaxsal.checkpoints.save_model(make_model(make_scan(folder / "scan")), folder / "model")
    return str(folder / "model")


def _cohort(folder: Path) -> Sequence[str]:
    manifest = write_manifest(folder / "scans.tsv", make_cohort(folder / "cohort", 1))
    return ["cohort", "run", model_in(folder), str(manifest), *OPTIONS]


def _damaged(out: Path) -> Sequence[str]:
    with suppress(InputError):  # nothing was begun
        return cohort_status(out, verify=True).damaged or ()
    return ()


def _key(*parts: Any) -> str:
    """Of what is equal, the same text."""
    digest = hashlib.sha256()
    for part in parts:
        whole = isinstance(part, np.ndarray)
        digest.update(np.ascontiguousarray(part).tobytes() if whole else repr(part).encode())
    return digest.hexdigest()


def _once() -> Iterator[Any]:
    """Lesions are found, and maps computed, once for all runs; models are read once."""
    load, find, maps = (
        jaxsal.checkpoints.load_model,
        jaxsal.cohort.job.find_uncertain_lesions,
        jaxsal.cohort.job.maps_of,
    )
    known: dict[Any, Any] = {}

    def load_model(folder: Any, *arguments: Any) -> Any:
        key = (str(folder), *arguments)
        if key not in known:
            known[key] = load(folder, *arguments)
        return known[key]

    def find_lesions(model: Any, loaded: Any, *settings: Any) -> Any:
        key = _key(loaded.image, settings)
        if key not in known:
            known[key] = find(model, loaded, *settings)
        return replace(known[key], scan=loaded)

    def maps_of(model: Any, prediction: Any, wanted: Any, *others: Any) -> Iterator[Any]:
        key = _key(prediction.scan.image, wanted.domains, others[:2])
        if key not in known:
            known[key] = list(maps(model, prediction, wanted, *others))
        yield from known[key]

    yield mock.patch.object(jaxsal.checkpoints, "load_model", load_model)
    yield mock.patch.object(jaxsal.cohort.job, "find_uncertain_lesions", find_lesions)
    yield mock.patch.object(jaxsal.cohort.job, "maps_of", maps_of)


def _explain(folder: Path) -> Sequence[str]:
    model = model_in(folder)
    scan = [str(folder / "scan" / f"{channel}.nii.gz") for channel in CHANNELS]
    asked = ["--roi", "16", "--samples", "2", "--memory", "1", "--no-pictures"]
    return ["explain", model, "--image", *scan, *asked]


def _explained(out: Path) -> dict[str, Any]:
    """The files; of two that hold times, the names."""
    found = {name: content for name, content in contents(out).items() if name[0] != "."}
    return found | {name: name in found for name in ("run.json", "index.html")}


def _preprocess(folder: Path) -> Sequence[str]:
    manifest = write_manifest(folder / "scans.tsv", make_cohort(folder / "cohort", 1))
    asked = ["--skip-registration", "--skip-bias", "--voxel-size", "2", "--processes", "1"]
    return ["preprocess", str(manifest), *asked]


def _tables_and_files(out: Path) -> dict[str, Any]:
    """All but what is hidden and what tells of time."""
    found: dict[str, Any] = {
        name: content for name, content in contents(out).items() if name[0] != "."
    }
    for name in found:
        if name.endswith(".tsv"):
            found[name] = [{**row, "seconds": ""} for row in read_table(out / name)]
    return found | {name: name in found for name in ("run.json", "context.json")}


def _experiment(folder: Path) -> Sequence[str]:
    manifest = write_manifest(folder / "scans.tsv", make_cohort(folder / "cohort", 1))
    asked = ["--volume", "0:10000", "--steps", "2", "--roi", "16"]
    return ["experiment", "context", model_in(folder), str(manifest), *asked]


def _convert(folder: Path) -> Sequence[str]:
    import torch
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    network = UNet(3, 2, 2, channels=(4, 6), strides=(2,), norm="batch")
    torch.save(network.state_dict(), folder / "net.pth")
    return ["convert", "unet", str(folder / "net.pth"), "--channels", "flair", "t1"]


def _model(out: Path) -> dict[str, Any]:
    """A model's record but for the checksum of its files, and its parameters."""
    if not (out / "model.json").exists():
        return {}
    with suppress(InputError):
        model = jaxsal.checkpoints.load_model(out)
        record = json.loads((out / "model.json").read_bytes())
        del record["parameters"]["sha256"]
        return {"record": record} | {n: _key(np.asarray(v)) for n, v in model.parameters.items()}
    return {"damaged": True}


def _train(folder: Path) -> Sequence[str]:
    make_training_cohort(folder)
    short = {"steps = 6": "steps = 2", "every = 3": "every = 1", "every = 2": "every = 1"}
    return ["train", str(write_config(folder, short))]


def _compiled_once() -> Iterator[Any]:
    """The step is compiled once for all runs, which have one configuration."""
    real, made = jaxsal.training.setup.make_update, []

    def make_update(*arguments: Any, **options: Any) -> Any:
        if not made:
            made.append(real(*arguments, **options))
        return made[0]

    yield mock.patch.object(jaxsal.training.setup, "make_update", make_update)


def _trained(out: Path) -> dict[str, Any]:
    """Both models, and the table but for what tells of time."""
    rows = read_table(out / "log.tsv") if (out / "log.tsv").exists() else []
    timed = {"patches_per_second", "waited_share", "seconds"}
    log = [{key: cell for key, cell in row.items() if key not in timed} for row in rows]
    return {"log": log, "best": _model(out / "best"), "last": _model(out / "last")}


CASES = {
    case.name: case
    for case in (
        Case("cohort", _cohort, results, _damaged, _once),
        Case("explain", _explain, _explained, warm=_once, once=True),
        Case("preprocess", _preprocess, _tables_and_files),
        Case("experiment", _experiment, _tables_and_files, warm=_once),
        Case("convert", _convert, _model, once=True),
        Case("train", _train, _trained, warm=_compiled_once),
    )
}
