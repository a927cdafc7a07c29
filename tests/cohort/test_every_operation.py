"""A cohort's run goes on whichever operation on files fails, and wherever it is killed."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from helpers.fault_cases import CASES
from helpers.fault_trials import Trials, table


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    with Trials(CASES["cohort"], tmp_path_factory.mktemp("trials") / "cohort") as trials:
        yield trials


def test_a_fault_at_any_tenth_of_the_operations_is_survived(trials: Trials) -> None:
    seed = random.SystemRandom().randrange(10**6)
    outcomes = list(trials.outcomes(trials.some(0.1, seed)))
    told = f"seed {seed}\n{table(outcomes)}"
    assert "WRONG" not in told, told


@pytest.mark.thorough
def test_every_fault_is_survived(trials: Trials) -> None:
    told = table(trials.outcomes(trials.all))
    print(told)
    assert "WRONG" not in told, told
