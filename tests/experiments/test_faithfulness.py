"""Deletion and insertion: by hand, of a linear network, and end to end on a tiny cohort."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers.cohorts import PREDICTION, make_cohort, write_manifest
from helpers.tiny import CHANNELS, ROI, TinyScan, load, read_table
from scipy import special, stats

import jaxsal
import jaxsal.experiments.faithfulness as module
import jaxsal.experiments.faithfulness_lesion as lesion_module
from jaxsal.box import Box
from jaxsal.cli.main import main
from jaxsal.cohort.results import CohortResults
from jaxsal.errors import InputError
from jaxsal.experiments.faithfulness import FaithfulnessSettings, faithfulness
from jaxsal.experiments.faithfulness_curves import (
    ALL,
    DIRECTIONS,
    PERCENT,
    area,
    curves_of,
    question_of,
    turning_percent,
)
from jaxsal.experiments.faithfulness_figure import draw
from jaxsal.experiments.faithfulness_lesion import RankedLesion
from jaxsal.experiments.faithfulness_maps import (
    RecordedMaps,
    checked_methods,
    favoured,
    maps_of_methods,
)
from jaxsal.experiments.faithfulness_ranking import Surroundings
from jaxsal.experiments.faithfulness_summary import SUMMARY_COLUMNS, summary_of
from jaxsal.experiments.maps_by_method import settings_of
from jaxsal.experiments.study import Study
from jaxsal.inputs.images import load_scan
from jaxsal.lesions import Instance
from jaxsal.model import Model
from jaxsal.registry import METHODS
from jaxsal.saliency.hiding import answers
from jaxsal.saliency.infill import Infills, Scene, within
from jaxsal.saliency.maps import Crop
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.prediction import find_lesions

pytestmark = pytest.mark.usefixtures("one_device")

SHAPE, SPACING = (14, 12, 10), (4.0, 4.0, 4.0)
OMEGA = np.zeros(SHAPE, bool)
OMEGA[6:8, 5:7, 5] = True
QUICK = ["--roi", str(ROI[0]), "--samples", "1", "--memory", "1"]


def _around() -> Surroundings:
    return Surroundings.of(OMEGA, SPACING, np.random.default_rng(0))


def test_the_nearest_come_first_by_distance_and_ties_by_chance() -> None:
    around = _around()
    order = around.blind("distance")
    assert (np.diff(around.away[order]) >= 0).all()
    assert (around.away[order[:4]] == 0).all()
    first = around.first(order, 100 * 4 / len(order))
    np.testing.assert_array_equal(first, around.region.cut(OMEGA))
    ties = np.flatnonzero(around.away == around.away.max())
    places = np.argsort(around.blind("distance"))[ties]
    assert not (np.diff(places) > 0).all()  # else those in front would win


def test_a_map_ranks_by_magnitude_of_all_channels_or_of_one() -> None:
    around, values = _around(), np.random.default_rng(1).normal(size=(6, 5, 4, 2))
    crop = Crop(values.astype(np.float32), (5, 4, 3), 1)
    dense = crop.box.place(crop.values, SHAPE)
    near = within(OMEGA, 20.0, SPACING)
    for channel, magnitude in ((None, np.abs(dense).sum(-1)), (1, np.abs(dense[..., 1]))):
        order, expected = around.by_map(crop, channel), magnitude[near]
        marked = np.count_nonzero(expected)
        np.testing.assert_array_equal(order[:marked], np.argsort(-expected)[:marked])
        assert sorted(order) == list(range(near.sum()))


@pytest.mark.parametrize(("percent", "count"), [(0.001, 1), (50.0, 5), (100.0, 10)])
def test_a_part_of_the_voxels_is_rounded_and_one_at_least(percent: float, count: int) -> None:
    near = np.ones((10, 1, 1), bool)
    around = Surroundings(near, Box.whole(near.shape), near, np.zeros(10), np.arange(10))
    assert around.first(np.arange(10), percent).sum() == count


class _Linear:
    """Logits 0 and w · x of each voxel alone."""

    weights = np.array([2.0, -1.0], np.float32)

    def __call__(self, batch: jax.Array) -> jax.Array:
        logit = batch @ self.weights
        return jax.numpy.stack([0 * logit, logit], axis=-1)


@pytest.mark.parametrize("batch", [1, 5])
def test_curves_of_a_linear_network_are_sums_of_what_is_left(batch: int) -> None:
    image = np.random.default_rng(2).normal(size=(*SHAPE, 2)).astype(np.float32)
    image[OMEGA] += (3.0, -1.0)
    around, field = _around(), jaxsal.whole_volume(_Linear())
    crop = Crop(image, (0, 0, 0), 1)
    orders = {
        (name, channel): order
        for channel, at in ((ALL, None), ("t1", 1))
        for name, order in (
            ("image", around.by_map(crop, at)),
            ("distance", around.blind("distance")),
        )
    }
    infill = Infills(image, Scene(SPACING, OMEGA)).of("mean", OMEGA)
    question = question_of(around, orders, CHANNELS, infill)
    (found,) = answers(field, image, [question], lambda y: y, most_voxels=4, batch=batch)
    curves = curves_of(found, orders, 1, "softmax")
    assert len(curves) == len(orders) * len(DIRECTIONS)
    for curve in curves:
        order = orders[curve.method, curve.channel]
        for at, percent in enumerate(PERCENT):
            first = np.zeros(SHAPE, bool)
            if percent:
                first[around.region.slices] = around.first(order, percent)
            near = within(OMEGA, 20.0, SPACING)
            hidden = first if curve.direction == "deletion" else near & ~first
            seen = image.copy()
            where = hidden[..., None] & np.array([curve.channel == ALL, True])
            seen[where] = infill[where]
            logits = (seen @ _Linear.weights)[OMEGA]
            assert curve.logit[at] == pytest.approx(logits.mean(), abs=1e-5)
            assert curve.probability[at] == pytest.approx(special.expit(logits).mean(), abs=1e-5)
            assert curve.highest[at] == pytest.approx(special.expit(logits).max(), abs=1e-5)


def test_an_area_is_one_if_nothing_is_lost_before_the_end_and_zero_if_all_is_at_once() -> None:
    late, soon = np.r_[np.full(8, 5.0), 1.0], np.r_[5.0, np.full(8, 1.0)]
    assert area("deletion", late) == pytest.approx(0.75)  # it falls from 50 to 100 %
    assert area("deletion", soon) == pytest.approx(0.0025)  # half of the first 0.5 %
    assert area("insertion", late[::-1]) == pytest.approx(1 - 0.0025)
    assert area("deletion", soon[::-1]) is None  # hiding all raises it
    assert area("deletion", np.array(PERCENT) * -2 + 7) == pytest.approx(0.5)  # a straight line


def test_a_curve_has_no_area_where_hiding_all_hardly_lowers_the_logit() -> None:
    flat = np.r_[5.0, np.full(7, -3.0), 4.6]  # an area relative to 0.4 would be about -19
    assert area("deletion", flat, least=0.5) is None
    assert area("insertion", flat[::-1], least=0.5) is None
    assert area("deletion", flat, least=0.4) == pytest.approx(-18, rel=0.3)
    assert FaithfulnessSettings().least_drop == 0.5
    with pytest.raises(InputError, match="least_drop must be 0 or more"):
        FaithfulnessSettings(least_drop=-1.0)


def test_the_turning_point_is_that_after_which_nothing_turns_back() -> None:
    highest = np.array([0.9, 0.1, 0.6, 0.4, 0.3, 0.2, 0.2, 0.1, 0.1])
    assert turning_percent("deletion", highest, 0.5) == 2.0
    assert turning_percent("insertion", highest, 0.5) is None
    assert turning_percent("insertion", highest[::-1], 0.5) == 100.0


def _row(scan: int, method: str, auc: float | None, direction: str = "deletion") -> dict[str, Any]:
    place = {"scan": f"{scan}", "subject": f"{scan}", "label": 1, "channel": ALL}
    probability = None if auc is None or scan == 7 else auc / 2
    found = {"method": method, "auc": auc, "auc_probability": probability}
    turning = {"turning_percent": None if scan == 6 else 10.0 * scan}
    return {**place, "infill": "mean", "direction": direction, **found, **turning}


def _two_rankings() -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Areas by a map and by the distance, of 8 lesions, and the rows, with one without an area."""
    rng = np.random.default_rng(4)
    own, distance = rng.uniform(0.0, 0.2, 8), rng.uniform(0.1, 0.4, 8)
    rows = [_row(at, "map", value) for at, value in enumerate(own)]
    rows += [_row(at, "distance", value) for at, value in enumerate(distance)]
    return own, distance, [*rows, _row(9, "map", None), _row(9, "distance", None)]


