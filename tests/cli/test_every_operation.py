"""Commands go on whichever operation on files fails, and wherever they are killed.

Those of a cohort's run are in ``tests/cohort/test_every_operation.py``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from helpers.fault_cases import CASES
from helpers.fault_trials import Trials, table
from helpers.optimised import optimised
from helpers.thorough import thorough_except

from jaxsal.devices import computing_on

OTHERS = [name for name in CASES if name != "cohort"]
SHARE = {"train": 0.1}  # of the operations, where a run takes seconds


@pytest.fixture(scope="module")
def trials(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trials]:
    command = request.param
    folder = tmp_path_factory.mktemp("trials") / command
    with optimised(), computing_on(None), Trials(CASES[command], folder) as trials:
        yield trials


@pytest.mark.parametrize("trials", thorough_except(OTHERS, "convert"), indirect=True)
def test_faults_at_two_operations_are_survived(trials: Trials) -> None:
    seed = random.SystemRandom().randrange(10**6)
    told = f"seed {seed}\n{table(trials.outcomes(trials.some(0, seed)))}"
    assert "WRONG" not in told, told


@pytest.mark.thorough
@pytest.mark.parametrize("trials", OTHERS, indirect=True)
def test_every_fault_is_survived(trials: Trials) -> None:
    seed = random.SystemRandom().randrange(10**6)
    share = SHARE.get(trials.name)
    chosen = trials.some(share, seed) if share else trials.all
    told = f"seed {seed}\n{table(trials.outcomes(chosen))}"
    print(told)
    assert "WRONG" not in told, told
