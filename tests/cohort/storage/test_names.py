"""Names of results are those of BIDS derivatives."""

from __future__ import annotations

import re

import pytest

from jaxsal.cohort.storage.names import Names, is_result_of
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.store.bids_dataset import camel_case

BIDS_NAME = re.compile(r"(sub|ses|acq|run|space|seg|label|desc)-[A-Za-z0-9]+")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("flair_smoothgrad-max", "flairSmoothgradMax"),
        ("gradcam++", "gradcamplusplus"),
        ("FLAIR 3D", "FLAIR3D"),
        ("séquence_smoothgrad-mean_se", "sequenceSmoothgradMeanSe"),
        ("×", "x"),
    ],
)
def test_labels_are_of_letters_and_digits(text: str, label: str) -> None:
    assert camel_case(text) == label


def test_names_are_made_of_entities_in_bids_order() -> None:
    entities = {"session": "01", "run": "2", "subject": "07"}
    names = Names(Entry("any", Scan(()), entities).stem)
    assert names.map(3, "t1_smoothgrad-max") == (
        "sub-07/ses-01/anat/"
        "sub-07_ses-01_run-2_label-lesion0003_desc-t1SmoothgradMax_saliency.nii.gz"
    )
    for name in (names.labels, names.probability, names.table, names.sidecar("t1_gradcam++")):
        folder, _, file = name.rpartition("/")
        assert folder == "sub-07/ses-01/anat"
        *parts, suffix = file.split("_")
        assert all(BIDS_NAME.fullmatch(part) for part in parts)
        assert suffix.partition(".")[0] in ("dseg", "probseg", "saliency")


@pytest.mark.parametrize("stem", ["sub-07", "sub-07_ses-01_run-2"])
def test_results_are_known_by_their_names_and_nothing_else_is(stem: str) -> None:
    names, other = Names(stem), Names(f"{stem}_space-T1w")
    for own in (
        *(names.probability, names.probability_sidecar, names.labels, names.labels_sidecar),
        *(names.table, names.map(10000, "T1 × 2_gradcam++"), names.sidecar("flair_smoothgrad-max")),
    ):
        assert is_result_of(stem, own)
        assert not is_result_of(stem, own.rpartition("/")[2])  # in the root
        assert not is_result_of(stem, f".jaxsal/{own}")
        assert not is_result_of(stem, own.replace("/anat/", "/anat/../anat/"))
    for foreign in (
        *("README", "run.json", "participants.tsv", ".jaxsal/scans/sub-02.json"),
        *(other.labels, other.table, other.map(1, "t1"), names.labels.replace("lesions", "mine")),
        *(f"{names.table}.bak", f"{names.table}\n", names.table.replace("sub-07", "sub-08")),
    ):
        assert not is_result_of(stem, foreign)
