"""The memory budget of a run, which decides what is computed together.

Results depend on it by rounding. A run therefore goes on with the budget that it began with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jaxsal.settings import CohortSettings


def with_budget(settings: CohortSettings, now: int, earlier: int | None = None) -> CohortSettings:
    """The settings with a memory budget for each method that has none.

    Args:
        settings: of the run.
        now: bytes that are free for computing maps.
        earlier: the budget that the run began with, if it did. It stands, unless it is more than
            twice what is free now.
    """
    budget = earlier if earlier is not None and earlier <= 2 * now else now
    return _with_memory(settings, lambda own: own or budget)


def at_most(settings: CohortSettings, most: int) -> CohortSettings:
    """The settings with budgets of no more than so many bytes."""
    return _with_memory(settings, lambda own: min(own or most, most))


def _with_memory(settings: CohortSettings, budget: Callable[[int | None], int]) -> CohortSettings:
    methods = tuple(replace(m, memory=budget(m.memory)) for m in settings.saliency)
    return replace(settings, saliency=methods)
