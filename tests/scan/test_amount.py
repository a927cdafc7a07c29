"""What maps will take: gradients in words, and seconds from the first batches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jaxsal.progress import Progress
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.amount import Amount, Duration, Pace
from jaxsal.settings import ExplainSettings

ROWS = {
    1: {"kind": "FP", "voxels": 10},
    4: {"kind": "TP", "voxels": 2984},
}
AMOUNT = Amount(ExplainSettings(), ROWS, {1: 500, 4: 149_500})


def forecast(seconds: list[float], gradients: int = 10, total: int = 100) -> Duration | None:
    """What a pace says after batches that took so long."""
    now = 0.0
    pace = Pace(least_seconds=3.0, clock=lambda: now)
    found = None
    for batch, took in enumerate(seconds, 1):
        now += took
        found = pace(Progress(0, 2, batch * gradients, total))
    return found


def test_the_lesion_that_takes_most_is_named_with_its_share() -> None:
    assert str(AMOUNT) == (
        "150,000 gradients (50 noisy images) for 2 lesions of 2,994 voxels; "
        "lesion 4 (TP, 2,984 voxels) takes 100 % of them"
    )


def test_windows_that_a_voxel_lies_in_are_said() -> None:
    amount = replace(AMOUNT, gradients={label: 4 * n for label, n in AMOUNT.gradients.items()})
    assert "600,000 gradients (50 noisy images, 4.0 windows per voxel) for" in str(amount)
    mean = ExplainSettings(SmoothGradSettings(aggregate="mean"))
    amount = replace(amount, settings=mean, gradients=dict.fromkeys(amount.rows, 200))
    assert "400 gradients (50 noisy images, 4.0 windows per lesion) for" in str(amount)


def test_what_an_earlier_run_finished_and_what_may_be_spared_is_said() -> None:
    settings = ExplainSettings(SmoothGradSettings(tolerance=0.05))
    said = str(replace(AMOUNT, settings=settings, kept=1))
    assert said.startswith("going on after 1 finished lesion: at most 150,000 gradients")


def test_nothing_left_is_said() -> None:
    assert str(Amount(ExplainSettings(), {}, {}, kept=3)) == (
        "3 lesions finished before, none left to compute"
    )


def test_even_batches_are_continued() -> None:
    found = forecast([2.0, 2.0, 2.0])
    assert found is not None
    assert found.seconds == pytest.approx(20)
    # 14 s are left; gradients of other lesions may differ by a fifth
    assert (found.low, found.high) == pytest.approx((20 - 2.8, 20 + 2.8))


def test_uneven_batches_widen_the_range() -> None:
    even, uneven = forecast([2.0] * 4), forecast([1.0, 3.0, 1.0, 3.0])
    assert even is not None
    assert uneven is not None
    assert uneven.seconds == pytest.approx(even.seconds)
    # two standard errors of the mean of 1, 3, 1, 3: 2 · sqrt(4 / 3 / 4) of 2; with a fifth: hypot
    spread = (1 / 3 + 0.2**2) ** 0.5
    assert uneven.high - uneven.seconds == pytest.approx(12 * spread)


@pytest.mark.parametrize("seconds", [[2.0, 2.0], [0.5, 0.5, 0.5]])
def test_too_few_or_too_short_batches_are_not_believed(seconds: list[float]) -> None:
    assert forecast(seconds) is None


def test_the_end_is_no_guess() -> None:
    assert forecast([1.0, 1.0], total=20) == Duration(2.0, 2.0, 2.0)
