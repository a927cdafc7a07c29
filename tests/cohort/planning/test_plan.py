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
from jaxsal.cohort.planning.counting import Group, Uncertain, units_of
from jaxsal.cohort.planning.forecast import CohortPlan, forecast_run
from jaxsal.cohort.planning.plan import QUICK, Effort, plan_cohort
from jaxsal.cohort.planning.trial import Trial, Written, timed
from jaxsal.cohort.run import run_cohort
from jaxsal.compilation import compiling_seconds
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.progress import OnProgress, Progress
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
    assert plan.lesions == Uncertain(5)
    assert plan.voxels == Uncertain(20)
    assert plan.gradients == Uncertain(3 * 20)
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


@pytest.mark.thorough
def test_scans_in_which_nothing_is_found_are_tried_with_synthetic_lesions(tiny_model, tmp_path):
    entry = given_scan(tmp_path / "p0", 7, ())
    settings = CohortSettings((replace(SMOOTHGRAD, samples=1),))
    plan = plan_cohort(CohortJob(tiny_model, PREDICTION, settings), [entry], effort=SHORT)
    assert plan.lesions.value == 0
    assert plan.shares["smoothgrad-max"].value == 0
    assert any("synthetic" in note for note in plan.notes)


def test_planning_says_what_it_costs_once_a_scan_is_predicted(planned, tiny_model):
    events = []
    plan = plan_cohort(
        CohortJob(tiny_model, PREDICTION, BOTH),
        planned.entries,
        effort=QUICK,
        on_cost=lambda seconds, quick: events.append((seconds, quick)),
        on_trial=lambda entry: events.append(entry.id),
    )
    tried, (seconds, quick) = events
    assert tried == "p1"
    assert 0 < seconds == quick
    assert (plan.lesions, plan.voxels) == (planned.plan.lesions, planned.plan.voxels)


class Batches:
    """A computation of batches of ten gradients, a second each; the first one compiles, too."""

    def __init__(self, batches: int) -> None:
        self.batches, self.done, self.now = batches, 0, 0.0

    def __call__(self, on_progress: OnProgress) -> None:
        for number in range(1, self.batches + 1):
            self.done += 1
            self.now += 1
            if self.done == 1:
                self.now += 9
                compiling_seconds().append(9.0)
            on_progress(Progress(0, 1, 10 * number, 10 * self.batches))

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize(("least", "done"), [(0.0, 4), (7.0, 8)])
def test_a_method_is_timed_by_its_first_batches(least, done):
    batches = Batches(200)
    assert timed(batches, least, batches.clock) == (200, 9)
    assert batches.done == done  # the first one does not count


def test_what_compiles_in_its_only_batch_is_computed_again():
    batches = Batches(1)
    assert timed(batches, 5.0, batches.clock) == (1, 10)
    assert batches.done == 2


def test_a_method_that_reports_no_progress_is_timed_as_a_whole():
    batches = Batches(2)
    assert timed(lambda on_progress: batches(lambda _: None), 0.0, batches.clock) == (2, 9)


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


def made_up(rate: float) -> Trial:
    """A trial of a scan with one lesion of 10 voxels, in round numbers."""
    lesions = {
        "table": Written(100.0, 0, 3.0),
        "cropped": Written(600.0, 2, 3.0),
        "full": Written(1000.0, 2, 3.0),
    }
    scans = dict.fromkeys(lesions, Written(80.0, 4, 1.0))
    return Trial((10, 10, 10), (10,), (), 2.0, 4.0, 30.0, (rate,), 1000, lesions, scans)


def test_trials_are_scaled_up_by_scans_and_gradients(tiny_model):
    job = CohortJob(tiny_model, PREDICTION, CohortSettings((SMOOTHGRAD,)))
    entry = Entry("p", Scan((Path("x.nii.gz"),)), {"subject": "p"})
    group = Group("prediction", [entry] * 8, found=[(10,), (10,)])
    lanes = [jax.local_devices()]
    plan = forecast_run(job, [group], [made_up(0.25), made_up(0.35)], lanes, 0)
    shares = {name: share.value for name, share in plan.shares.items()}
    assert shares == pytest.approx(
        {
            "reading": 8 * 2,
            "prediction": 8 * 4,
            "smoothgrad-max": 8 * 10 * 3 * 0.3,
            "writing": 8 * 3 + 8 * 1,
        }
    )
    assert 32 + 72 < plan.seconds.value <= 32 + 72 + 16 + 32
    # rates of 0.25 and 0.35 have a standard error of 0.05
    assert plan.shares["smoothgrad-max"].error == pytest.approx(8 * 10 * 3 * 0.05)
    assert plan.disk["full"].size.value - plan.disk["cropped"].size.value == 8 * 400
    assert plan.disk["cropped"].files.value - plan.disk["table"].files.value == 8 * 2


@pytest.mark.parametrize("wrong", [{"effort": Effort(sample=0)}, {"effort": Effort(masks=0)}])
def test_a_plan_needs_something_to_go_by(tiny_model, wrong):
    entry = Entry("p", Scan((Path("x.nii.gz"),)), {"subject": "p"})
    with pytest.raises(InputError, match="at least one scan"):
        plan_cohort(CohortJob(tiny_model, PREDICTION, BOTH), [entry], **wrong)
