"""What makes a folder of results a BIDS dataset, beside the results' names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.official_validator import bids_issues
from helpers.tiny import save

from jaxsal.cohort.report import write_report
from jaxsal.cohort.results import CohortResults
from jaxsal.cohort.status import cohort_status
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import RESULTS, Names
from jaxsal.errors import InputError
from jaxsal.inputs.entries import ENTITIES, Entry, Scan
from jaxsal.store.bids_dataset import LAYOUT, DatasetKind, describe
from jaxsal.store.files import write_json
from jaxsal.store.lock import Shard

KIND = DatasetKind("Results", "cohort run", "# Read me\n", ("one.tsv", "two.tsv"))


def described(folder: Path, *images: Path) -> dict[str, object]:
    describe(folder, KIND, images)
    return dict(json.loads((folder / "dataset_description.json").read_bytes()))


def test_sources_and_authors_are_those_of_the_datasets_that_images_lie_in(tmp_path: Path) -> None:
    datasets = {name: tmp_path / "in" / name for name in ("raw", "älter")}
    for name, root in datasets.items():
        root.mkdir(parents=True)
        told = {"Authors": [f"Author of {name}", "Of both"], "DatasetDOI": f"doi:10.1/{name}"}
        write_json(root / "dataset_description.json", told)
    inner = datasets["raw"] / "derivatives" / "prepared"  # a dataset of its own
    inner.mkdir(parents=True)
    write_json(inner / "dataset_description.json", {})
    images = [root / "sub-1" / "anat" / "a.nii.gz" for root in (*datasets.values(), inner)]
    told = described(tmp_path, *images)
    assert told["Authors"] == ["Author of raw", "Of both", "Author of älter"]
    assert told["SourceDatasets"] == [
        {"URL": datasets["raw"].as_uri(), "DOI": "doi:10.1/raw"},
        {"URL": inner.as_uri()},
        {"URL": datasets["älter"].as_uri(), "DOI": "doi:10.1/älter"},
    ]


def test_images_of_no_dataset_come_from_the_folder_that_they_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "somebody")
    told = described(tmp_path, *(tmp_path / "in" / name / "flair.nii.gz" for name in ("a", "b")))
    assert told["SourceDatasets"] == [{"URL": (tmp_path / "in").as_uri()}]
    assert told["Authors"] == ["somebody"]


def test_what_users_write_stays(tmp_path: Path) -> None:
    described(tmp_path)
    (tmp_path / "README").rename(tmp_path / "README.md")
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / ".bidsignore").write_text("my_*.txt\ntwo.tsv\n")
    changed = {"Name": "Mine", "Authors": ["Me"], "License": "CC0", "DatasetType": "raw"}
    write_json(tmp_path / "dataset_description.json", changed)
    told = described(tmp_path)
    assert {**told, "DatasetType": "raw"}.items() >= changed.items()
    assert told["DatasetType"] == "derivative"
    assert (tmp_path / "README.md").read_text() == "mine"
    assert not (tmp_path / "README").exists()
    assert (tmp_path / ".bidsignore").read_text() == "my_*.txt\ntwo.tsv\none.tsv\n"


@pytest.mark.parametrize("look", [cohort_status, write_report, CohortResults])
def test_nothing_reads_a_cohorts_folder_of_another_version(
    look: Callable[[Path], object], tmp_path: Path
) -> None:
    write_json(tmp_path / "run.json", {"command": "cohort run", "identity": {}, "scans": 1})
    with pytest.raises(InputError, match="another version of jaxsal"):
        look(tmp_path)


def test_a_cohorts_folder_of_another_version_is_begun_anew_or_not_at_all(tmp_path: Path) -> None:
    folder = CohortFolder(tmp_path)
    write_json(tmp_path / "run.json", {"command": "cohort run", "identity": {}})
    (tmp_path / "scans.tsv").write_text("of that version")
    with (
        pytest.raises(InputError, match=r"another version of jaxsal.*--overwrite"),
        folder.opened({}, {}, {}, Shard(), overwrite=False),
    ):
        pass
    assert (tmp_path / "scans.tsv").exists()
    with folder.opened({}, {}, {}, Shard(), overwrite=True):
        assert folder.recorded()["layout"] == LAYOUT
    assert not (tmp_path / "scans.tsv").exists()


def test_a_cohorts_folder_begun_anew_keeps_a_file_that_an_earlier_version_would_have_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"command": "cohort run", "layout": LAYOUT}))
    (tmp_path / "scans.tsv").write_text("mine")
    with CohortFolder(tmp_path).opened({}, {}, {}, Shard(), overwrite=True):
        pass
    assert (tmp_path / "scans.tsv").read_text() == "mine"


def test_names_with_all_entities_are_bids(tmp_path: Path) -> None:
    labels = dict(zip(ENTITIES, ("01", "2", "a+b", "norm", "3", "T1w"), strict=True))
    names = Names(Entry("any", Scan(()), labels).stem)
    for name in (names.labels, names.probability):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        save(tmp_path / name, np.zeros((4, 5, 6), np.float32))
    for name in (names.labels_sidecar, names.probability_sidecar):
        write_json(tmp_path / name, {"SpatialReference": "file:///image.nii.gz"})
    (tmp_path / names.table).write_text("index\tname\n1\tlesion0001\n")
    describe(tmp_path, RESULTS, [tmp_path / "image.nii.gz"])
    assert bids_issues(tmp_path) == []
