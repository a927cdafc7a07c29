"""Fixtures of the tests of one scan's results."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.optimised import optimised

from jaxsal.devices import computing_on


@pytest.fixture(autouse=True, scope="module")
def _on_the_default_device() -> Iterator[None]:
    """As the commands do; compiled programs are shared with their tests only if this is alike."""
    with optimised(), computing_on(None):
        yield
