"""Which values of a compiled program lie in the memory of results that are not yet written.

As XLA's buffer assignment has it: the largest value first, and of equal ones the earliest; in the
smallest memory that is free meanwhile, and of equal ones that of the last result.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TypeVar

V = TypeVar("V")
Span = tuple[float, float]  # when a value is written and when it is read for the last time


def lent(spans: Mapping[V, Span], sizes: Mapping[V, int], results: Collection[V]) -> set[V]:
    """The values that take no memory of their own, though they are no results.

    Args:
        spans: of all that is written.
        sizes: in bytes.
        results: those of the values that are there to the end.
    """
    largest_first = sorted(spans, key=lambda value: (-sizes[value], spans[value]))
    memories = [value for value in largest_first if value in results]
    taken = {result: [(spans[result][0], math.inf)] for result in reversed(memories)}
    found = set()
    for value in (value for value in largest_first if value not in taken):
        for result, others in taken.items():
            fits = sizes[value] <= sizes[result]
            if fits and all(_apart(spans[value], other) for other in others):
                others.append(spans[value])
                found.add(value)
                break
    return found


def _apart(one: Span, other: Span) -> bool:
    return one[1] < other[0] or other[1] < one[0]
