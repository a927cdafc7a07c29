"""Tables of scans, and what else describes a cohort: BIDS's sidecars and descriptions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fuzz.images import SHAPE, nifti
from fuzz.judging import Files, Kind, Link, Pipe
from fuzz.values import OUTSIDE, TEXTS, as_json, damaged, json_files
from hypothesis import strategies as st

from jaxsal.cohort.storage.names import RESULTS
from jaxsal.grid import Grid
from jaxsal.inputs.sources import has_subjects, read_cohort, warn_if_mixed
from jaxsal.preparation.skull import is_skull_stripped
from jaxsal.report.ratings import read_ratings
from jaxsal.store.bids_dataset import describe
from jaxsal.store.records import stamps
from jaxsal.volumes import Volume

COLUMNS = ("scan", "flair", "t1", "reference", "subject", "session", "parcellation", "other")


def _cohort(folder: Path) -> None:
    entries = read_cohort(folder / "scans.tsv", ("flair", "t1"))
    has_subjects(folder / "scans.tsv")
    warn_if_mixed(entries, None)
    for entry in entries:
        stamps(entry.scan, ("flair", "t1"))


@st.composite
def _tables(draw: st.DrawFn) -> bytes:
    columns = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=8))
    columns = draw(st.sampled_from([["scan", "flair", "t1", *columns[:2]], columns]))
    values = ("image.nii", "pipe", "a", "b", "sub-01", "01", *TEXTS, *OUTSIDE)
    cells = st.sampled_from(values)
    rows = draw(st.lists(st.lists(cells, min_size=1, max_size=len(columns) + 1), max_size=4))
    mark = draw(st.sampled_from(["\t", "\t", "\t", ",", ";"]))
    lines = [mark.join(row) for row in [columns, *rows]]
    text = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"])).join(lines)
    return text.encode("utf-8", "surrogatepass")


TABLE = Kind(
    "table of scans",
    lambda: {
        "scans.tsv": b"scan\tflair\tt1\na\timage.nii\timage.nii\n",
        "image.nii": nifti(),
        "pipe": Pipe(),
        "link": Link("../elsewhere"),
    },
    lambda sound: st.one_of(
        *[_tables()] * 4, damaged(b"scan\tflair\tt1\na\timage.nii\timage.nii\n")
    ).map(lambda content: {"scans.tsv": content}),
    _cohort,
    (
        lambda _: {"scans.tsv": b"scan\tflair\tt1\na\tpipe\t/dev/zero\n"},
        lambda _: {"scans.tsv": b"scan\tflair\tt1\na\ta\0b\timage.nii\n"},
    ),
)


def _described(folder: Path) -> None:
    image = folder / "raw" / "sub-01" / "image.nii"
    data = np.ones(SHAPE, np.float32)
    is_skull_stripped(Volume(data, Grid(SHAPE, np.eye(4)), image))
    describe(folder / "out", RESULTS, [image])


_SIDECARS = {
    "raw/sub-01/image.json": {"SkullStripped": True},
    "raw/dataset_description.json": {"Authors": ["A", "B"], "DatasetDOI": "10.1/x", "Name": "n"},
    "out/dataset_description.json": {"Name": "n", "Authors": ["A"], "License": "x"},
}


def _sidecars(sound: Files) -> st.SearchStrategy[Files]:
    documents = [json_files(name, content) for name, content in _SIDECARS.items()]
    lists = damaged(b"*.html\n").map(lambda content: {"out/.bidsignore": content})
    odd = st.sampled_from([Pipe(), Link("/dev/zero"), Link("../../elsewhere/victim")])
    names = st.sampled_from([*_SIDECARS, "out/.bidsignore", "out/README"])
    return st.one_of(*documents, lists, st.builds(lambda name, what: {name: what}, names, odd))


SIDECAR = Kind(
    "BIDS sidecar",
    lambda: {
        "raw/sub-01/image.nii": nifti(),
        "out/.bidsignore": b"*.html\n",
        **{name: as_json(content) for name, content in _SIDECARS.items()},
    },
    _sidecars,
    _described,
    (
        lambda _: {"out/.bidsignore": b"\xff\xfe"},
        lambda _: {"out/.bidsignore": Pipe()},
    ),
)


_RATINGS = "scan\tlabel\tkind\trating\tcomment\ttime\na\t1\tTP\tgood\t\t\n"


def _ratings(sound: Files) -> st.SearchStrategy[Files]:
    cells = st.sampled_from(["a", "1", "good", "wrong", "9" * 5000, "x" * 200_000, '"', *TEXTS])
    rows = st.lists(st.lists(cells, min_size=1, max_size=7), max_size=3)
    head = st.sampled_from([_RATINGS, "label\trating\n", "label\n", "\n", ""])
    text = st.builds(lambda h, r: h + "".join("\t".join(c) + "\n" for c in r), head, rows)
    contents = st.one_of(
        text.map(lambda t: t.encode("utf-8", "surrogatepass")), damaged(_RATINGS.encode())
    )
    return st.one_of(contents, contents, st.sampled_from([Pipe(), Link("/dev/zero")])).map(
        lambda content: {"ratings.tsv": content}
    )


RATINGS = Kind(
    "ratings",
    lambda: {"ratings.tsv": _RATINGS.encode()},
    _ratings,
    lambda folder: read_ratings(folder / "ratings.tsv", {("a", 1): "TP", ("", 1): "TP"}),
    (
        lambda _: {"ratings.tsv": Pipe()},
        lambda _: {"ratings.tsv": b"label\trating\n" + b"9" * 5000 + b"\tgood\n"},
        lambda _: {"ratings.tsv": b"label\trating\n" + b"x" * 200_000 + b"\tgood\n"},
    ),
)
