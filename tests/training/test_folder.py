"""The folder of a training: beginning anew removes what a run wrote, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxsal.errors import InputError
from jaxsal.training.folder import MODELS, TrainingFolder


def test_beginning_anew_removes_links_and_leaves_what_they_point_at(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (elsewhere / "model.json").write_text("precious")
    for name in (*MODELS, "tensorboard"):
        (out / name).symlink_to(elsewhere)
    (out / "run.json").write_text(json.dumps({"command": "train", "identity": {}}))
    with TrainingFolder(out).opened({}, {}, overwrite=True):
        assert sorted(path.name for path in out.iterdir()) == [".jaxsal", "run.json"]
    assert (elsewhere / "model.json").read_text() == "precious"


def test_beginning_anew_leaves_what_others_put_beside_the_results(tmp_path: Path) -> None:
    board, best = tmp_path / "tensorboard", tmp_path / "best"
    written = [tmp_path / "log.tsv", board / "events.out.tfevents.1.host"]
    for path in (*written, board / "notes.txt", best / "notes.txt"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "run.json").write_text(json.dumps({"command": "train", "identity": {}}))
    folder = TrainingFolder(tmp_path)
    with pytest.raises(InputError, match=r"best is not overwritten.*: it holds notes\.txt"):
        folder.opened({}, {}, overwrite=True).__enter__()
    assert all(path.exists() for path in written)
    (best / "notes.txt").unlink()
    with folder.opened({}, {}, overwrite=True):
        assert not any(path.exists() for path in (*written, best))
        assert (board / "notes.txt").exists()
