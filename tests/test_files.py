"""Files that appear whole or not at all."""

from __future__ import annotations

import pytest

from jaxsal.errors import InputError
from jaxsal.files import whole_file


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupted() -> None:
        with whole_file(tmp_path / "table.tsv") as file:
            file.write(b"half a ta")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "table.tsv"
    path.write_bytes(b"precious")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(InputError, match=r"table\.tsv: No space left"), whole_file(path) as file:
        file.write(b"new")
    assert [(p, p.read_bytes()) for p in tmp_path.iterdir()] == [(path, b"precious")]


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_bytes(b"a longer old content")
    with whole_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"a longer old content"
    assert [(p, p.read_bytes()) for p in tmp_path.iterdir()] == [(path, b"new")]
