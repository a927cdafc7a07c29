"""A cohort's run that also says how uncertain the network is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cohorts import PREDICTION, SETTINGS, results, run
from helpers.official_validator import bids_issues
from helpers.tiny import load, read_table

import jaxsal.cohort.job as job
from jaxsal.errors import OutputError
from jaxsal.inputs.entries import Entry
from jaxsal.model import Model
from jaxsal.scan.predict import predict
from jaxsal.settings import UncertaintySettings

MEMBERS = UncertaintySettings("noise", members=2, member_noise=0.2, candidates=0.69)
UNCERTAIN = replace(SETTINGS, uncertainty=MEMBERS)


@pytest.mark.thorough
def test_a_run_writes_what_predict_writes_and_goes_on_without_finding_out_again(
    entries: list[Entry], tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out, one = tmp_path / "whole", tmp_path / "out", tmp_path / "one"
    run(tiny_model, entries[:1], whole, settings=UNCERTAIN)

    def on_a_full_disk(*_: object) -> None:
        raise OutputError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(job, "maps_of", on_a_full_disk)
        with pytest.raises(OutputError):
            run(tiny_model, entries[:1], out, settings=UNCERTAIN)

    def again(*_: object) -> None:
        raise AssertionError("lesions were found before")

    monkeypatch.setattr(job, "find_uncertain_lesions", again)
    run(tiny_model, entries[:1], out, settings=UNCERTAIN)
    assert results(out) == results(whole)

    rows = predict(tiny_model, entries[0].scan, one, PREDICTION, uncertainty=MEMBERS)
    found = read_table(out / "lesions.tsv")
    for row, same in zip(found, rows, strict=True):
        for column in ("lsu", "entropy"):
            assert float(row[column]) == pytest.approx(same[column], rel=1e-5)
    for kind in ("entropy", "variance", "candidates"):
        stem = out / "sub-00" / "anat" / f"sub-00_desc-{kind}_uncertainty"
        np.testing.assert_array_equal(
            load(stem.with_suffix(".nii.gz")), load(one / f"{kind}.nii.gz")
        )
        assert json.loads(stem.with_suffix(".json").read_bytes())["Members"]["members"] == 2
    assert bids_issues(out, "error") == []
