"""How a cohort's results came about, as far as it is known."""

from __future__ import annotations

from typing import Any

import pytest

from jaxsal.cohort.report import run_facts

IDENTITY = {"model": {"architecture": {}}, "settings": {"saliency": {}}, "precision": "float32"}
SOFTWARE = {"jaxsal": "1", "jax": "2", "python": "3", "libraries": {}}
TOLD = {"identity": {**IDENTITY, "prediction": {}}, **SOFTWARE}


@pytest.mark.parametrize(
    ("told", "ran", "devices"),
    [
        ({}, [], None),
        ({"device": "cpu"}, [], "cpu"),
        ({}, ["H200", "cpu", "H200"], "H200 (2 of 3 scans), cpu (1 of 3 scans)"),
    ],
)
def test_devices_are_told_once_they_are_known(
    told: dict[str, Any], ran: list[str], devices: str | None
) -> None:
    scans = [{"device": device, "seconds": 1.0, **SOFTWARE} for device in ran]
    assert run_facts({**TOLD, **told}, scans)["Run"].get("devices") == devices
