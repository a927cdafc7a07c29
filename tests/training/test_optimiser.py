"""The learning rate: by hand, at the start, at the peak and down the cosine."""

from __future__ import annotations

import math

import pytest

from jaxsal.training.settings import OptimiserSettings
from jaxsal.training.step import learning_rate


def test_the_rate_warms_up_and_decays_by_a_cosine() -> None:
    rate = learning_rate(OptimiserSettings(rate=1.0, warm_up=4), 12)
    found = [float(rate(update)) for update in range(13)]
    rising = [0.2, 0.4, 0.6, 0.8]  # not from 0, which would waste the first update
    falling = [(1 + math.cos(math.pi * n / 8)) / 2 for n in range(9)]
    assert found == pytest.approx(rising + falling, abs=1e-6)
    assert found[8] == pytest.approx(0.5, abs=1e-6)  # half-way down
    assert (max(found), found[-1]) == (1.0, 0.0)


def test_without_a_warm_up_it_begins_at_its_peak() -> None:
    rate = learning_rate(OptimiserSettings(rate=0.03, warm_up=0), 2)
    assert [float(rate(update)) for update in range(3)] == pytest.approx([0.03, 0.015, 0], abs=1e-8)


def test_batches_of_an_update_count_as_one() -> None:
    several = learning_rate(OptimiserSettings(rate=1.0, warm_up=2, accumulate=5), 44)
    single = learning_rate(OptimiserSettings(rate=1.0, warm_up=2), 8)
    updates = range(9)
    assert [float(several(n)) for n in updates] == [float(single(n)) for n in updates]
    assert float(several(8)) == 0.0
