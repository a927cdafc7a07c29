"""Maps of other noise: closed forms on toy maps, and a tiny cohort end to end."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.cohorts import PREDICTION, make_cohort
from helpers.counted_maps import counted_maps
from helpers.tiny import CHANNELS, ROI
from scipy import stats

from jaxsal.cli.main import main
from jaxsal.devices import computing_on
from jaxsal.errors import InputError
from jaxsal.experiments.findings import Findings, write_findings
from jaxsal.experiments.stability import (
    COLUMNS,
    SUMMARY_COLUMNS,
    StabilitySettings,
    compared,
    images_needed,
    images_of,
    siblings,
    stability,
    summary_of,
)
from jaxsal.experiments.study import Study
from jaxsal.field.sliding import sliding_window
from jaxsal.model import Model
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.saliency.smoothgrad import smoothgrad


def test_pairs_of_means_share_no_map() -> None:
    maps = np.arange(8.0)[:, None] ** 2
    found = [(size, one.item(), other.item()) for size, one, other in siblings(maps)]
    squares = maps[:, 0]
    expected = [
        (size, squares[at : at + size].mean(), squares[at + size : at + 2 * size].mean())
        for size in (1, 2, 4)
        for at in range(0, 8, 2 * size)
    ]
    assert sorted(found) == sorted(expected)


def test_maps_that_alternate_are_the_same_by_twos() -> None:
    signal = np.array([3.0, 0, 4]).reshape(3, 1, 1, 1)
    apart = np.array([0.0, 5, 0]).reshape(3, 1, 1, 1)
    rows = compared([signal + apart, signal - apart] * 4, ["flair"])
    assert [(row["images"], row["pairs"]) for row in rows] == [(1, 4), (2, 2), (4, 1)]
    single, double, _ = rows
    # |2 · 5| over √(25 + 25)
    assert single["relative_l2"] == pytest.approx(10 / math.sqrt(50))
    expected = stats.pearsonr([3, 5, 4], [3, -5, 4]).statistic
    assert single["correlation"] == pytest.approx(expected)
    assert (double["relative_l2"], double["correlation"]) == (0, pytest.approx(1))
    # the peak of the mean is the 4, which never changes, though single maps peak at the 5
    assert single["peak_error"] == 0
    assert single["images_needed"] == 1


def test_the_standard_error_falls_with_the_root_of_the_number() -> None:
    rng = np.random.default_rng(0)
    maps = 2 + 0.5 * rng.standard_normal((32, 2, 3, 1, 2))
    rows = [row for row in compared(maps, ["a", "b"]) if row["channel"] == "b"]
    values = maps[..., 1].reshape(32, -1)
    peak = values[:, values.mean(0).argmax()]
    for row in rows:
        expected = peak.std(ddof=1) / math.sqrt(row["images"]) / peak.mean()
        assert row["peak_error"] == pytest.approx(expected)
    needed = rows[0]["images_needed"]
    error = peak.std(ddof=1) / peak.mean()
    assert error / math.sqrt(needed) < 0.05 <= error / math.sqrt(needed - 1)
    single = np.abs(values).max(1)
    spread = np.sqrt(np.mean((single[::2] - single[1::2]) ** 2) / 2) / single.mean()
    assert rows[0]["peak_spread"] == pytest.approx(spread)


def test_numbers_of_images() -> None:
    assert [images_of(samples) for samples in (2, 5, 8, 50)] == [4, 8, 16, 64]
    assert images_needed(0.5) in (100, 101)  # at the limit
    assert images_needed(0.31) == 39
    assert images_needed(0.0) == 1
    assert images_needed(math.nan) is None
    zero = compared([np.zeros((2, 1, 1, 1))] * 2, ["flair"])
    assert zero[0]["relative_l2"] is None
    assert zero[0]["images_needed"] is None


def test_medians_and_comparisons() -> None:
    rows = [
        {"scan": s, "subject": s, "label": 1, "aggregate": aggregate, "channel": "t1", "images": n}
        | dict.fromkeys(("relative_l2", "correlation", "peak_spread"), 0.1)
        | {"peak_error": 0.4 / n, "images_needed": (i + 2) * factor}
        for i, s in enumerate("abcdefg")
        for aggregate, factor in (("max", 3), ("mean", 1))
        for n in (1, 2)
    ]
    found = summary_of(rows)
    (error,) = (
        row
        for row in found
        if (row.get("aggregate"), row.get("images"), row.get("figure")) == ("max", 2, "peak_error")
    )
    assert (error["n"], error["value"], error["low"], error["high"]) == (7, 0.2, 0.2, 0.2)
    (needed,) = (
        row
        for row in found
        if (row.get("aggregate"), row.get("figure")) == ("max", "images_needed")
    )
    assert (needed["value"], needed["images"]) == (15, None)
    assert needed["low"] < 15 < needed["high"]
    compared_ = found[-1]
    assert (compared_["n"], compared_["difference"]) == (7, 10)
    assert compared_["p_holm"] == compared_["p"] == pytest.approx(2 / 2**7)  # all one way
    assert set().union(*found) == set(SUMMARY_COLUMNS)


@pytest.fixture(scope="module")
def study(
    tiny_model: Model, one_device: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Study]:
    folder = tmp_path_factory.mktemp("stability")
    saliency = SmoothGradSettings(samples=2, seed=3, memory=2**30)
    with computing_on(None):
        yield Study(tiny_model, make_cohort(folder, 1), folder / "out", PREDICTION, saliency)


@pytest.fixture(scope="module")
def found(study: Study) -> Findings:
    return stability(study, StabilitySettings(lesions=1))


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_maps_are_means_over_images_of_their_own_seeds(
    aggregate: str, study: Study, found: Findings
) -> None:
    (scan,) = study.lesions().scans()
    omega = scan.labels == found.rows[0]["label"]
    field = sliding_window(study.model, roi=ROI)
    maps = [
        smoothgrad(
            field, scan.image, omega.astype(np.int32), aggregate=aggregate, samples=1, seed=3 + k
        ).dense(1)
        for k in range(4)
    ]
    (row,) = (
        row
        for row in found.rows
        if (row["aggregate"], row["channel"], row["images"]) == (aggregate, "t1", 2)
    )
    one, other = (np.mean(part, axis=0)[..., 1].astype(float) for part in (maps[:2], maps[2:]))
    scale = np.sqrt(((one**2).sum() + (other**2).sum()) / 2)
    expected = np.sqrt(((one - other) ** 2).sum()) / scale
    assert row["relative_l2"] == pytest.approx(expected, rel=1e-3)  # maps agree by rounding
    spread = abs(np.abs(one).max() - np.abs(other).max()) / math.sqrt(2)
    mean = (np.abs(one).max() + np.abs(other).max()) / 2
    assert row["peak_spread"] == pytest.approx(spread / mean, rel=1e-2)


def test_an_approximated_maximum_varies_by_its_noise_alone(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images take the same voxels of the lesion."""
    monkeypatch.setattr("jaxsal.experiments.stability.draw", lambda *_: None)
    saliency = dataclasses.replace(study.saliency, voxels_per_lesion=3, noise=0.0)
    own = dataclasses.replace(study, out=tmp_path, saliency=saliency, notes=[], counted=Counter())
    for row in stability(own, StabilitySettings(lesions=1)).rows:
        assert row["voxels"] > 3
        assert (row["relative_l2"], row["correlation"]) == (0, pytest.approx(1))
    assert own.footnote == "approximated: 1 of 1 maps, 3 voxels of each differentiated"


