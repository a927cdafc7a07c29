"""The check of a device against its host's CPU passes where they agree, and fails where not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench import agreement
from bench.__main__ import main
from bench.case import dense_maps


@pytest.fixture
def one_network(monkeypatch):
    monkeypatch.setattr(agreement, "TOY_NETWORKS", agreement.TOY_NETWORKS[:1])


@pytest.mark.thorough
def test_a_cpu_agrees_with_itself(one_network, tmp_path):
    assert main(["agreement", "--toy", "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("agreement-*.json")
    (row,) = json.loads(path.read_text())["rows"]
    assert row["logit_difference"] < 1e-6
    assert row["map_difference"] < 1e-6


@pytest.mark.parametrize(("factor", "shown"), [(1.001, "0.001"), (np.nan, "nan")])
def test_maps_that_differ_are_a_fault(one_network, factor, shown, tmp_path, monkeypatch, capsys):
    computed = []

    def maps(field, case):
        computed.append(None)
        factors = (factor, 1)  # the device's, then the CPU's
        return {k: factors[len(computed) - 1] * v for k, v in dense_maps(field, case).items()}

    monkeypatch.setattr(agreement, "dense_maps", maps)
    assert main(["agreement", "--toy", "--out", str(tmp_path)]) == 1
    assert f"toy U-Net: map difference from the CPU is {shown}" in capsys.readouterr().err
