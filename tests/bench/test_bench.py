"""Every benchmark runs at toy size, and the peers compute the maps that jaxsal computes."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers.thorough import thorough_except
from monai.networks import nets

import jaxsal
from bench import readme
from bench.__main__ import QUESTIONS, main
from bench.case import PAPER_UNET, TINY_UNET, TOY, dense_maps, make_case, make_field
from bench.cohort_page import BROWSERS
from bench.gradcam import compare
from bench.nets import PAPER_NETWORKS
from bench.pytorch import captum_loop, functional, network, reference_loop, windows
from bench.receptive import exact_crop, pull_back_costs, reached
from bench.record import Result, device_slug
from bench.worker import devices_here, measure
from jaxsal.nets.registry import config_from_arguments, parameter_shapes

COLUMNS = {
    "peers": {
        "peer",
        "ms_per_gradient",
        "difference",
        "times_jaxsal_whole",
        "times_jaxsal_sliding",
    },
    "precision": {"precision", "logit_error", "map_error", "peak_error", "ms_per_gradient"},
    "approximations": {"approximation", "lesion_voxels", "map_error", "peak_error", "seconds"},
    "roofline": {"layer", "mflop", "mbyte", "least_ms", "measured_ms", "share_of_roofline"}
    | {"share_of_peak", "share_of_bandwidth"},
    "paper_scan": {
        *("field", "how", "gradients", "share_of_the_scan", "measured_s", "scan_s"),
        *("gflop", "mbyte", "share_of_peak", "share_of_bandwidth"),
    },
    "agreement": {"network", "window", "device", "logit_difference", "map_difference"},
    "host": {"case", "gradients_per_dispatch", "host_us_per_gradient", "processor_us_per_gradient"},
    "scaling": {"varied", "value", "gradients", "ms_per_gradient", "peak_memory_gib"},
    "devices": {"devices", "seconds", "speed_up", "peak_difference"},
    "compilation": {"field", "cache", "first_call_s", "warm_call_s", "overhead_s"},
    "networks": {
        *("network", "jaxsal_forward_ms", "pytorch_forward_ms", "forward_ratio"),
        *("gflop", "mbyte", "share_of_peak", "share_of_bandwidth"),
        "jaxsal_ms_per_gradient",
        "pytorch_ms_per_gradient",
        "pytorch_per_jaxsal",
        "difference",
        "compile_s",
    },
    "gradcam": {
        *("network", "layer", "unit_vectors", "correlation", "relative_difference"),
        *("wrong_side_of_relu", "closed_form_s", "exact_s", "compile_s"),
        *("stochastic_2_s", "stochastic_2_difference", "stochastic_4_difference"),
    },
    "gradcam_scan": {"layer", "lesions", "windows", "seconds", "times_passes_to_image"},
    "occlusion": {
        *("network", "masks", "passes", "jaxsal_passes_per_s", "pytorch_passes_per_s"),
        *("jaxsal_per_pytorch", "difference"),
    },
    "derivative_modes": {"mode", "gflop", "ms", "difference"},
    "cohort_overhead": {"network", "engine_s", "run_s", "ratio", "processor_ratio", "busy_share"},
    "cohort_memory": {"scans", "which", "settled_mib", "end_mib", "growth_mib_per_scan"},
    "shape_memory": {"scans", "which", "growth_mib_per_scan", "end_mappings", "most_programs"},
    "cohort_resume": {"scans", "lesions", "files", "resume_s", "reading_records_s"},
    "cohort_page": {"lesions", "writing_s", "mib", "opening_s", "sorting_s", "filtering_s"},
    "training": {"network", "patch", "batch", "jaxsal_per_pytorch", "difference", "compile_s"},
}
DEEPER = TINY_UNET | {"channels": [4, 6, 8], "strides": [2, 2]}
IN_PROCESS = (
    *("approximations", "roofline", "paper_scan", "host", "gradcam_scan"),
    *("cohort_overhead", "cohort_memory", "shape_memory", "cohort_resume", "cohort_page"),
)


def answer(question: str, folder: Path) -> dict[str, Any]:
    """The JSON of a benchmark at toy size."""
    assert main([question, "--toy", "--out", str(folder)]) == 0
    (path,) = folder.glob(f"{question}-*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    assert path.stem == f"{question}-{device_slug(found['machine'])}"
    return found


# Quick: one that differentiates and counts, and one that runs a cohort.
@pytest.mark.parametrize("question", thorough_except(IN_PROCESS, "roofline", "cohort_resume"))
def test_a_benchmark_writes_machine_versions_settings_and_its_table(question, tmp_path):
    if question == "cohort_page" and not any(map(shutil.which, BROWSERS)):
        pytest.skip("needs Chromium")
    found = answer(question, tmp_path)
    assert found["machine"]["cores"] >= 1
    assert found["versions"]["jaxsal"] == jaxsal.__version__
    assert found["settings"]["shape"] == list(TOY.shape)
    assert COLUMNS[question] <= {column for row in found["rows"] for column in row}


@pytest.mark.thorough
def test_precision_is_measured_against_an_independent_float64(tmp_path):
    rows = {row["precision"]: row for row in answer("precision", tmp_path)["rows"]}
    assert COLUMNS["precision"] <= set(rows["float32"])
    for error in ("logit_error", "map_error", "peak_error"):
        assert rows["float32"][error] < 1e-5
    assert 1e-4 < rows["bfloat16"]["map_error"] < 0.3


def test_occlusion_and_deletion_give_pytorch_s_logits(tmp_path):
    rows = answer("occlusion", tmp_path)["rows"]
    assert [row["masks"] for row in rows] == 2 * ["occlusion", "deletion"]
    for row in rows:
        assert COLUMNS["occlusion"] <= set(row)
        assert row["passes"] == 4
        assert row["jaxsal_how"] in ("batch 1", "batch 2")
        # Relative to the change that a mask of one voxel makes, a thousandth of the logit: its
        # float32 rounding comes to 1e-4, another mask or filling to about 1.
        assert row["difference"] < 1e-3


@pytest.mark.thorough  # quick: training/test_step.py compares steps with PyTorch
def test_training_steps_are_those_of_pytorch_and_monai(tmp_path):
    (row,) = answer("training", tmp_path)["rows"]
    assert COLUMNS["training"] <= set(row)
    assert row["difference"] < 1e-5


@pytest.mark.thorough
def test_the_peers_question_gives_every_peer_a_row_that_agrees(tmp_path):
    rows = answer("peers", tmp_path)["rows"]
    assert COLUMNS["peers"] <= set(rows[0])
    names = [row["peer"].split("(")[0].strip() for row in rows]
    assert names == [
        *("jaxsal whole", "jaxsal sliding", "reference's loop", "PyTorch windows"),
        *("torch.func vmap", "Captum Saliency + NoiseTunnel windows"),
    ]
    assert all(row["difference"] < 1e-5 for row in rows[2:])
    assert rows[0]["times_jaxsal_whole"] == rows[1]["times_jaxsal_sliding"] == 1


def test_devices_are_counted_by_a_process_of_its_own(monkeypatch):
    """For while this one has looked at a TPU, the processes that compute cannot have it."""
    here = jax.default_backend(), jax.local_device_count()
    monkeypatch.delattr(jax, "default_backend")
    monkeypatch.delattr(jax, "local_device_count")
    assert devices_here() == here


@pytest.mark.parametrize(
    ("question", "count"), [("scaling", 6), ("devices", 2), ("compilation", 2)]
)
def test_benchmarks_in_processes_of_their_own_ask_for_every_point(
    question, count, tmp_path, monkeypatch
):
    asked = []

    def measure(job, **options):
        asked.append((job, options))
        gradients = sum(job.lesions) * job.samples
        found = {"gradients": gradients, "first_seconds": 9.0, "seconds": 1.0 * gradients}
        return found | {"peak_bytes": 2**30, "peak": [2.0, 1.0]}

    monkeypatch.setattr(f"bench.{question}.measure", measure)
    monkeypatch.setattr("bench.devices.devices_here", lambda: ("tpu", 2))
    rows = answer(question, tmp_path)["rows"]
    assert len(rows) == len(asked) == count
    assert COLUMNS[question] == set(rows[0]) & COLUMNS[question]
    if question == "scaling":
        assert {row["ms_per_gradient"] for row in rows} == {1000}
        assert [(r["varied"], r["value"]) for r in rows[2:4]] == [
            ("voxels_per_lesion", 2),
            ("voxels_per_lesion", 4),
        ]
    if question == "devices":
        assert [options["devices"] for _, options in asked] == [1, 2]
        assert [row["peak_difference"] for row in rows] == [0, 0]
        assert [options["environment"] for _, options in asked] == [{}, {}]
    if question == "compilation":
        first, second = (options["environment"] for _, options in asked)
        assert first == second
        assert [row["overhead_s"] for row in rows] == [4, 4]


@pytest.mark.thorough  # quick: the peers, below, at one network
def test_networks_are_measured_beside_pytorch_and_agree(tmp_path, xla_convolutions):
    rows = answer("networks", tmp_path)["rows"]
    assert [row["network"] for row in rows] == ["toy U-Net", "nnU-Net (DynUNet)"]
    for row in rows:
        assert COLUMNS["networks"] <= set(row)
        assert row["difference"] < 1e-4
        assert row["pytorch_per_jaxsal"] == pytest.approx(
            row["pytorch_ms_per_gradient"] / row["jaxsal_ms_per_gradient"]
        )
        ratio = row["pytorch_forward_ms"] / row["jaxsal_forward_ms"]
        assert row["forward_ratio"] == pytest.approx(ratio)


@pytest.mark.thorough
def test_the_closed_form_differs_where_a_norm_follows_and_nowhere_else(tmp_path, xla_convolutions):
    rows = {row["layer"]: row for row in answer("gradcam", tmp_path)["rows"]}
    assert COLUMNS["gradcam"] <= set(rows["encoder.0"])
    assert rows["encoder.0"]["relative_difference"] > 0.01
    for layer in ("bottleneck", "decoder.0.joined"):  # only linear layers above
        assert rows[layer]["relative_difference"] == 0
        assert rows[layer]["correlation"] == pytest.approx(1)
        assert "stochastic_2_s" not in rows[layer]


def test_maps_are_compared_by_hand_worked_numbers():
    exact = np.array([0.0, 0.0, 3.0, 0.0, 4.0, 0.0, 0.0, 0.0])
    found = compare(np.where(exact > 3, 0, exact), exact)
    assert found["relative_difference"] == pytest.approx(4 / 5)
    assert found["wrong_side_of_relu"] == 1 / 8
    # means 3/8 and 7/8; sums of products 9, of squares 9 and 25
    assert found["correlation"] == pytest.approx(
        (9 - 21 / 8) / np.sqrt((9 - 9 / 8) * (25 - 49 / 8))
    )
    nothing = compare(exact, 0 * exact)
    assert nothing["correlation"] is nothing["relative_difference"] is None


def test_the_ways_to_higher_derivatives_agree(tmp_path, xla_convolutions):
    logits, *ways = answer("derivative_modes", tmp_path)["rows"]
    assert [way["mode"] for way in ways] == ["nested forward", "forward over a gradient"]
    assert COLUMNS["derivative_modes"] <= set(ways[1])
    assert all(way["gflop"] > logits["gflop"] > 0 for way in ways)
    assert all(way["difference"] < 1e-3 for way in ways[1:])


@pytest.mark.parametrize(("name", "width"), [("unet", 1 / 16), ("dynunet", 1 / 8)])
def test_monai_networks_take_the_weights_of_a_model(name, width, xla_convolutions):
    paper = PAPER_NETWORKS[name]
    model = paper.model(width)
    image = np.random.default_rng(0).standard_normal((1, 32, 16, 16, 2), np.float32)
    with torch.no_grad():
        logits = network.torch_network(model)(torch.from_numpy(np.moveaxis(image, -1, 1).copy()))
    expected = np.moveaxis(logits.numpy(), 1, -1)
    found = np.asarray(model(jnp.asarray(image)))
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.thorough
def test_the_networks_are_those_of_the_paper():
    assert PAPER_NETWORKS["unet"].model().parameter_count == 7_916_170
    assert PAPER_NETWORKS["dynunet"].config().filters == (16, 32, 64)
    shapes = parameter_shapes(PAPER_NETWORKS["swin-unetr"].config()).values()
    source = nets.SwinUNETR(in_channels=2, out_channels=2)
    assert sum(map(math.prod, shapes)) == sum(value.numel() for value in source.parameters())


@pytest.mark.thorough
def test_a_worker_measures_a_job_in_a_process_of_its_own():
    found = measure(replace(TOY, lesions=(2,), samples=1))
    assert found["gradients"] == 2
    assert found["first_seconds"] > 0
    assert found["peak_bytes"] > 50 * 2**20  # an interpreter with JAX takes more
    assert len(found["peak"]) == 1


PEERS = {
    "reference loop": reference_loop.run,
    "captum": captum_loop.run,
    "torch.func": lambda network, case: functional.run(functional.gradients_of(network), case),
    **{
        variant.name: (lambda network, case, v=variant: windows.run(network, case, v))
        for variant in windows.variants()
    },
}


@pytest.fixture(scope="module")
def toy():
    """A case in which voxels share windows, and its maps."""
    case = make_case(replace(TOY, network=DEEPER))
    return case, dense_maps(make_field(case.model, "whole", TOY.roi), case)


@pytest.mark.parametrize("peer", PEERS)
def test_peers_compute_the_maps_of_jaxsal(peer, toy):
    case, expected = toy
    maps, clock = PEERS[peer](network.torch_network(case.model), case)
    assert clock.gradients == case.gradients
    for label, exact in expected.items():
        np.testing.assert_allclose(maps[label], exact, atol=1e-5 * np.abs(exact).max())
        assert np.abs(exact).max() > 0.01


def test_a_reduced_case_keeps_the_first_voxels_and_samples(toy):
    part = toy[0].reduced(1, 1)
    assert [len(voxels) for voxels in part.lesions.values()] == [1, 1]
    assert part.noise.shape == (1, *TOY.shape, 2)
    assert part.gradients == 2


def test_the_crop_holds_exactly_what_a_gradient_reaches(toy):
    case = toy[0]
    reference = network.torch_network(case.model)
    for voxel in ((13, 11, 8), (0, 23, 14)):
        single = np.zeros_like(case.labels)
        single[voxel] = 1
        one = replace(case.reduced(1, 1), labels=single)
        ((start, size),) = {exact_crop(case.model.config, np.array(voxel), TOY.shape)}
        reached_here = np.argwhere(reference_loop.run(reference, one)[0][1].any(axis=-1))
        assert (reached_here.min(0) >= start).all()
        assert (reached_here.max(0) < np.add(start, size)).all()
        for axis in range(3):
            first, last = reached(case.model.config, voxel[axis], axis)["encoder.0"][0]
            assert reached_here[:, axis].min() == max(first, 0)
            assert reached_here[:, axis].max() == min(last, TOY.shape[axis] - 1)


def test_the_count_of_operations_follows_from_the_architecture():
    config = config_from_arguments("unet", PAPER_UNET)
    extents = [b - a + 1 for (a, b), _ in reached(config, 97, 0).values()]
    assert extents == [2, 2, 2, 2, 4, 9, 19, 39, 79]
    costs = {cost.name: cost for cost in pull_back_costs(config)}
    assert costs["bottleneck"].weights == 27 * 256 * 512
    # one level: on average 1.5 of the bottleneck's cells per axis, each joined by 3 taps
    shallow = config_from_arguments("unet", TINY_UNET)
    bottleneck = {cost.name: cost for cost in pull_back_costs(shallow)}["bottleneck"]
    assert bottleneck.macs == pytest.approx((1.5 * 3) ** 3 * 4 * 6)


def test_results_are_written_between_the_markers_and_drawn(tmp_path):
    answer("roofline", tmp_path)
    page = tmp_path / "README.md"
    page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    readme.redraw(tmp_path, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| bottleneck | " in text
    (picture,) = tmp_path.glob("*.png")
    assert f"({picture.name})" in text


def test_a_device_without_anything_to_draw_has_its_tables_only(tmp_path):
    Result("cohort_page", {}, [{"lesions": 3}]).write(tmp_path)
    page = tmp_path / "README.md"
    page.write_text(f"{readme.BEGIN}\n{readme.END}\n")
    readme.redraw(tmp_path, page)
    assert "| lesions |" in page.read_text()
    assert "![" not in page.read_text()
    assert not list(tmp_path.glob("*.png"))


def test_python_m_bench_lists_the_questions(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {question} " in said for question in QUESTIONS)
    assert main(["nonsense"]) == 2
    assert "no benchmark 'nonsense'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["peers", "--ronds", "3"])
    assert end.value.code == 2
    assert "not expected: --ronds 3" in capsys.readouterr().err
