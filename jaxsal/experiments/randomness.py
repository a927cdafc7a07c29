"""Random generators: one per scan, the same in every run."""

from __future__ import annotations

import zlib

import numpy as np

from jaxsal.inputs.entries import Entry


def generator_of(entry: Entry, seed: int, *more: int) -> np.random.Generator:
    """A generator that depends on the seed and the scan, whichever others are in the cohort.

    Args:
        entry: the scan.
        seed: the user's.
        more: what else it is to depend on, such as a lesion's label.
    """
    return np.random.default_rng([seed, zlib.crc32(entry.stem.encode()), *more])
