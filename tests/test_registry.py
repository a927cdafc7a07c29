"""A saliency method from outside: scans, cohorts and reports take it like jaxsal's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.cohorts import make_cohort, results, run
from helpers.tiny import CHANNELS, ROI, TinyScan, contents, load, read_table
from helpers.toy_method import METHOD, NAME, InputGradientSettings, install

import jaxsal
from jaxsal.errors import InputError
from jaxsal.inputs.scan import Scan
from jaxsal.model import Model
from jaxsal.registry import METHODS, Registry
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.explain import explain
from jaxsal.settings import CohortSettings, ExplainSettings, PredictSettings


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package of a method is installed."""
    site = tmp_path / "site-packages"
    site.mkdir()
    install(site)
    monkeypatch.syspath_prepend(site)
    yield
    assert NAME in METHODS


def test_methods_are_known_by_name_and_loaded_when_asked_for() -> None:
    assert list(METHODS)[:3] == ["smoothgrad", "gradcam++", "gradcam"]
    assert NAME not in METHODS
    for name in METHODS:
        assert METHODS[name].name == name
        assert METHODS[name].summary


@pytest.mark.usefixtures("installed")
def test_an_entry_point_adds_a_method_and_a_broken_one_is_named() -> None:
    assert METHODS[NAME] is METHOD
    with pytest.raises(InputError, match=r"'broken' cannot be loaded from toy:NOTHING: .*mend"):
        METHODS["broken"]
    with pytest.raises(InputError, match=f"unknown saliency method 'lime'; known: .*{NAME}"):
        METHODS["lime"]


def test_a_name_is_given_once() -> None:
    registry: Registry[int] = Registry("number", "jaxsal.numbers", {"one": "math:pi"})
    registry.register("two", 2)
    registry.register("two", 2)
    assert (list(registry), registry["two"]) == (["one", "two"], 2)
    with pytest.raises(InputError, match="there is a number 'two' already"):
        registry.register("two", 3)
    with pytest.raises(InputError, match="there is a saliency method 'smoothgrad' already"):
        jaxsal.register_method(replace(METHOD, name="smoothgrad"))
    jaxsal.register_method(replace(METHOD, name="another"))
    assert METHODS["another"].settings is InputGradientSettings


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("level", ["instance", "class"])
def test_a_scan_is_explained_by_it(
    level: str, tmp_path: Path, scan: TinyScan, tiny_model: Model
) -> None:
    out = tmp_path / "out"
    settings = ExplainSettings(InputGradientSettings(power=2), level=level)
    finding = PredictSettings(roi=ROI)
    rows = explain(tiny_model, Scan(scan.images), out, finding, settings)
    stem = "class" if level == "class" else "lesion-0001"
    files = {f"maps/{stem}_{channel}_{NAME}.nii.gz" for channel in CHANNELS}
    assert {*files, f"pictures/{stem}.png", "index.html"} <= set(contents(out))
    columns = [f"{channel}_{NAME}_{key}" for channel in CHANNELS for key in ("max", "min")]
    table = read_table(out / "instances.tsv")
    assert set(columns) <= set(table[0])
    assert not {"samples", "approximated"} & set(table[0])

    field = jaxsal.sliding_window(tiny_model, roi=ROI)
    domain = load(out / "instances.nii.gz") == 1
    if level == "class":
        domain = load(out / "prediction.nii.gz") >= tiny_model.threshold
    saliency = replace(settings.saliency, target=1)
    maps = METHOD.compute(
        tiny_model, field, scan.image, domain.astype(np.int32), saliency, level=level,
        on_progress=None,
    )  # fmt: skip
    ((_, crop),) = maps
    for channel, name in enumerate(CHANNELS):
        found = load(out / "maps" / f"{stem}_{name}_{NAME}.nii.gz")
        np.testing.assert_allclose(found, crop.values[..., channel], rtol=1e-5, atol=1e-7)
        assert rows[0][f"{name}_{NAME}_max"] == pytest.approx(
            crop.values[..., channel].max(), rel=1e-5
        )


@pytest.mark.usefixtures("installed")
def test_a_cohort_goes_on_with_it_beside_another_method(tmp_path: Path, tiny_model: Model) -> None:
    entries = make_cohort(tmp_path, 2)
    saliency = (SmoothGradSettings(samples=1, noise=0.0), InputGradientSettings())
    settings = CohortSettings(saliency)
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    run(tiny_model, entries, whole, settings=settings)
    run(tiny_model, entries[:1], halted, settings=settings)
    run(tiny_model, entries, halted, settings=settings)
    assert results(halted).keys() == results(whole).keys()
    rows = results(whole)["lesions.tsv"]
    assert {f"{c}_{NAME}_max" for c in CHANNELS} | {"samples"} <= set(rows[0])
    assert json.loads((whole / "run.json").read_text())["outline"]
