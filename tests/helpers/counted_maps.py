"""A stand-in for maps that experiments measure at once: it counts how many are computed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from helpers.tiny import CHANNELS

from jaxsal.saliency.maps import Crop


def counted_maps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every map is ones in a small box; the list that is returned grows by one for each."""
    computed: list[int] = []

    def maps_of(*_: object) -> Iterator[tuple[int, Crop]]:
        computed.append(1)
        yield 1, Crop(np.ones((2, 2, 2, len(CHANNELS)), np.float32), (9, 9, 9), 1)

    monkeypatch.setattr("jaxsal.experiments.direct.maps_of", maps_of)
    return computed
