"""Names of results are those of BIDS derivatives."""

from __future__ import annotations

import re

import pytest

from jaxsal.cohort.entries import Entry
from jaxsal.cohort.storage.names import Names, camel_case
from jaxsal.scan import Scan

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
