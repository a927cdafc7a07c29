"""Which cases of a parametrised test are left to the thorough run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thorough_except(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """The cases as parameters, all marked ``thorough`` but for those that the quick run keeps."""
    cases = list(cases)
    assert all(case in cases for case in quick), f"{quick} must be of {cases}"
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if case in quick else pytest.mark.thorough,
        )
        for case in cases
    ]
