"""Checkpoints come back as they were, and a damaged one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.training_small import QUICK

from jaxsal.errors import InputError
from jaxsal.training.checkpoints import Checkpoints, Progress
from jaxsal.training.step import TrainingState, learning_rate, make_optimiser


def state(seed: int) -> TrainingState:
    rng = np.random.default_rng(seed)
    weights = {"a.kernel": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)}
    optimiser = make_optimiser(QUICK, learning_rate(QUICK, 10)).init(weights)
    optimiser = jax.tree.map(lambda leaf: leaf + seed, optimiser)
    return TrainingState(weights, {"a.mean": jnp.ones(3)}, optimiser, jnp.asarray(seed, jnp.int32))


def test_the_latest_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.restore(state(0), "mine") is None
    told: dict[str, Any] = {
        "best": {"step": 2, "ndsc": 0.1 + 0.2},
        "sums": {"loss": 1 / 3},
        "seconds": 1e-9,
    }
    told["training"] = "mine"
    for step in (1, 2, 3):
        checkpoints.save(state(step), Progress(step=step, **told))
    checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]
    again = Checkpoints(tmp_path, keep=2)
    restored = again.restore(state(0), "mine")
    assert restored is not None
    found, progress = restored
    assert progress == Progress(step=3, **told)  # to the last bit
    expected = state(3)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    with pytest.raises(InputError, match=r"of another training than this one.*--overwrite"):
        again.restore(state(0), "other")
    again.close()


def test_a_damaged_one_is_told(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(state(1), Progress(step=1))
    checkpoints.close()
    for path in (tmp_path / "1" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"checkpoint .*/1 is damaged: remove it to go on from"):
        Checkpoints(tmp_path, keep=2).restore(state(0), "")
