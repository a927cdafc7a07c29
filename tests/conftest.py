"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real scans and a trained checkpoint; tests that need it skip without it."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("JAXSAL_SHARED", beside))
    if not (folder / "data").is_dir():
        pytest.skip("needs real data: set JAXSAL_SHARED to the folder holding data/ and models/")
    return folder
