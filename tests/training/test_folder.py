"""The folder of a training: beginning anew removes what a run wrote, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

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
