"""Maps of single lesions, of networks that are given a part of the image only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.tiny import CHANNELS, ROI, SHAPE, TinyScan, oblique_affine, save

from jaxsal.errors import InputError
from jaxsal.experiments.adjacency import AdjacencySettings, adjacency
from jaxsal.experiments.context import ContextSettings, context
from jaxsal.experiments.direct import each_lesion, map_of
from jaxsal.experiments.faithfulness_lesion import RankedLesion
from jaxsal.experiments.study import Study
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.inputs.images import load_scan
from jaxsal.lesions import Instance
from jaxsal.model import Model
from jaxsal.preprocessing import Normalisation, Preprocessing
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.prediction import Prediction, find_lesions
from jaxsal.settings import PredictSettings
from jaxsal.tables import Row

pytestmark = pytest.mark.usefixtures("one_device")

WITHIN, HALF, BEYOND = 1, 2, 3  # the box of what is not zero, which begins at the third voxel


@pytest.fixture(scope="module")
def study(tiny_model: Model, scan: TinyScan, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Of a scan with three lesions of two voxels, and a network that is not given all of it."""
    folder = tmp_path_factory.mktemp("direct")
    normalisation = (Normalisation("zscore", masked=True),) * 2
    told = Preprocessing(normalisation, (1.0, 0.9, 1.2), ROI, crop=True)
    labels = np.zeros(SHAPE, np.int32)
    for label, first in ((WITHIN, 10), (HALF, 1), (BEYOND, 0)):
        labels[first : first + 2, 10 + label, 9] = label
    given = save(folder / "labels.nii.gz", labels, scan.affine)
    entry = Entry("a scan", Scan(scan.images, instances=given), {"subject": "01"})
    return Study(
        replace(tiny_model, preprocessing=told),
        [entry],
        folder / "out",
        PredictSettings(roi=ROI),
        SmoothGradSettings(samples=1, memory=2**30),
    )


@pytest.fixture(scope="module")
def prediction(study: Study) -> Prediction:
    loaded = load_scan(study.entries[0].scan, CHANNELS, study.model.preprocessing)
    return find_lesions(study.model, loaded, study.prediction)


def test_a_lesion_that_the_network_is_not_given_is_left_out(
    study: Study, prediction: Prediction
) -> None:
    def compute(lesion: Instance) -> list[Row]:
        return [{"label": lesion.label}]

    (entry,), lesions = study.entries, prediction.instances
    rows = each_lesion(study, "toy", {}, entry, prediction, lesions, compute)
    assert rows == [{"label": WITHIN}, *({"note": _left_out(each)} for each in (HALF, BEYOND))]


@pytest.mark.parametrize("label", [HALF, BEYOND])
def test_a_map_of_what_the_network_is_not_given_is_refused(
    label: int, study: Study, prediction: Prediction
) -> None:
    with pytest.raises(InputError, match="beyond the part of the image"):
        map_of(study, prediction, prediction.labels == label, study.saliency)


def test_context_and_faithfulness_leave_out_the_same_for_the_same_reason(
    study: Study, prediction: Prediction
) -> None:
    (entry,) = study.entries
    asked = [RankedLesion(study, entry, each, prediction, ()) for each in prediction.instances]
    assert [each.unfit for each in asked] == ["", _left_out(HALF), _left_out(BEYOND)]
    found = context(study, ContextSettings((0, 100), steps=1))
    assert {row["label"] for row in found.rows} == {WITHIN}
    assert {_left_out(HALF), _left_out(BEYOND)} <= set(found.notes)


def test_no_copy_lies_where_the_network_is_given_nothing(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the mask allows: only there would be room for one at 12.5 mm."""
    nothing = SimpleNamespace(scans=list, methods={"any": ""})
    monkeypatch.setattr(Study, "lesions", lambda _: nothing)
    monkeypatch.setattr(Study, "run", lambda *_: nothing)
    (entry,) = study.entries
    mask = save(tmp_path / "mask.nii.gz", np.ones(SHAPE, np.uint8), oblique_affine())
    masked = replace(entry, scan=replace(entry.scan, mask=mask))
    own = replace(study, entries=[masked], out=tmp_path, notes=[])
    adjacency(own, AdjacencySettings((0, 100), lesions=1, gaps=(12.5,)))
    assert any("lie at 0 of 1 gaps" in note for note in own.notes)


def _left_out(label: int) -> str:
    reason = "it reaches beyond the part of the image that the network is given"
    return f"a scan: lesion {label} is left out: {reason}"
