"""Folders of results: records, run.json, locks, and what interrupted runs left."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.images import SHAPE, nifti
from fuzz.judging import Files, Kind, Link, Pipe
from fuzz.values import as_json, changed, damaged, json_files
from hypothesis import strategies as st

from jaxsal.box import Box
from jaxsal.cohort.group import gather_tables
from jaxsal.cohort.report import write_report
from jaxsal.cohort.results import CohortResults
from jaxsal.cohort.status import cohort_status
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import Names
from jaxsal.cohort.storage.work import ScanWork
from jaxsal.experiments.each_scan import KeptRows
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.inputs.images import LoadedScan
from jaxsal.scan.unfinished import Unfinished
from jaxsal.store.claims import withdraw_all
from jaxsal.store.inside import require_no_links
from jaxsal.store.output_folder import OutputFolder, holds_results
from jaxsal.store.records import are_same, stamps
from jaxsal.training.log import TrainingLog
from jaxsal.training.scans import open_scans

STEM = "sub-01"
ENTRY = Entry("one", Scan((Path("flair.nii"),)), {"subject": "01"})
NAMES = Names(STEM)
RECORD, RUN, IDS = f".jaxsal/scans/{STEM}.json", "run.json", ".jaxsal/cohort.json"
_SHA = hashlib.sha256(nifti()).hexdigest()
_STAMP = {"file": "/nowhere/flair.nii", "size": 832, "mtime_ns": 1, "sha256": _SHA}
_ROW: dict[str, Any] = {
    **{"scan": "one", "subject": "01", "session": "", "label": 1, "kind": "predicted"},
    **{"voxels": 4, "volume_mm3": 4.0, "seconds": 0.5, "flair_max": 1.5, "region": "left"},
    "regions": [
        {"region": "left", "index": 1, "method": "smoothgrad-max", "channel": "flair"}
        | {"mass_share": 0.5, "peak": 1.0}
    ],
}
_FACTS = {"bytes": len(nifti()), "sha256": _SHA}
_RECORD: dict[str, Any] = {
    **{"id": "one", "stem": STEM, "status": "finished", "inputs": {"flair": _STAMP, "t1": None}},
    **{"reason": "", "rows": [_ROW], "files": {NAMES.labels: _FACTS}, "seconds": 0.5},
    "ran": {"device": "cpu", "jaxsal": "0.1.0"},
}
_COLUMNS = [
    {"key": key, "heading": key, "description": key, "digits": 1, "group": group}
    for key, group in [
        *((key, "") for key in ("scan", "subject", "session", "label", "kind", "volume_mm3")),
        *(("region", ""), ("flair_max", "flair")),
    ]
]
_METHOD = {
    **{"name": "smoothgrad-max", "maps": ["flair"], "files": ["flair_smoothgrad-max"]},
    **{"units": "1", "scale": "diverging", "subtitle": ""},
}
_IDENTITY: dict[str, Any] = {
    "jaxsal": "0.1.0",
    "precision": "float32",
    "model": {"architecture": {"channels": [4]}, "channels": ["flair"], "parameters_sha256": "x"},
    "prediction": {"threshold": 0.5},
    "settings": {"output": "cropped", "saliency": {"smoothgrad-max": {"samples": 2}}},
}
_RUN: dict[str, Any] = {
    **{"command": "cohort run", "layout": 2, "identity": _IDENTITY, "memory": 2**30, "scans": 1},
    **{
        "device": "cpu",
        "jaxsal": "0.1.0",
        "jax": "0.10",
        "python": "3.11",
        "libraries": {"x": "1"},
    },
    "outline": {"columns": _COLUMNS, "methods": [_METHOD]},
}
_NOTE = {"host": "h", "process": 1, "since": "2026-01-01T00:00:00+00:00"}
_LOCKS = ".jaxsal/locks"


def _folder() -> Files:
    return {
        RUN: as_json(_RUN),
        IDS: as_json({STEM: "one"}),
        RECORD: as_json(_RECORD),
        f"{_LOCKS}/1-of-1.json": as_json(_NOTE),
        f"{_LOCKS}/1-of-1.lock": b"",
        ".jaxsal/claims/x.note": b"",
        NAMES.labels: nifti(labels=True),
        "link": Link("../elsewhere"),
    }


def _all_of_cohort(folder: Path) -> None:
    """What looks at a folder, and what a run does first with each scan."""
    cohort = CohortFolder(folder)
    cohort_status(folder, verify=True)
    gather_tables(folder)
    write_report(folder, pictures=True, processes=1)
    for scan in CohortResults(folder).scans():
        assert scan.labels.size
        are_same(scan.record.inputs, ENTRY.scan, ("flair",))
    require_no_links(folder / ".jaxsal")  # as before any lock
    withdraw_all(folder / ".jaxsal" / "claims")
    cohort.complete_forgetting(STEM)
    for record in list(cohort.records()):
        record.missing(folder)
        cohort.forget(record)


def _records(sound: Files) -> st.SearchStrategy[Files]:
    odd = st.sampled_from([Pipe(), Link("/dev/zero"), Link("../../../elsewhere/victim")])
    row = changed(_ROW).map(lambda new: {RECORD: as_json({**_RECORD, "rows": [new]})})
    stamp = changed(_STAMP).map(
        lambda new: {RECORD: as_json({**_RECORD, "inputs": {"flair": new}})}
    )
    return st.one_of(json_files(RECORD, _RECORD), row, stamp, odd.map(lambda what: {RECORD: what}))


def _stamped(file: str, size: int) -> Files:
    stamp = {**_STAMP, "file": file, "size": size}
    row = {**_ROW, "label": 1}
    files = dict.fromkeys((NAMES.labels, NAMES.map(1, "flair_smoothgrad-max")), _FACTS)
    return {RECORD: as_json({**_RECORD, "inputs": {"flair": stamp}, "rows": [row], "files": files})}


COHORT_RECORD = Kind(
    "record of a scan",
    _folder,
    _records,
    _all_of_cohort,
    (
        lambda _: _stamped("/dev/zero", 0),
        lambda _: {**_stamped("case/pipe", 0), "pipe": Pipe()},
        lambda _: {RECORD: as_json({**_RECORD, "rows": [{**_ROW, "label": "one"}]})},
        lambda _: {RECORD: as_json({**_RECORD, "rows": [{"label": 1}]})},
        lambda _: {RECORD: as_json({**_RECORD, "seconds": float("nan")})},
        lambda _: {NAMES.labels: Link("/dev/zero")},
        lambda _: {NAMES.labels: Pipe()},
    ),
    share=0.3,
)


def _runs(sound: Files) -> st.SearchStrategy[Files]:
    outline = changed(_RUN["outline"]).map(lambda new: {RUN: as_json({**_RUN, "outline": new})})
    identity = changed(_IDENTITY).map(lambda new: {RUN: as_json({**_RUN, "identity": new})})
    odd = st.sampled_from([Pipe(), Link("/dev/zero"), Link("../elsewhere/victim"), b"\xff", None])
    places = [RUN, IDS, f"{_LOCKS}/1-of-1.json", ".jaxsal/claims/x.note", f"{_LOCKS}/gate.lock"]
    return st.one_of(
        *(json_files(RUN, _RUN), outline, identity, json_files(IDS, {STEM: "one"})),
        json_files(f"{_LOCKS}/1-of-1.json", _NOTE),
        st.builds(lambda place, what: {place: what}, st.sampled_from(places), odd),
    )


COHORT = Kind(
    "run.json, locks, ids",
    _folder,
    _runs,
    _all_of_cohort,
    (
        lambda _: {".jaxsal/claims/x.note": Pipe()},
        lambda _: {f"{_LOCKS}/1-of-1.lock": Pipe()},
        lambda _: {IDS: as_json({"../../../elsewhere/victim": "x", "a\0b": "y", STEM: 7})},
    ),
    share=0.3,
)

_GRID = Grid(SHAPE, np.eye(4))
_WORK = f".jaxsal/work/{STEM}"
_LESIONS = {"threshold": 0.5, "kinds": {"1": "TP", "2": "FP"}}
_PORTION = {"rows": {"1": {"seconds": 0.5}}, "files": {NAMES.labels: _FACTS}}


def _loaded() -> LoadedScan:
    ones = np.ones((*SHAPE, 1), np.float32)
    return LoadedScan(ones, _GRID, Box.whole(SHAPE))


def _work(folder: Path) -> None:
    work = ScanWork(CohortFolder(folder), STEM)
    work.begin({})
    work.lesions(_loaded())
    work.portion(0, [1])
    CohortFolder(folder).unfinished()
    work.settle()


def _works(sound: Files) -> st.SearchStrategy[Files]:
    volumes = st.sampled_from(["probability", "labels", "segmented", "entropy"])
    odd = st.sampled_from([Pipe(), Link("/dev/zero"), Link("../../../../elsewhere/victim"), None])
    names = ["lesions.json", "inputs.json", "record.json", "portion-00000.json", "labels.nii.gz"]
    return st.one_of(
        json_files(f"{_WORK}/lesions.json", _LESIONS),
        json_files(f"{_WORK}/portion-00000.json", _PORTION),
        json_files(f"{_WORK}/record.json", _RECORD),
        json_files(f"{_WORK}/inputs.json", {}),
        st.builds(
            lambda name, new: {f"{_WORK}/{name}.nii.gz": new},
            *(volumes, damaged(nifti(labels=True))),
        ),
        st.builds(lambda n, what: {f"{_WORK}/{n}": what}, st.sampled_from(names), odd),
    )


def _began() -> Files:
    labels = nifti(labels=True)
    return {
        **_folder(),
        f"{_WORK}/inputs.json": as_json({}),
        f"{_WORK}/lesions.json": as_json(_LESIONS),
        f"{_WORK}/portion-00000.json": as_json(_PORTION),
        **{f"{_WORK}/{n}.nii.gz": labels for n in ("probability", "labels", "segmented")},
        f"{_WORK}/files/{NAMES.labels}": nifti(),
        f"{_WORK}/files/link": Link("../../../../../elsewhere"),
    }


WORK = Kind(
    "unfinished scan",
    _began,
    _works,
    _work,
    (
        lambda _: {f"{_WORK}/record.json": Pipe()},
        lambda _: {f"{_WORK}/labels.nii.gz": Pipe()},
    ),
)

_KEPT = {
    "identity": hashlib.sha256(b"{}").hexdigest(),
    **{"inputs": {"flair": None}, "others": {}, "notes": ["n"]},
    "rows": [{"a": 1, "entry": {"id": "x", "images": ["image.nii"], "entities": {"subject": "x"}}}],
}


def _study(folder: Path) -> None:
    KeptRows(folder / "kept", ("flair",), {}).made(ENTRY)


KEPT = Kind(
    "rows of an experiment",
    lambda: {f"kept/{STEM}.json": as_json(_KEPT)},
    lambda sound: json_files(f"kept/{STEM}.json", _KEPT),
    _study,
    (
        lambda _: {
            f"kept/{STEM}.json": as_json({**_KEPT, "inputs": {"flair": {**_STAMP, "size": 0}}})
        },
    ),
)

_OURS = {"jaxsal": "0.1.0", "command": "explain", "files": {"instances.tsv": _SHA}}
_LEFT = ".jaxsal-unfinished"


def _explained(folder: Path) -> None:
    out = folder / "out"
    holds_results(out)
    unfinished = Unfinished(out)
    assert unfinished.lesions >= 0
    unfinished.require_none(overwrite=True)
    if unfinished.is_of({"a": 1}, overwrite=True):
        unfinished.rows(0, ["maps/a.nii.gz"])
        unfinished.is_of_lesions(np.ones(SHAPE, int))
    OutputFolder(out, overwrite=True).check()


def _explanations(sound: Files) -> st.SearchStrategy[Files]:
    odd = st.sampled_from([Pipe(), Link("/dev/zero"), Link("../../elsewhere/victim"), None])
    names = [RUN, f"{_LEFT}/record.json", f"{_LEFT}/portion-00000.json", "maps/x", "instances.tsv"]
    portion = {"rows": [{}], "files": {"maps/a.nii.gz": _FACTS}}
    return st.one_of(
        json_files(f"out/{RUN}", _OURS),
        json_files(f"out/{_LEFT}/record.json", {"identity": {"a": 1}}),
        json_files(f"out/{_LEFT}/portion-00000.json", portion),
        st.builds(lambda name, what: {f"out/{name}": what}, st.sampled_from(names), odd),
    )


EXPLAINED = Kind(
    "folder of explain",
    lambda: {
        f"out/{RUN}": as_json(_OURS),
        "out/instances.tsv": nifti(),
        f"out/{_LEFT}/record.json": as_json({"identity": {"a": 1}, "memory": 1}),
        f"out/{_LEFT}/portion-00000.json": as_json(
            {"rows": [{}], "files": {"maps/a.nii.gz": _FACTS}}
        ),
        f"out/{_LEFT}/files/maps/a.nii.gz": nifti(),
    },
    _explanations,
    _explained,
    (
        lambda _: {"out/instances.tsv": Pipe()},
        lambda _: {f"out/{_LEFT}/files/maps/a.nii.gz": Pipe()},
    ),
)


def _trained(folder: Path) -> None:
    scan = Scan((folder / "image.nii",), reference=folder / "labels.nii")
    entry = Entry("one", scan, {"subject": "01"})
    cache = folder / "cache"
    for name in ("image.npy", "voxels.npy", "starts.npy", "scan.json"):
        given = folder / name
        if given.is_symlink() or given.exists():  # takes the place of a sound copy's file
            open_scans([entry], ("flair",), None, cache)
            (found,) = cache.glob(f"*/{name}")
            if name == "scan.json" and given.is_file():
                made = json.loads(found.read_bytes())
                change = json.loads(given.read_bytes())
                found.write_text(
                    json.dumps({**made, **change} if isinstance(change, dict) else change)
                )
            else:
                found.unlink()
                given.rename(found)
    (scans,) = open_scans([entry], ("flair",), None, cache)
    scans.lesion_voxel(np.random.default_rng(0))
    stamps(scan, ("flair",))
    TrainingLog(folder, ("dice",), 3).close()


def _npy(shape: tuple[int, ...], dtype: str, content: bytes) -> bytes:
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content


def _copies(sound: Files) -> st.SearchStrategy[Files]:
    names = st.sampled_from(["image.npy", "voxels.npy", "starts.npy"])
    shapes = st.sampled_from([(), (0,), (2,), (2, 3), (10**9, 3), (2**40,), (5, 6, 4, 1), (-1,)])
    dtypes = st.sampled_from(["<i4", "<i8", "<f4", "|O", "<U9", "<M8[ns]", ">i4"])
    arrays = st.builds(
        _npy, shapes, dtypes, st.sampled_from([b"", bytes(24), bytes(480), b"\xff" * 48])
    )
    text = st.sampled_from(["²\t1", "1\t2\n2\t3", "1" * 5000 + "\t2", "\t\t", "-1\t3"])
    return st.one_of(
        st.builds(lambda name, content: {name: content}, names, arrays),
        st.builds(
            lambda name, content: {name: content}, names, damaged(_npy((2,), "<i8", bytes(16)))
        ),
        changed({"inputs": {"flair": _STAMP}}).map(lambda new: {"scan.json": as_json(new)}),
        text.map(lambda rows: {"log.tsv": f"step\tloss\n{rows}\n".encode()}),
        damaged(b"step\tloss\n1\t2\n").map(lambda content: {"log.tsv": content}),
    )


TRAINED = Kind(
    "folder of a training",
    lambda: {"image.nii": nifti(), "labels.nii": nifti(labels=True)},
    _copies,
    _trained,
    (
        lambda _: {"log.tsv": "step\tloss\n²\t1\n".encode()},
        lambda _: {"log.tsv": b"step\tloss\n\xff\t1\n"},
        lambda _: {"voxels.npy": _npy((10**9, 3), "<i4", b"")},
        lambda _: {"starts.npy": _npy((2,), "<i8", bytes(16)).replace(b"}", b" ")},
    ),
)
