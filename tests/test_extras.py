"""Libraries of extras: what is missing is named with the command that installs it."""

from __future__ import annotations

import json

import pytest

from jaxsal.errors import InputError
from jaxsal.extras import import_extra


def test_a_library_that_is_there_is_imported() -> None:
    assert import_extra("json", "train", "training") is json


def test_a_library_that_is_missing_is_named_with_its_extra() -> None:
    expected = r"training needs Grain, which is not installed: `pip install 'jaxsal\[train\]'`"
    with pytest.raises(InputError, match=expected):
        import_extra("jaxsal_has_no_such_module", "train", "training", "Grain")