@pytest.mark.parametrize(("figure", "n", "share"), [("logit", 8, 1.0), ("probability", 7, 0.5)])
def test_a_gain_is_how_much_better_than_the_distance_lesion_by_lesion(
    figure: str, n: int, share: float
) -> None:
    own, distance, rows = _two_rankings()
    own, distance = share * own[:n], share * distance[:n]
    found = summary_of(rows, ("map", "distance"), ("mean",), ())
    first = next(row for row in found if row.get("figure") == figure)
    assert (first["n"], first["patients"], first["left_out"]) == (n, n, 9 - n)
    assert first["auc"] == pytest.approx(np.median(own))
    assert first["low"] < first["auc"] < first["high"]
    assert first["gain"] == pytest.approx(np.median(distance - own))
    assert first["gain_low"] < first["gain"] < first["gain_high"]
    assert first["p"] == pytest.approx(stats.wilcoxon(own, distance).pvalue)
    insertion = [{**row, "direction": "insertion"} for row in rows]
    found = summary_of(insertion, ("map", "distance"), ("mean",), ())
    own_figure = [row for row in found if row.get("figure") == figure]
    assert own_figure[2]["gain"] == pytest.approx(np.median(own - distance))
    assert own_figure[3]["gain"] is None  # of the distance itself


