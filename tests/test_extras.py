"""Libraries of extras: what is missing is named with the command that installs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxsal.errors import InputError
from jaxsal.extras import import_extra


def test_a_library_that_is_there_is_imported() -> None:
    assert import_extra("json", "train", "training") is json


def test_a_library_that_is_missing_is_named_with_its_extra() -> None:
    expected = r"training needs Grain, which is not installed: `pip install 'jaxsal\[train\]'`"
    with pytest.raises(InputError, match=expected):
        import_extra("jaxsal_has_no_such_module", "train", "training", "Grain")


@pytest.mark.parametrize("content", ["import json.nothing_of_that_name", "from json import none"])
def test_a_library_that_is_broken_is_not_said_to_be_missing(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"broken{len(content)}.py").write_text(content, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="json"):
        import_extra(f"broken{len(content)}", "train", "training")
