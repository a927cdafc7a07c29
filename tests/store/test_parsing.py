"""Documents that nest without end are mistakes like any other, wherever they are read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import jaxsal
from jaxsal import load_model
from jaxsal.errors import InputError
from jaxsal.store.files import read_json, read_object
from jaxsal.store.parsing import parsed_json, parsed_toml
from jaxsal.toml import read_toml
from jaxsal_converters.config_file import read_mapping

DEEP = 100_000
JSON = "[" * DEEP + "]" * DEEP
ROOT = Path(jaxsal.__file__).parents[1]


def test_what_nests_too_deeply_is_no_value():
    with pytest.raises(ValueError, match="nests too deeply"):
        parsed_json(JSON)
    with pytest.raises(ValueError, match="nests too deeply"):
        parsed_toml(f"key = {JSON}")


def test_what_nests_is_read():
    assert parsed_json(b'{"a": [[1, 2], {"b": null}]}') == {"a": [[1, 2], {"b": None}]}
    assert parsed_toml("[a]\nb = [[1], [2]]") == {"a": {"b": [[1], [2]]}}


@pytest.mark.parametrize("read", [read_object, read_mapping])
def test_a_file_of_brackets_is_refused(tmp_path, read):
    (tmp_path / "plans.json").write_text(JSON)
    with pytest.raises(InputError, match=r"plans\.json cannot be read as JSON: it nests too deep"):
        read(tmp_path / "plans.json")


def test_a_toml_file_of_brackets_is_refused(tmp_path):
    (tmp_path / "training.toml").write_text(f"key = {JSON}")
    with pytest.raises(InputError, match=r"training\.toml is no valid TOML: it nests too deeply"):
        read_toml(tmp_path / "training.toml")


def test_a_model_of_brackets_is_refused(tmp_path):
    (tmp_path / "model.json").write_text(JSON)
    with pytest.raises(InputError, match=r"model\.json cannot be read as JSON"):
        load_model(tmp_path)


def test_a_record_of_brackets_counts_as_none(tmp_path):
    (tmp_path / "run.json").write_text(JSON)
    assert read_json(tmp_path / "run.json") == {}


def test_every_document_is_parsed_in_one_place():
    """Except for what was written in the same expression."""
    parsers = {("json", "load"), ("json", "loads"), ("tomllib", "load"), ("tomllib", "loads")}
    found = []
    for path in sorted([*ROOT.glob("jaxsal/**/*.py"), *ROOT.glob("converters/**/*.py")]):
        text = path.read_text()
        if path == ROOT / "jaxsal/store/parsing.py" or not ("json.l" in text or "tomllib" in text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called = getattr(node.func.value, "id", ""), node.func.attr
                if called in parsers and "json.dumps(" not in ast.unparse(node.args[0]):
                    found.append(f"{path.name}:{node.lineno}")
    assert not found