def test_detection_is_a_share_of_lesions_and_a_median_part_with_intervals() -> None:
    _, _, rows = _two_rankings()
    found = summary_of(rows, ("map", "distance"), ("mean",), ())
    first = next(row for row in found if "turned" in row)
    assert (first["n"], first["n_turned"], first["turned"]) == (8, 7, 7 / 8)
    assert first["turned_low"] < 7 / 8 < first["turned_high"]
    assert first["turning_percent"] == 30.0  # of 0, 10, 20, 30, 40, 50, 70
    assert first["turning_low"] < 30 < first["turning_high"]


def test_channels_are_summed_up_with_every_infill_and_figures_adjusted_apart() -> None:
    _, _, rows = _two_rankings()
    every = [
        {**row, "channel": channel, "infill": infill}
        for row in rows
        for channel in (ALL, "flair")
        for infill in ("mean", "zero")
    ]
    found = summary_of(every, ("map", "distance"), ("mean", "zero"), ("flair",))
    for figure in ("logit", "probability"):
        own = [row for row in found if row.get("figure") == figure]
        assert len(own) == 2 * 2 * 2 * 2  # infills, channels, directions, methods
        tested = [row for row in own if row["p"] is not None]
        assert {(row["infill"], row["channel"]) for row in tested} == {
            (infill, channel) for infill in ("mean", "zero") for channel in (ALL, "flair")
        }
        assert {row["p_holm"] for row in tested} == {min(1, 4 * row["p"]) for row in tested}
    assert set().union(*found) == set(SUMMARY_COLUMNS)


@pytest.mark.parametrize(
    ("name", "infills", "said"),
    [
        ("integrated-gradients", ("blurred", "mean"), "its own baseline"),
        ("occlusion", ("mean",), "its own infill"),
        ("integrated-gradients", ("blurred", "zero"), ""),
        ("smoothgrad", ("mean",), ""),
    ],
)
def test_maps_that_compare_with_the_same_infill_are_named(
    name: str, infills: tuple[str, ...], said: str, tiny_model: Model, tmp_path: Path
) -> None:
    settings = settings_of(Study(tiny_model, [], tmp_path), name, None)
    maps = RecordedMaps(settings, CohortResults.__new__(CohortResults))
    found = list(favoured([maps], infills))
    assert len(found) == bool(said)
    assert all(name in each and said in each and "infilled by mean" in each for each in found)