def test_files_and_notes(found: Findings, tmp_path: Path) -> None:
    assert set().union(*found.rows) == set(COLUMNS)
    assert len(found.rows) == 2 * len(CHANNELS) * 2  # of 1 and of 2 images
    assert len(write_findings(found, tmp_path, "stability", {}, dpi=20)) == 3
    assert any("from 4 noisy images per lesion and aggregate" in note for note in found.notes)
    assert any("is one patient" in note for note in found.notes)
    assert any("1 lesion: medians need 5" in note for note in found.notes)


def test_the_help_says_how_many_images_a_lesion_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["experiment", "stability", "--help"])
    assert "2 × --samples noisy images" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("changed", [{}, {"seed": 4}, {"noise": 0.2}], ids=str)
def test_lesions_of_other_settings_are_computed_again(
    changed: dict[str, float],
    study: Study,
    found: Findings,
    tmp_path: Path,
    computed: list[int],
) -> None:
    saliency = dataclasses.replace(study.saliency, **changed)
    own = dataclasses.replace(study, out=tmp_path / "out", saliency=saliency, notes=[])
    shutil.copytree(study.out, own.out)
    stability(own, StabilitySettings(lesions=1))
    assert len(computed) == (8 if changed else 0)  # four images by each aggregate


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by each map, of nothing, that is computed."""
    asked = counted_maps(monkeypatch)
    monkeypatch.setattr("jaxsal.experiments.stability.draw", lambda *_: None)
    return asked


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"samples": 1}, "samples"),
        ({"samples": 50, "tolerance": 0.1}, "the tolerance 0.1 does not"),
    ],
)
def test_what_has_no_effect_is_refused(wrong: dict[str, float], said: str, study: Study) -> None:
    saliency = dataclasses.replace(study.saliency, **wrong)
    with pytest.raises(InputError, match=said):
        stability(dataclasses.replace(study, saliency=saliency), StabilitySettings())


def test_a_second_call_computes_nothing(
    study: Study, found: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxsal.experiments.direct.maps_of", None)
    monkeypatch.setattr("jaxsal.experiments.each_scan.find_lesions", None)
    monkeypatch.setattr("jaxsal.experiments.stability.draw", lambda *_: None)
    again = stability(dataclasses.replace(study, notes=[]), StabilitySettings(lesions=1))
    assert list(again.rows) == list(found.rows)
