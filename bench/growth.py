"""Memory of a process over many pieces of work: does it grow?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.record import Row
from jaxsal.types import Triple

SETTLING = 0.2  # of the work, before memory is looked at
_MIB = 2**20


def distinct_shapes(shape: Triple, count: int) -> list[Triple]:
    """So many shapes, no smaller than this one."""
    x, y, z = shape
    return [(x + i % 5, y + i // 5 % 5, z + i // 25) for i in range(count)]


def memory_maps() -> int | None:
    """Mappings of this process, of which Linux allows 65,530; None on other systems."""
    path = Path("/proc/self/maps")
    return len(path.read_text().splitlines()) if path.exists() else None


def growth_row(resident: Sequence[int]) -> Row:
    """Resident memory after each piece of work, in bytes, as columns of a table."""
    later = np.array(resident[int(SETTLING * len(resident)) :]) / _MIB
    slope, _ = np.polyfit(np.arange(len(later)), later, 1)
    return {
        "settled_mib": float(later[0]),
        "end_mib": float(later[-1]),
        "largest_mib": float(later.max()),
        "growth_mib_per_scan": float(slope),
    }