def test_maps_of_few_lesions_are_those_of_the_runs_over_all(
    tiny_model: Model, tmp_path: Path
) -> None:
    names = ("smoothgrad", "integrated-gradients", "occlusion", "gradcam++")
    saliency = SmoothGradSettings(samples=1, memory=2**30)
    entries = make_cohort(tmp_path, 1)
    study = Study(tiny_model, entries, tmp_path / "out", PREDICTION, saliency)
    scan = load_scan(entries[0].scan, CHANNELS, None)
    prediction = find_lesions(tiny_model, scan, PREDICTION)
    label = prediction.instances[-1].label
    found = [maps_of_methods(study, names, "decoder.0", few=few) for few in (False, True)]
    assert [len(each.records) for each in found[1]] == [1, 0, 0, 0]  # SmoothGrad's are shared
    for recorded, computed in zip(*found, strict=True):
        maps = [each.map(entries[0], prediction, label) for each in (recorded, computed)]
        whole = [crop.on(Box((0, 0, 0), scan.image.shape[:3])) for crop in maps]
        np.testing.assert_allclose(whole[1], whole[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "layer", "said"),
    [
        (("smoothgrad", "smoothgrad"), None, "names smoothgrad more than once"),
        (("gradcam++",), None, "gradcam\\+\\+ needs --layer NAME"),
        (("smoothgrad",), "decoder.1", "--layer has no effect: of smoothgrad none has a layer"),
        (("distance",), None, "distance is a ranking that is compared always"),
        (("nothing",), None, "unknown saliency method 'nothing'"),
    ],
)
def test_methods_and_layers_that_do_not_go_together_are_refused(
    names: tuple[str, ...], layer: str | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        checked_methods(names, layer)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_of_jaxsal_can_be_compared_with_the_settings_it_shares(
    name: str, tiny_model: Model, tmp_path: Path
) -> None:
    saliency = SmoothGradSettings(samples=7, seed=3, memory=2**30)
    study = Study(tiny_model, [], tmp_path, saliency=saliency)
    made = settings_of(study, name, "decoder.0")
    assert made.method == name
    for option in METHODS[name].offered():
        if option.name in ("samples", "memory", "seed"):
            assert getattr(made, option.name) == getattr(saliency, option.name)


def test_grad_cam_is_compared_where_there_is_a_layer() -> None:
    assert checked_methods((), None) == ("smoothgrad",)
    assert checked_methods((), "decoder.1") == ("smoothgrad", "gradcam++")


def test_without_lesions_of_a_volume_others_are_proposed(
    tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "maps_of_methods", lambda *_, **__: [])
    study = Study(tiny_model, make_cohort(tmp_path, 1), tmp_path / "out", PREDICTION)
    assert not faithfulness(study, FaithfulnessSettings(volume=(5000.0, 6000.0))).rows
    assert any("5000 to 6000" in note and "--volume" in note for note in study.notes)


def test_a_volume_of_a_rounded_affine_lies_in_its_range(
    tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "maps_of_methods", lambda *_, **__: [])
    asked: list[int] = []

    def unfit(lesion: RankedLesion) -> str:
        asked.append(lesion.instance.label)
        return "a reason"

    monkeypatch.setattr(RankedLesion, "unfit", property(unfit))
    study = Study(tiny_model, make_cohort(tmp_path, 1), tmp_path / "out", PREDICTION)
    volumes = [each.volume_mm3 for each in lesions_of(study)]
    low, high = min(volumes) * (1 + 1e-6), max(volumes) * (1 - 1e-6)
    faithfulness(study, FaithfulnessSettings(volume=(low, high)))
    assert len(set(asked)) == len(volumes) > 1


def test_an_interrupted_run_goes_on_at_the_lesion_and_other_choices_reuse_it(
    tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saliency = SmoothGradSettings(samples=1, memory=2**30)
    entries, out = make_cohort(tmp_path, 1), tmp_path / "out"
    study = Study(tiny_model, entries, out, PREDICTION, saliency)
    asked: list[int] = []
    compute, fail_at = lesion_module.answers, [2]

    def counted(*arguments: Any, **options: Any) -> Any:
        asked.append(1)
        if len(asked) in fail_at:
            raise KeyboardInterrupt
        return compute(*arguments, **options)

    monkeypatch.setattr(lesion_module, "answers", counted)
    zero: Any = {"infill": ("zero",)}
    with pytest.raises(KeyboardInterrupt):
        faithfulness(study, FaithfulnessSettings(**zero))
    found = faithfulness(study, FaithfulnessSettings(**zero))
    volumes = {row["label"]: row["volume_mm3"] for row in found.rows}
    assert len(asked) == 1 + len(volumes) > 2  # the second was asked twice

    clearest = faithfulness(study, FaithfulnessSettings(**zero, most=1))
    assert study.counted["all"] == 1  # the figure's footnote is of what it shows
    largest = max(volumes, key=lambda label: volumes[label])
    range_of_it = (volumes[largest], volumes[largest])
    some = faithfulness(study, FaithfulnessSettings(**zero, volume=range_of_it))
    for fewer in (clearest, some):
        labels = {row["label"] for row in fewer.rows}
        assert list(fewer.rows) == [row for row in found.rows if row["label"] in labels]
    strict = faithfulness(study, FaithfulnessSettings(**zero, least_drop=1e6))
    assert study.counted["all"] == 0
    assert {row["auc"] for row in strict.rows} == {None} != {row["auc"] for row in found.rows}
    assert len(asked) == 1 + len(volumes)  # nothing is computed again


def lesions_of(study: Study) -> list[Instance]:
    loaded = load_scan(study.entries[0].scan, CHANNELS, None)
    return find_lesions(study.model, loaded, study.prediction).instances


@pytest.mark.thorough
def test_a_cohort_is_asked_once_and_its_curves_are_those_of_masked_images(
    scan: TinyScan,
    tiny_model: Model,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cohort = write_manifest(tmp_path / "scans.tsv", make_cohort(tmp_path, 1))
    out = tmp_path / "out"
    command = ["experiment", "faithfulness", str(model_folder), str(cohort), "--out", str(out)]
    command += [*QUICK, "--layer", "decoder.0", "--infill", "zero", "--most", "1"]
    assert main(command) == 0
    rows = read_table(out / "faithfulness.tsv")
    methods = {"smoothgrad", "gradcam++", "random", "distance"}
    assert {row["method"] for row in rows} == methods
    assert len(rows) == len(methods) * (1 + len(CHANNELS)) * len(DIRECTIONS)
    content = json.loads((out / "faithfulness.json").read_bytes())
    assert any("there is one patient" in note for note in content["notes"])
    assert any("medians need 5" in note for note in content["notes"])
    assert (out / "faithfulness.png").stat().st_size > 0

    (path,) = (out / "runs" / "lesions").rglob("*_dseg.nii.gz")
    omega = load(path) == int(rows[0]["label"])
    spacing = jaxsal.grid.Grid(omega.shape, scan.affine).spacing
    hidden = scan.image.copy()
    hidden[within(omega, 20.0, spacing), 0] = 0
    field = jaxsal.sliding_window(tiny_model, roi=ROI)
    expected = [np.asarray(field(each))[omega][:, 1].mean() for each in (scan.image, hidden)]
    wanted = {"method": "distance", "channel": "flair", "direction": "deletion"}
    (row,) = (row for row in rows if wanted.items() <= row.items())
    found = [float(row["logit_0"]), float(row["logit_100"])]
    np.testing.assert_allclose(found, expected, atol=1e-4)  # six digits of the table

    monkeypatch.setattr(lesion_module, "answers", None)  # nothing is computed again
    assert main(command) == 0
    assert read_table(out / "faithfulness.tsv") == rows

    # of maps that were made again, as after --retry-failed, curves are, too
    (record,) = (out / "runs" / "lesions" / ".jaxsal" / "scans").glob("*.json")
    record.write_bytes(record.read_bytes() + b"\n")
    with pytest.raises(TypeError):
        main([*command, "--debug"])


def test_the_curves_of_ten_methods_look_different() -> None:
    methods = [*(f"method {i}" for i in range(8)), "random", "distance"]
    logits = {
        "deletion": {f"logit_{percent:g}": 1 - percent / 100 for percent in PERCENT},
        "insertion": {f"logit_{percent:g}": percent / 100 for percent in PERCENT},
    }
    rows = [
        {"scan": "a", "label": 1, "channel": ALL, "auc": 0.5, "infill": "mean"}
        | {"method": method, "direction": direction, **logits[direction]}
        for method in methods
        for direction in DIRECTIONS
    ]
    figure = draw(rows, methods, ["mean"])
    for axes in figure.axes:
        lines = [line for line in axes.lines if line.get_label() in methods]
        assert len({(line.get_color(), str(line.get_linestyle())) for line in lines}) == 10
