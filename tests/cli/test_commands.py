"""The commands as a user runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny import MISSED, ROI, SHAPE, TinyScan, contents, load, read_table, save
from monai.networks.nets import UNet

import jaxsal
from jaxsal.checkpoints import load_model
from jaxsal.cli.main import main
from jaxsal.devices import computing_on
from jaxsal.errors import InputError, at_work_on
from jaxsal.inputs.entries import Scan
from jaxsal.model import Model
from jaxsal.preprocessing import Preprocessing
from jaxsal.saliency.methods.gradcam import GradCamSettings
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.lesion_table import INSTANCE_COLUMNS
from jaxsal.settings import ExplainSettings, PredictSettings, UncertaintySettings

load_once = cache(load_model)


pytestmark = pytest.mark.filterwarnings("always")  # commands print warnings


def scan_arguments(scan: TinyScan) -> list[str]:
    return ["--image", str(scan.flair), "--image", str(scan.t1), "--roi", str(ROI[0])]


@pytest.fixture(scope="module")
def explained(scan: TinyScan, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("explain") / "out"
    arguments = ["explain", str(model_folder), *scan_arguments(scan), "--out", str(out)]
    assert main([*arguments, "--samples", "2", "--labels", "3,1"]) == 0
    return out


def test_convert_writes_a_model_that_computes_what_monai_computes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    network = UNet(3, 2, 2, channels=(4, 6), strides=(2,), norm="batch").eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pth")
    arguments = ["convert", "unet", str(tmp_path / "net.pth"), "--out", str(tmp_path / "model")]
    options = ["--threshold", "0.3", "--channels", "flair", "mprage", "--verify"]
    options += ["--orientation", "RAS", "--voxel-size", "1", "1", "1.2"]
    assert main([*arguments, *options]) == 0
    said = capsys.readouterr().out
    assert "channels flair, mprage, target lesion, threshold 0.3" in said
    difference = float(said.split("relative to the largest: ")[1].split()[0])
    assert difference < 1e-5

    model = jaxsal.load_model(tmp_path / "model")
    batch = np.random.default_rng(0).standard_normal((1, 8, 8, 8, 2)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(np.moveaxis(batch, -1, 1).copy())).numpy()
    np.testing.assert_allclose(model(batch), np.moveaxis(expected, 1, -1), atol=1e-5)
    assert (model.channels, model.threshold) == (("flair", "mprage"), 0.3)
    assert model.preprocessing == Preprocessing(orientation="RAS", spacing=(1.0, 1.0, 1.2))
    assert main(["info", str(tmp_path / "model")]) == 0
    said = capsys.readouterr().out
    assert "\naxes: RAS\nvoxel size: 1 × 1 × 1.2 mm\nnormalisation: z-score over what" in said


@pytest.mark.parametrize(
    ("network", "module", "line"),
    [
        ("unet", "monai.networks.nets", "pip install monai"),
        (
            "nnunet",
            "dynamic_network_architectures.architectures.unet",
            "pip install dynamic-network-architectures==0.3.1",
        ),
    ],
)
def test_convert_refuses_to_verify_before_anything_is_read_where_the_peer_is_missing(
    network: str,
    module: str,
    line: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    command = ["convert", network, str(tmp_path / "absent"), "--out", str(tmp_path / "model")]
    assert main([*command, "--verify"]) == 2
    assert f"not installed: {line} " in capsys.readouterr().err
    assert main(command) == 2
    assert "absent" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main([*command, "--verify"]) == 2
    assert line.replace("install", "install torch") in capsys.readouterr().err


@pytest.mark.parametrize("network", ["unet", "nnunet"])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--orientation", "RAX"], "an orientation is three letters"),
        (["--voxel-size", "1", "1"], "spacing must be three sizes in mm"),
        (["--voxel-size", "-1"], "spacing must be three sizes in mm"),
        (["--voxel-size", "inf"], "spacing must be three sizes in mm"),
        (["--out", "{taken}"], "is a file; give a new folder for the model"),
    ],
)
def test_convert_checks_its_options_before_anything_is_read(
    network: str,
    option: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "taken").touch()
    given = [part.format(taken=tmp_path / "taken") for part in option]
    command = ["convert", network, str(tmp_path / "absent"), "--out", str(tmp_path / "model")]
    assert main([*command, *given]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "absent" not in said


def test_convert_keeps_the_target_for_all_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = UNet(3, 1, 4, channels=(2, 3), strides=(2,), norm="batch")
    torch.save(network.state_dict(), tmp_path / "net.pth")
    command = ["convert", "unet", str(tmp_path / "net.pth"), "--out", str(tmp_path / "model")]
    names = ["--outputs", "rest", "white", "grey", "lesion"]
    for options, target in (
        (["--target", "3"], "output3 (output 3)"),
        ([*names, "--target", "lesion"], "lesion (output 3)"),
        (names, "white (output 1)"),
    ):
        assert main([*command, *options, "--overwrite"]) == 0
        assert (
            "if the lesion is another one, set it with --target" in capsys.readouterr().out
        ) == ("--target" not in options)
        assert main(["info", str(tmp_path / "model")]) == 0
        assert f"target: {target}\n" in capsys.readouterr().out
    assert main([*command, "--target", "cyst", "--overwrite"]) == 2
    assert "its outputs are output0, output1, output2, output3" in capsys.readouterr().err


def test_info_shows_what_users_need(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model_folder)]) == 0
    said = capsys.readouterr().out
    for part in ("network: unet", "channels: flair, t1", "threshold: 0.7", "receptive field: "):
        assert part in said
    assert "multiples of: 4 × 4 × 4" in said
    for layer in ("encoder.0.conv", "bottleneck", "decoder.0.upsample.conv"):
        assert f"\n  {layer} " in said


def test_predict_tells_where_its_results_are(
    tmp_path: Path, scan: TinyScan, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["predict", str(model_folder), *scan_arguments(scan), "--out", str(out)]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    files = "flair: flair.nii.gz, t1: t1.nii.gz\n"
    assert captured.out.startswith(files)
    assert captured.out.endswith(f"\n3 lesions found; results in {out}\n")
    first, *lines = captured.err.splitlines()
    assert first.startswith("computing on ")
    stages = {line.split("] ")[1].split(":")[0] for line in lines}
    assert stages == {"finding lesions"}
    assert np.unique(load(out / "instances.nii.gz")).tolist() == [0, 1, 2, 3]
    assert main([*arguments, "--threshold", "0.999", "--overwrite"]) == 0
    assert capsys.readouterr().out == f"{files}0 lesions found; results in {out}\n"
    assert not load(out / "instances.nii.gz").any()


def printed_rows(out: str) -> list[list[str]]:
    """The cells of the table that predict printed, with its header."""
    lines = out.splitlines()
    return [line.split() for line in lines[1:-1]]


def test_predict_prints_its_table_with_true_lesions_first(
    tmp_path: Path,
    explained: Path,
    scan: TinyScan,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = load(explained / "instances.nii.gz")
    path = save(tmp_path / "reference.nii.gz", (found == 2).astype(np.uint8))
    capsys.readouterr()
    out = tmp_path / "out"
    line = [*scan_arguments(scan), "--reference", str(path), "--out", str(out)]
    assert main(["predict", str(model_folder), *line]) == 0
    header, *rows = printed_rows(capsys.readouterr().out)
    assert header == ["label", "kind", "voxels", "mm³", "x_mm", "y_mm", "z_mm"]
    assert [row[1] for row in rows] == ["TP", "FP", "FP"]
    assert int(rows[1][2]) >= int(rows[2][2])
    table = {row["label"]: list(row.values()) for row in read_table(out / "instances.tsv")}
    for label, kind, *numbers in rows:
        assert table[label][1] == kind
        np.testing.assert_allclose(
            [float(n) for n in numbers], [float(n) for n in table[label][2:]], atol=0.05
        )


@pytest.mark.parametrize(("terminal", "shown"), [(True, 25), (False, 40)])
def test_a_terminal_gets_the_first_lesions_of_many_and_a_pipe_all_of_them(
    tmp_path: Path,
    scan: TinyScan,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
    shown: int,
) -> None:
    cells = [(n, "predicted", 100 - n, 1.0, 0.0, 0.0, 0.0) for n in range(1, 41)]
    rows = [dict(zip(INSTANCE_COLUMNS, each, strict=True)) for each in cells]
    monkeypatch.setattr("jaxsal.scan.predict.predict", lambda *_, **__: rows)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")  # as rich knows a terminal, too
    out = tmp_path / "out"
    assert main(["predict", str(model_folder), *scan_arguments(scan), "--out", str(out)]) == 0
    printed = printed_rows(capsys.readouterr().out)
    assert [row[0] for row in printed[1 : shown + 1]] == [str(n) for n in range(1, shown + 1)]
    rest = " ".join(word for row in printed[shown + 1 :] for word in row)
    assert rest == (f"... and 15 more in {out / 'instances.tsv'}" if terminal else "")


def test_predict_counts_against_a_reference(
    tmp_path: Path,
    explained: Path,
    scan: TinyScan,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reference = (load(explained / "instances.nii.gz") == 2).astype(np.uint8)
    reference[MISSED] = 1
    path = save(tmp_path / "reference.nii.gz", reference)
    command = ["predict", str(model_folder), *scan_arguments(scan), "--reference", str(path)]
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "3 found: 1 TP, 2 FP; 1 missed (FN); results in" in capsys.readouterr().out


def test_a_mask_makes_what_is_outside_of_the_brain_background(
    tmp_path: Path,
    explained: Path,
    scan: TinyScan,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    brain = scan.image[..., 0] != 0
    noise = np.random.default_rng(0).normal(0, 30, brain.shape).astype(np.float32) * ~brain
    noisy = [save(tmp_path / path.name, load(path) + noise, scan.affine) for path in scan.images]
    mask = save(tmp_path / "brain.nii.gz", brain.astype(np.uint8), scan.affine)
    command = ["predict", str(model_folder), "--image", str(noisy[0]), "--image", str(noisy[1])]
    command += ["--roi", "16", "--out", str(tmp_path / "out")]
    assert main([*command, "--mask", str(mask)]) == 0
    assert "warning" not in capsys.readouterr().err
    found, expected = (load(out / "prediction.nii.gz") for out in (tmp_path / "out", explained))
    np.testing.assert_array_equal(found, expected)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["inputs"]["mask"]["file"] == str(mask)
    assert record["inputs"]["t1"]["background"] == {"value": 0.0, "voxels": int((~brain).sum())}
    assert main([*command, "--overwrite"]) == 0
    assert "13,440 of 13,440 voxels count as head" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--labels 3", "1 lesion explained; open file://{}/index.html"),
        ("--labels 3,1 --no-pictures", "2 lesions explained; results in {}"),
        (
            "--level class --uncertainty noise --members 2",
            "all segmented voxels explained; open file://{}/index.html",
        ),
    ],
)
def test_explain_ends_with_its_lesions_and_where_the_page_is(
    options: str,
    said: str,
    tmp_path: Path,
    scan: TinyScan,
    model_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["explain", str(model_folder), *scan_arguments(scan), "--out", str(tmp_path)]
    assert main([*command, "--samples", "1", *options.split()]) == 0
    _, header, *lesions, last = capsys.readouterr().out.splitlines()
    assert " ".join(header.split()) == "label kind mm³ flair max flair min t1 max t1 min"
    assert last == said.format(tmp_path)
    written = {row["label"]: row for row in read_table(tmp_path / "instances.tsv")}
    assert [line.split()[0] for line in lesions] == sorted(
        written, key=lambda label: -int(written[label]["voxels"])
    )
    for label, _, *numbers in map(str.split, lesions):
        names = ("volume_mm3", "flair_max", "flair_min", "t1_max", "t1_min")
        expected = [float(written[label][name]) for name in names]
        assert [float(each) for each in numbers] == pytest.approx(expected, rel=0.01)


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(
    tmp_path: Path, scan: TinyScan, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["explain", str(model_folder), *scan_arguments(scan), "--out", str(tmp_path / "out")]
    assert main([*command, "--samples", "1", "--labels", "3", "--dry-run"]) == 0
    _, amount, forecast = capsys.readouterr().out.splitlines()
    windows = r"1 noisy image, \d\.\d windows per voxel"
    assert re.fullmatch(rf"\d+ gradients \({windows}\) for 1 lesion of \d+ voxels", amount)
    assert re.fullmatch(r"forecast: about .+, likely .+ to .+", forecast)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 2])
def test_an_interrupted_explanation_says_what_is_kept(
    kept: int,
    tmp_path: Path,
    scan: TinyScan,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def explain(*_: object, **__: object) -> None:
        folder = tmp_path / ".jaxsal-unfinished"
        folder.mkdir()
        (folder / "portion-00000.json").write_text(json.dumps({"rows": kept * [{}]}))
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxsal.scan.explain.explain", explain)
    command = ["explain", str(model_folder), *scan_arguments(scan), "--out", str(tmp_path)]
    assert main(command) == 130
    said = capsys.readouterr().err
    assert ("2 lesions are finished and kept, the same command goes on" in said) == bool(kept)
    assert ("no results were written, the same command begins again" in said) == (not kept)


def test_termination_is_an_interruption_and_leaves_nothing(
    tmp_path: Path,
    scan: TinyScan,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def terminate(*_: object) -> None:
        assert list(tmp_path.glob(".jaxsal-*"))
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(sys.modules["jaxsal.inputs.images"], "read_images", terminate)
    before = signal.getsignal(signal.SIGTERM)
    command = ["predict", str(model_folder), *scan_arguments(scan), "--out", str(tmp_path)]
    assert main(command) == 143
    assert "interrupted; no results were written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("earlier", [None, {}, {"jaxsal": "1"}])
@pytest.mark.parametrize("option", [["--overwrite"], []])
def test_a_demo_does_not_overwrite_a_users_scan(
    earlier: dict[str, object] | None,
    option: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "FLAIR.nii.gz").write_bytes(b"mine")
    if earlier is not None:
        (tmp_path / "results").mkdir()
        (tmp_path / "results" / "run.json").write_text(json.dumps(earlier))
    before = contents(tmp_path)
    assert main(["demo", "--out", str(tmp_path), *option]) == 2
    assert "no results of an earlier demo" in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_explain_writes_the_maps_of_the_library(
    explained: Path, scan: TinyScan, model_folder: Path
) -> None:
    labels = load(explained / "instances.nii.gz")
    field = jaxsal.sliding_window(jaxsal.load_model(model_folder), roi=ROI)
    chosen = np.where(labels == 2, 0, labels)
    with computing_on(None):  # as the command does: compiled programs are kept per device
        maps = jaxsal.smoothgrad(field, scan.image, chosen, samples=2)
    assert maps.labels == (1, 3)
    assert len(list((explained / "pictures").iterdir())) == 2
    for label in maps.labels:
        for c, channel in enumerate(("flair", "t1")):
            found = load(explained / f"maps/lesion-{label:04d}_{channel}_smoothgrad-max.nii.gz")
            expected = maps.crop(label).values[..., c]
            np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


OPTIONS = {
    "": {},
    "--threshold 0.3": {"threshold": 0.3},
    "--target 0": {"target": 0},
    "--minimum-volume 9.5": {"minimum_volume": 9.5},
    "--roi 16": {"roi": (16, 16, 16)},
    "--roi 16 32 48": {"roi": (16, 32, 48)},
    "--overlap 0.5": {"overlap": 0.5},
    "--level class": {"level": "class"},
    "--aggregate mean": {"aggregate": "mean"},
    "--samples 7": {"samples": 7},
    "--noise 0.2": {"noise": 0.2},
    "--noise-scale absolute": {"noise_scale": "absolute"},
    "--seed 4": {"seed": 4},
    "--labels 3": {"labels": (3,)},
    "--labels 7,3": {"labels": (7, 3)},
    "--kind TP FN TP": {"kinds": ("TP", "FN")},
    "--max-voxels 50": {"max_voxels": 50},
    "--field whole": {"field": "whole"},
    "--voxels-per-lesion 200": {"voxels_per_lesion": 200},
    "--group-size 8": {"group_size": 8},
    "--tolerance 0.05": {"tolerance": 0.05},
    "--standard-error": {"standard_error": True},
    "--memory 1.5": {"memory": 3 * 2**29},
    "--full-grid": {"full_grid": True},
    "--windows nnunet": {"windows": "nnunet"},
    "--mirror": {"mirror": True},
    "--no-mirror": {},
    "--no-pictures": {"pictures": False},
    "--no-view": {"view": False},
    "--overwrite": {"overwrite": True},
    "--precision bfloat16": {"precision": "bfloat16"},
    "--reference a.nii": {"reference": Path("a.nii")},
    "--instances b.nii": {"instances": Path("b.nii")},
    "--uncertainty mirror": {"uncertainty": asdict(UncertaintySettings("mirror"))},
}
GRADCAM_OPTIONS = {
    "": {},
    "--derivatives exact": {"derivatives": "exact"},
    "--derivatives stochastic --probes 9": {"derivatives": "stochastic", "probes": 9},
    "--denominator monai": {"denominator": "monai"},
    "--alignment half-pixel": {"alignment": "half-pixel"},
    "--method gradcam": {"method": "gradcam"},
    "--derivatives stochastic --seed 4": {"derivatives": "stochastic", "seed": 4},
    "--memory 1.5": {"memory": 3 * 2**29},
    "--labels 3": {"labels": (3,)},
    "--level class": {"level": "class"},
    "--field whole": {"field": "whole"},
    "--full-grid": {"full_grid": True},
    "--no-pictures": {"pictures": False},
    "--no-view": {"view": False},
}
METHODS = {
    "": (SmoothGradSettings(), OPTIONS),
    "--method gradcam++ --layer bottleneck ": (GradCamSettings("bottleneck"), GRADCAM_OPTIONS),
}
ALL_OPTIONS = [
    (method, default, options, changes)
    for method, (default, each) in METHODS.items()
    for options, changes in each.items()
]


@pytest.mark.parametrize(
    ("method", "default", "options", "changes"), ALL_OPTIONS, ids=lambda case: str(case)[:40]
)
def test_every_option_of_explain_is_handed_on_and_changes_nothing_else(
    method: str,
    default: SmoothGradSettings | GradCamSettings,
    options: str,
    changes: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    model_folder: Path,
) -> None:
    def explain(
        model: Model,
        scan: Scan,
        out: Path,
        finding: PredictSettings,
        settings: ExplainSettings,
        *,
        overwrite: bool,
        **_: object,
    ) -> list[object]:
        of_finding = {"finding_field": finding.field, "target": finding.target}
        own = asdict(settings)
        saliency = own.pop("saliency")
        seen.update(asdict(scan) | asdict(finding) | saliency | own | of_finding)
        seen.update(out=out, precision=model.precision, overwrite=overwrite)
        return []

    seen: dict[str, object] = {}
    monkeypatch.setattr("jaxsal.scan.explain.explain", explain)
    monkeypatch.setattr("jaxsal.checkpoints.load_model", load_once)
    plain = {
        **asdict(Scan((Path("x.nii"), Path("y.nii")))),
        **asdict(PredictSettings()),
        **asdict(default),
        "level": "instance",
        "labels": None,
        "kinds": None,
        "max_voxels": None,
        "field": "sliding",
        "full_grid": False,
        "pictures": True,
        "view": True,
        "portion": 30,
        "uncertainty": None,
        "finding_field": "sliding",
        "target": 1,
        "out": Path("results"),
        "precision": "float32",
        "overwrite": False,
    }
    line = f"--image x.nii y.nii --out results {method} {options}"
    assert main(["explain", str(model_folder), *line.split()]) == 0
    assert seen == {**plain, **changes}


def test_results_are_overwritten_when_asked_to_and_notes_survive(
    tmp_path: Path, scan: TinyScan, model_folder: Path
) -> None:
    command = ["predict", str(model_folder), *scan_arguments(scan), "--out", str(tmp_path)]
    assert main(command) == 0
    (tmp_path / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    assert main(command) == 2
    assert contents(tmp_path) == before
    explain = ["explain", *command[1:], "--overwrite", "--samples", "1", "--labels", "3"]
    assert main(explain) == 0
    assert main([*command, "--overwrite"]) == 0
    after = contents(tmp_path)
    assert set(after) == set(before)
    for name in ("notes.txt", "prediction.nii.gz", "instances.nii.gz", "instances.tsv"):
        assert after[name] == before[name]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (InputError("no such lesion"), 2, "no such lesion"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"), 1, "out of memory"),
        (OSError(28, "No space left on device", "/tmp/x"), 1, "No space left on device: '/tmp/x'"),
    ],
    ids=repr,
)
def test_failures_become_one_line_and_a_status(
    error: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("jaxsal.checkpoints.load_model", fail)
    assert main(["info", "model"]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jaxsal info: error: ")
    assert said in line


def _with_a_bug(*_: object) -> None:
    with at_work_on("scan.nii"):
        raise RuntimeError("a bug")


def test_other_errors_are_faults_of_jaxsal_and_say_what_was_at_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("jaxsal.checkpoints.load_model", _with_a_bug)
    assert main(["info", "model"]) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert "fault of jaxsal's own, at work on scan.nii (RuntimeError: a bug)" in line
    assert "--debug" in line


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxsal.checkpoints.load_model", _with_a_bug)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["info", "model", "--debug"])


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )


def test_the_package_is_a_program() -> None:
    result = python("-m", "jaxsal", "--version")
    assert (result.returncode, result.stdout) == (0, f"jaxsal {jaxsal.__version__}\n")
    result = python("-m", "jaxsal")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_mistake_is_one_line_for_the_user(
    tmp_path: Path, scan: TinyScan, model_folder: Path
) -> None:
    labels = save(tmp_path / "labels.nii.gz", np.full(SHAPE, 0.5, np.float32))
    command = ["explain", str(model_folder), *scan_arguments(scan), "--instances", str(labels)]
    result = python("-m", "jaxsal", *command, "--out", str(tmp_path / "out"))
    assert (result.returncode, result.stdout) == (2, "")
    device, stage, line = result.stderr.splitlines()
    assert device.startswith("computing on ")
    assert stage.endswith("finding lesions")
    assert line.startswith(f"jaxsal explain: error: {labels} must be whole")
    assert set(contents(tmp_path)) == {"labels.nii.gz"}


@pytest.mark.parametrize("imported", ["jaxsal", "jaxsal.cli.main", "jaxsal.settings"])
def test_nothing_heavy_is_imported_before_a_command_runs(imported: str) -> None:
    heavy = ("jax", "flax", "torch", "matplotlib", "nibabel", "scipy", "numpy", "rich")
    check = f"import sys, {imported}; print([m for m in {heavy} if m in sys.modules])"
    result = python("-c", check)
    assert (result.stdout, result.stderr) == ("[]\n", "")


@pytest.mark.parametrize("command", ["explain", "cohort run", "preprocess", "train"])
def test_nothing_heavy_is_imported_for_a_commands_help(command: str) -> None:
    heavy = ("jax", "flax", "torch", "matplotlib", "nibabel", "scipy", "numpy", "rich")
    check = (
        "import contextlib, sys; from jaxsal.cli.main import main\n"
        f"with contextlib.suppress(SystemExit): main({[*command.split(), '--help']})\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    result = python("-c", check)
    assert result.stdout.startswith(f"usage: jaxsal {command} ")
    assert result.stdout.splitlines()[-1] == "[]"


def test_reading_volumes_takes_no_jax() -> None:
    check = "import sys, jaxsal.volumes; print('jax' in sys.modules)"
    result = python("-c", check)
    assert (result.stdout, result.stderr) == ("False\n", "")


def test_the_program_ends_with_the_status_of_an_interruption() -> None:
    interrupt = (
        "import sys; from jaxsal.cli import info, main; sys.argv = ['jaxsal', 'info', 'x']\n"
        "from dataclasses import replace\n"
        "def run(_): import os, signal; os.kill(os.getpid(), signal.SIGTERM)\n"
        "info.COMMAND = replace(info.COMMAND, run=run); main.main()"
    )
    result = python("-c", interrupt)
    assert result.returncode == 143
    assert result.stderr == (
        "jaxsal info: error: interrupted; no results were written, the same command begins again\n"
    )


def test_convert_names_the_class_whose_arguments_a_file_gives(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "swin-unetr", "--help"])
    assert "monai.networks.nets.SwinUNETR" in capsys.readouterr().out
