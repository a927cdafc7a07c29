"""The plan of a cohort's run: lesions counted, disk as a run then takes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from helpers import tiny

from jaxsal.cohort.job import CohortJob
from jaxsal.cohort.planning.attempt import Explained, units_of
from jaxsal.cohort.planning.cost import QUICK, Effort, Work, work_of
from jaxsal.cohort.planning.counting import Estimate, Group
from jaxsal.cohort.planning.forecast import CohortPlan, Forecast
from jaxsal.cohort.planning.plan import plan_cohort
from jaxsal.cohort.planning.trial import Trial, try_scan
from jaxsal.cohort.run import run_cohort
from jaxsal.errors import InputError
from jaxsal.field.sliding import sliding_window
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.scan import Scan
from jaxsal.saliency.methods.gradcam import GradCamSettings
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.settings import OUTPUTS, CohortSettings, ExplainSettings, PredictSettings

PREDICTION = PredictSettings(roi=tiny.ROI)
MEMORY = 2**30
SMOOTHGRAD = SmoothGradSettings(samples=3, memory=MEMORY)
BOTH = CohortSettings((SMOOTHGRAD, GradCamSettings("bottleneck", memory=MEMORY)))
SHORT = Effort(sample=1, least_seconds=0.01)
LESIONS = ((4, 3), (2, 5, 6), ())  # voxels of each, of each scan


def given_scan(folder: Path, seed: int, sizes: tuple[int, ...]) -> Entry:
    """A tiny scan with a label map of lines of so many voxels."""
    folder.mkdir()
    files = tiny.make_scan(folder, seed)
    labels = np.zeros(tiny.SHAPE, np.int16)
    for label, size in enumerate(sizes, 1):
        labels[8 : 8 + size, 6 + 4 * label, 9] = label
    path = tiny.save(folder / "labels.nii.gz", labels, files.affine)
    return Entry(folder.name, Scan(files.images, instances=path), {"subject": folder.name})


class Planned(NamedTuple):
    """A cohort, its plan, and what was told of its trials."""

    entries: list[Entry]
    plan: CohortPlan
    tried: list[str]


@pytest.fixture(scope="module")
def planned(tiny_model, tmp_path_factory) -> Planned:
    """A cohort of scans with label maps, and its plan."""
    folder = tmp_path_factory.mktemp("cohort")
    entries = [given_scan(folder / f"p{i}", 7 + i, sizes) for i, sizes in enumerate(LESIONS)]
    tried: list[str] = []
    plan = plan_cohort(
        CohortJob(tiny_model, PREDICTION, BOTH),
        entries,
        effort=SHORT,
        on_trial=lambda entry: tried.append(entry.id),
    )
    return Planned(entries, plan, tried)


def test_the_lesions_of_label_maps_are_counted_exactly(planned):
    plan = planned.plan
    assert plan.scans == 3
    assert plan.lesions == Estimate(5)
    assert plan.voxels == Estimate(20)
    assert plan.gradients == Estimate(3 * 20)
    assert plan.counted == ("3 scans with label maps: counted in all of them",)
    assert planned.tried == ["p1"]
    assert plan.tried == 1


def test_every_part_of_the_work_has_a_share_of_the_time(planned):
    assert list(planned.plan.shares) == [
        *("reading", "prediction", "smoothgrad-max", "gradcam++", "writing")
    ]
    assert all(share.value > 0 for share in planned.plan.shares.values())
    assert planned.plan.compiling > 0


def test_the_host_holds_the_budget_on_a_cpu_and_several_scans(planned):
    memory = planned.plan.memory
    voxels = np.prod(tiny.SHAPE)
    assert memory.computing == MEMORY
    assert memory.host == memory.program + memory.scans + MEMORY
    assert memory.scans > 4 * voxels * 2 * 4  # four images of two channels, at the least


@pytest.mark.parametrize("output", OUTPUTS)
def test_disk_is_forecast_as_a_run_takes_it(planned, tiny_model, tmp_path, output):
    settings = replace(BOTH, output=output)
    for result in run_cohort(
        tiny_model, planned.entries, tmp_path, prediction=PREDICTION, settings=settings
    ):
        assert result.status == "finished", result.reason
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    disk = planned.plan.disk[output]
    assert disk.size.value == pytest.approx(sum(path.stat().st_size for path in written), rel=0.3)
    assert disk.files.value == pytest.approx(len(written), abs=3)


def test_scans_in_which_nothing_is_found_are_tried_with_synthetic_lesions(tiny_model, tmp_path):
    entry = given_scan(tmp_path / "p0", 7, ())
    settings = CohortSettings((replace(SMOOTHGRAD, samples=1),))
    plan = plan_cohort(CohortJob(tiny_model, PREDICTION, settings), [entry], effort=SHORT)
    assert plan.lesions.value == 0
    assert plan.shares["smoothgrad-max"].value == 0
    assert any("synthetic" in note for note in plan.notes)


def test_planning_says_what_it_will_cost_before_it_begins(planned, tiny_model):
    events = []
    plan = plan_cohort(
        CohortJob(tiny_model, PREDICTION, BOTH),
        planned.entries,
        effort=QUICK,
        on_cost=lambda seconds, quick: events.append((seconds, quick)),
        on_trial=lambda entry: events.append(entry.id),
    )
    (seconds, quick), tried = events
    assert 0 < seconds == quick
    assert tried == "p1"
    assert (plan.lesions, plan.voxels) == (planned.plan.lesions, planned.plan.voxels)
    assert any("at once" in note for note in plan.notes)
    assert not any("at once" in note for note in planned.plan.notes)


@pytest.mark.parametrize(("most", "voxels"), [(None, 2 + 5 + 6), (2, 2), (4, 5), (7, 2 + 5)])
def test_a_quick_trial_explains_about_as_many_voxels_as_are_wanted(
    planned, tiny_model, most, voxels
):
    """Of the lesions of 2, 5 and 6 voxels; of larger ones than wanted only a part."""
    job = CohortJob(tiny_model, PREDICTION, CohortSettings((SMOOTHGRAD,)))
    trial = try_scan(job, planned.entries[1], 0.0, most)
    computed = min(voxels, most) if most == 4 else voxels
    assert trial.methods[0].units == SMOOTHGRAD.samples * computed


def test_the_windows_of_a_scan_are_counted_and_those_that_reach_a_voxel(planned, tiny_model):
    job = CohortJob(tiny_model, replace(PREDICTION, overlap=0.5), CohortSettings((SMOOTHGRAD,)))
    work = work_of(job, planned.entries)
    field = sliding_window(tiny_model, roi=tiny.ROI, overlap=0.5)
    every = field.plan(tiny.SHAPE, np.argwhere(np.ones(tiny.SHAPE)))
    assert work.windows == len(every.starts)
    reached = np.count_nonzero(every.weights) / np.prod(tiny.SHAPE)
    # 256 voxels at random; their numbers of windows, from 1 to 8, deviate by less than 2.5
    assert work.reached == pytest.approx(reached, abs=3 * 2.5 / 16)
    assert work.seconds > 0


def test_no_cost_is_said_where_no_scan_can_be_read(tiny_model):
    job = CohortJob(tiny_model, PREDICTION, CohortSettings((SMOOTHGRAD,)))
    assert work_of(job, [Entry("p", Scan((Path("missing.nii.gz"),)), {"subject": "p"})]) is None


def test_the_cost_of_planning_goes_by_windows_scans_and_gradients(tiny_model):
    settings = CohortSettings((replace(SMOOTHGRAD, samples=50),), portion=100)
    job = CohortJob(tiny_model, PREDICTION, settings)
    work = Work(seconds=2.0, compiling=9.0, windows=30, reached=1.5)
    samples = max(2, len(jax.local_devices()))
    gradients = 2 * samples * 100 * 1.5 * 2.0  # each method is computed twice
    assert work.planning(job, Effort(sample=3)) == pytest.approx(3 * (60 + gradients))
    assert work.planning(job, Effort(sample=3), groups=2) == pytest.approx(6 * (60 + gradients))
    few = work.planning(job, Effort(sample=1, least_seconds=0.0, voxels=10))
    assert few == pytest.approx(60 + gradients / 10)
    heat_maps = CohortJob(tiny_model, PREDICTION, CohortSettings((GradCamSettings("bottleneck"),)))
    assert work.planning(heat_maps, Effort(sample=1)) == pytest.approx(60 + 2 * 5.0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (SmoothGradSettings(samples=10), 70),
        (SmoothGradSettings(samples=10, voxels_per_lesion=4), 40),
        (SmoothGradSettings(samples=10, voxels_per_lesion=40), 70),
        (SmoothGradSettings(samples=10, group_size=3), 30),
        (SmoothGradSettings(samples=10, aggregate="mean"), 10),
        (GradCamSettings("bottleneck"), 1),
    ],
)
def test_the_time_of_a_lesion_goes_by_its_gradients(settings, expected):
    assert units_of(ExplainSettings(settings), 7) == expected


def made_up(seconds: float) -> Trial:
    """A trial of a scan with one lesion of 10 voxels, in round numbers."""
    explained = Explained(20.0, seconds, 1000.0, 2, {"table": 0, "cropped": 500, "full": 900}, 3.0)
    written = {"table": 50.0, "cropped": 80.0, "full": 80.0}
    return Trial((10, 10, 10), (10,), (), 2.0, 4.0, 30.0, (explained,), written, 1.0, 100.0)


def test_trials_are_scaled_up_by_scans_and_gradients(tiny_model):
    job = CohortJob(tiny_model, PREDICTION, CohortSettings((SMOOTHGRAD,)))
    entry = Entry("p", Scan((Path("x.nii.gz"),)), {"subject": "p"})
    group = Group("prediction", [entry] * 8, found=[(10,), (10,)])
    lanes = [jax.local_devices()]
    plan = Forecast(job, [group], [made_up(5.0), made_up(7.0)], lanes, 0).plan()
    shares = {name: share.value for name, share in plan.shares.items()}
    assert shares == pytest.approx(
        {
            "reading": 8 * 2,
            "prediction": 8 * 4,
            "smoothgrad-max": 8 * 10 * 3 * (5 / 20 + 7 / 20) / 2,
            "writing": 8 * 3 + 8 * 1,
        }
    )
    assert 32 + 72 < plan.seconds.value <= 32 + 72 + 16 + 32
    # rates of 0.25 and 0.35 have a standard error of 0.05
    assert plan.shares["smoothgrad-max"].error == pytest.approx(8 * 10 * 3 * 0.05)
    assert plan.disk["full"].size.value - plan.disk["cropped"].size.value == 8 * 400
    assert plan.disk["cropped"].files.value - plan.disk["table"].files.value == 8 * (2 + 2 + 2)


@pytest.mark.parametrize("wrong", [{"effort": Effort(sample=0)}, {"masks": 0}])
def test_a_plan_needs_something_to_go_by(tiny_model, wrong):
    entry = Entry("p", Scan((Path("x.nii.gz"),)), {"subject": "p"})
    with pytest.raises(InputError, match="at least one scan"):
        plan_cohort(CohortJob(tiny_model, PREDICTION, BOTH), [entry], **wrong)
