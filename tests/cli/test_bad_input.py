"""Whatever is wrong: a clear message, a failing status, no traceback, nothing written or lost."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers.tiny import SHAPE, TinyScan, contents, oblique_affine, save

from jaxsal.cli.main import main

OPTIONS = "--roi 16 --samples 1 --no-pictures"
IMAGES = "--image {flair} --image {t1}"
EXPLAIN = f"explain {{model}} {IMAGES} {OPTIONS}"
HEAT_MAPS = f"explain {{model}} {IMAGES} --roi 16 --no-pictures --method gradcam++"
PREDICT = f"predict {{model}} {IMAGES} --roi 16"


def _first(name: str) -> str:
    """A command line whose first image is this bad file."""
    return f"explain {{model}} --image {{bad}}/{name} --image {{t1}} {OPTIONS}"


# Name of the case: command line without --out, and what the message must say, in this order.
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "missing image": (_first("missing.nii.gz"), ("missing.nii.gz does not exist",)),
    "empty image": (_first("empty.nii.gz"), ("empty.nii.gz is empty",)),
    "truncated archive": (_first("cut.nii.gz"), ("cut.nii.gz is truncated",)),
    "truncated volume": (_first("cut.nii"), ("cut.nii is truncated",)),
    "text instead of an image": (_first("text.nii.gz"), ("text.nii.gz is not a NIfTI file",)),
    "folder instead of an image": (_first("folder"), ("folder is a folder",)),
    "4D image": (_first("4d.nii.gz"), ("4d.nii.gz", "one 3D volume", "(24, 28, 20, 3)")),
    "NaN voxels": (_first("nan.nii.gz"), ("nan.nii.gz", "finite", "(3, 4, 5)")),
    "infinite voxels": (_first("inf.nii.gz"), ("inf.nii.gz", "finite", "(3, 4, 5)")),
    "all-zero image": (_first("zero.nii.gz"), ("zero.nii.gz is zero in all",)),
    "image without contrast": (_first("flat.nii.gz"), ("flat.nii.gz has the value 3",)),
    "other shape": (_first("short.nii.gz"), ("t1.nii.gz", "short.nii.gz", "shape differs")),
    "other affine": (_first("moved.nii.gz"), ("t1.nii.gz", "moved.nii.gz", "differs by")),
    "too few images": (
        "explain {model} --image {flair}",
        ("takes 2 images", "flair, t1", "Received 1"),
    ),
    "too many images": (f"{PREDICT} --image {{t1}}", ("takes 2 images", "Received 3")),
    "no image": ("explain {model}", ("--image",)),
    "fractional labels": (
        f"{EXPLAIN} --instances {{bad}}/fractional.nii.gz",
        ("fractional.nii.gz", "whole", "1.5"),
    ),
    "negative labels": (
        f"{EXPLAIN} --instances {{bad}}/negative.nii.gz",
        ("negative.nii.gz", "non-negative", "-1"),
    ),
    "labels on another grid": (
        f"{EXPLAIN} --instances {{bad}}/moved.nii.gz",
        ("moved.nii.gz", "differs by"),
    ),
    "missing labels": (f"{EXPLAIN} --instances {{bad}}/missing.nii", ("missing.nii does not",)),
    "reference on another grid": (
        f"{PREDICT} --reference {{bad}}/short.nii.gz",
        ("short.nii.gz", "shape differs"),
    ),
    "negative reference": (
        f"{PREDICT} --reference {{bad}}/negative.nii.gz",
        ("negative.nii.gz", "non-negative"),
    ),
    "reference and instances": (
        f"{EXPLAIN} --reference {{flair}} --instances {{flair}}",
        ("--instances", "not allowed with", "--reference"),
    ),
    "no samples": (f"{EXPLAIN} --samples 0", ("samples must be", "at least 1, got 0")),
    "samples in words": (f"{EXPLAIN} --samples many", ("--samples", "many")),
    "negative noise": (f"{EXPLAIN} --noise -0.1", ("noise", "zero or more", "-0.1")),
    "NaN noise": (f"{EXPLAIN} --noise nan", ("noise", "zero or more", "nan")),
    "negative seed": (f"{EXPLAIN} --seed -1", ("seed", "-1")),
    "huge seed": (f"{EXPLAIN} --seed 4294967296", ("seed", "4294967296")),
    "unknown aggregate": (f"{EXPLAIN} --aggregate median", ("--aggregate", "median", "max")),
    "aggregate at class level": (f"{EXPLAIN} --level class --aggregate max", ("--aggregate",)),
    "labels at class level": (f"{EXPLAIN} --level class --labels 1", ("labels", "class level")),
    "unknown level": (f"{EXPLAIN} --level voxel", ("--level", "voxel", "instance")),
    "unknown method": (f"{EXPLAIN} --method lime", ("--method", "lime", "smoothgrad")),
    "unknown field": (f"{EXPLAIN} --field half", ("--field", "half", "sliding")),
    "unknown noise scale": (f"{EXPLAIN} --noise-scale big", ("--noise-scale", "big", "range")),
    "unknown label": (f"{EXPLAIN} --labels 1,77", ("label 77", "Available: 1, 2, 3")),
    "labels that are no numbers": (f"{EXPLAIN} --labels a,b", ("--labels", "whole numbers", "a,b")),
    "no labels": (f"{EXPLAIN} --labels ,", ("--labels", "whole numbers")),
    "unknown device": (
        f"{EXPLAIN} --device abacus",
        ("no device 'abacus'", "there are: ", "cpu, cpu:0"),
    ),
    "device that is not there": (
        f"{EXPLAIN} --device cpu:99",
        ("no device 'cpu:99'", "there are: cpu, cpu:0"),
    ),
    "device without its number": (f"{EXPLAIN} --device cpu:", ("no device 'cpu:'", "cpu:0")),
    "unknown precision": (
        f"{EXPLAIN} --precision float8",
        ("--precision", "float8", "float32", "tf32", "bfloat16"),
    ),
    "precision of other devices": (
        f"{EXPLAIN} --device cpu --precision tf32",
        ("tf32 is not for a CPU", "float32, bfloat16"),
    ),
    "no voxels": (f"{EXPLAIN} --voxels-per-lesion 0", ("voxels_per_lesion", "at least 1, got 0")),
    "empty groups": (f"{EXPLAIN} --group-size 0", ("group_size", "at least 1, got 0")),
    "two approximations": (
        f"{EXPLAIN} --voxels-per-lesion 9 --group-size 3",
        ("one way", "voxels_per_lesion 9", "group_size 3"),
    ),
    "approximate mean": (
        f"{EXPLAIN} --aggregate mean --group-size 3",
        ("group_size 3", "signed maximum", "'mean'"),
    ),
    "approximate class level": (
        f"{EXPLAIN} --level class --voxels-per-lesion 9",
        ("voxels_per_lesion", "class level"),
    ),
    "no tolerance": (f"{EXPLAIN} --samples 2 --tolerance 0", ("tolerance", "0 and 1", "got 0.0")),
    "error of one sample": (f"{EXPLAIN} --standard-error", ("2 samples or more", "got 1")),
    "heat maps of no layer": (
        HEAT_MAPS,
        ("gradcam++ needs --layer NAME: ", "its name in `jaxsal info`"),
    ),
    "heat maps of an unknown layer": (
        f"{HEAT_MAPS} --layer encoder.0.con",
        ("no layer 'encoder.0.con'", "did you mean", "encoder.0.conv"),
    ),
    "heat maps of a layer with one position": (
        f"{HEAT_MAPS} --layer bottleneck --roi 4 --labels 1",
        ("positions in space", "'bottleneck'", "(1, 1, 1"),
    ),
    "samples of heat maps": (
        f"{HEAT_MAPS} --layer bottleneck --samples 3",
        ("--samples is for smoothgrad", "--method gradcam++"),
    ),
    "standard error of heat maps": (
        f"{HEAT_MAPS} --layer bottleneck --standard-error",
        ("--standard-error is for smoothgrad",),
    ),
    "layer of voxels' gradients": (
        f"{EXPLAIN} --layer bottleneck",
        ("--layer is for gradcam++ and gradcam", "--method smoothgrad"),
    ),
    "higher derivatives of Grad-CAM": (
        f"{HEAT_MAPS} --method gradcam --layer bottleneck --derivatives exact",
        ("--derivatives is for gradcam++", "--method gradcam"),
    ),
    "probes of exact derivatives": (
        f"{HEAT_MAPS} --layer bottleneck --derivatives exact --probes 9",
        ("--probes is for --derivatives stochastic",),
    ),
    "seed of nothing random": (f"{HEAT_MAPS} --layer bottleneck --seed 1", ("--seed", "neither")),
    "one probe": (
        f"{HEAT_MAPS} --layer bottleneck --derivatives stochastic --probes 1",
        ("probes must be", "at least 2, got 1"),
    ),
    "unknown derivatives": (
        f"{HEAT_MAPS} --layer bottleneck --derivatives none",
        ("--derivatives", "none", "closed-form"),
    ),
    "small memory of heat maps": (
        f"{HEAT_MAPS} --layer bottleneck --memory 0.00001",
        ("memory", "too small"),
    ),
    "small memory": (f"{EXPLAIN} --memory 0.00001", ("memory", "too small")),
    "no memory": (f"{EXPLAIN} --memory 0", ("memory must be more than zero",)),
    "negative memory": (f"{EXPLAIN} --memory -1", ("memory must be more than zero",)),
    "memory in words": (f"{EXPLAIN} --memory x", ("--memory", "number of GiB", "'x'")),
    "NaN memory": (f"{EXPLAIN} --memory nan", ("--memory", "number of GiB", "'nan'")),
    "infinite memory": (f"{EXPLAIN} --memory inf", ("--memory", "number of GiB", "'inf'")),
    "window beside the stride": (f"{EXPLAIN} --roi 18", ("roi", "multiple", "(4, 4, 4)", "18")),
    "empty window": (f"{EXPLAIN} --roi 0", ("roi", "positive", "0")),
    "window with two sizes": (f"{EXPLAIN} --roi 16 16", ("roi", "one per axis", "(16, 16)")),
    "whole overlap": (f"{EXPLAIN} --overlap 1", ("overlap", "[0, 1)", "1")),
    "negative overlap": (f"{EXPLAIN} --overlap -0.5", ("overlap", "-0.5")),
    "NaN overlap": (f"{EXPLAIN} --overlap nan", ("overlap", "nan")),
    "threshold of one": (f"{EXPLAIN} --threshold 1", ("threshold", "between 0 and 1", "1")),
    "NaN threshold": (f"{EXPLAIN} --threshold nan", ("threshold", "nan")),
    "unknown output": (f"{EXPLAIN} --target 2", ("target", "2 outputs", "got 2")),
    "negative output": (f"{EXPLAIN} --target -1", ("target", "got -1")),
    "NaN volume": (f"{EXPLAIN} --minimum-volume nan", ("minimum volume", "nan")),
    "negative volume": (f"{EXPLAIN} --minimum-volume -1", ("minimum volume", "-1")),
    "missing model": (f"explain {{bad}}/missing {IMAGES}", ("missing does not exist",)),
    "checkpoint as a model": (
        f"explain {{bad}}/foreign.pth {IMAGES}",
        ("foreign.pth", "convert it first", "jaxsal convert unet"),
    ),
    "folder that is no model": (
        f"predict {{bad}}/folder {IMAGES}",
        ("folder is not a model directory",),
    ),
    "model without parameters": (f"predict {{bad}}/hollow {IMAGES}", ("hollow", "parameters/")),
    "model with a broken record": (f"predict {{bad}}/broken {IMAGES}", ("broken/model.json",)),
    "no model to show": ("info {bad}/folder", ("folder is not a model directory",)),
    "missing checkpoint": ("convert unet {bad}/missing.pth", ("missing.pth does not exist",)),
    "empty checkpoint": ("convert unet {bad}/empty.nii.gz", ("empty.nii.gz is empty",)),
    "text as a checkpoint": (
        "convert unet {bad}/text.nii.gz",
        ("text.nii.gz is no PyTorch checkpoint",),
    ),
    "truncated checkpoint": ("convert unet {bad}/cut.pth", ("cut.pth", "truncated")),
    "foreign checkpoint": ("convert unet {bad}/foreign.pth", ("foreign.pth", "another network")),
    "incomplete checkpoint": (
        "convert unet {bad}/incomplete.pth",
        ("incomplete.pth", "1 missing", "model.1.submodule.0.conv.bias"),
    ),
    "checkpoint with more": (
        "convert unet {bad}/extra.pth",
        ("extra.pth", "extra", "model.0.conv.surprise"),
    ),
    "missing config": (
        "convert unet {bad}/whole.pth --config {bad}/missing.json",
        ("missing.json is not a file",),
    ),
    "config that is no JSON": (
        "convert unet {bad}/whole.pth --config {bad}/text.nii.gz",
        ("text.nii.gz cannot be read as JSON",),
    ),
    "config with unknown arguments": (
        "convert unet {bad}/whole.pth --config {bad}/unknown.json",
        ("wings",),
    ),
    "too many channel names": (
        "convert unet {bad}/whole.pth --channels flair t1 t2",
        ("2 input channels", "got 3"),
    ),
    "channel name unfit for files": (
        "convert unet {bad}/whole.pth --channels flair ../t1",
        ("file names", "../t1"),
    ),
    "threshold of a model": ("convert unet {bad}/whole.pth --threshold 2", ("threshold", "2")),
    "unknown network": ("convert vnet {bad}/whole.pth", ("vnet", "unet")),
    "unknown command": ("explode {model}", ("explode", "explain")),
}


def _write_checkpoints(folder: Path) -> None:
    from monai.networks.nets import UNet

    network = UNet(3, 2, 2, channels=(4, 6, 8), strides=(2, 2), norm="batch")
    state = network.state_dict()
    torch.save(state, folder / "whole.pth")
    content = (folder / "whole.pth").read_bytes()
    (folder / "cut.pth").write_bytes(content[: len(content) // 2])
    incomplete = {k: v for k, v in state.items() if k != "model.1.submodule.0.conv.bias"}
    torch.save(incomplete, folder / "incomplete.pth")
    torch.save({**state, "model.0.conv.surprise": torch.ones(3)}, folder / "extra.pth")
    torch.save({"layer1.weight": torch.ones(3, 3)}, folder / "foreign.pth")
    (folder / "unknown.json").write_text(json.dumps({"wings": 2}))


def _write_images(folder: Path, scan: TinyScan) -> None:
    flair = np.asarray(nib.load(scan.flair).dataobj)
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        data = flair.copy()
        data[3, 4, 5] = value
        save(folder / f"{name}.nii.gz", data)
    save(folder / "4d.nii.gz", np.repeat(flair[..., None], 3, axis=-1))
    save(folder / "zero.nii.gz", flair * 0)
    save(folder / "flat.nii.gz", flair * 0 + 3)
    save(folder / "short.nii.gz", flair[:-1])
    moved = oblique_affine()
    moved[0, 3] += 0.5
    save(folder / "moved.nii.gz", (flair > 0).astype(np.uint8), moved)
    for name, value in (("fractional", 1.5), ("negative", -1)):
        labels = np.zeros(SHAPE, np.float32)
        labels[3, 4, 5] = value
        save(folder / f"{name}.nii.gz", labels)
    content = scan.flair.read_bytes()
    (folder / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    whole = gzip.decompress(content)
    (folder / "cut.nii").write_bytes(whole[: len(whole) // 2])
    (folder / "text.nii.gz").write_text("dear diary, " * 100)
    (folder / "empty.nii.gz").write_bytes(b"")


@pytest.fixture(scope="module")
def bad(scan: TinyScan, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that cannot be worked with."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "folder").mkdir()
    (folder / "folder" / "notes.txt").write_text("mine")
    _write_images(folder, scan)
    _write_checkpoints(folder)
    shutil.copytree(model_folder, folder / "hollow")
    shutil.rmtree(folder / "hollow" / "parameters")
    shutil.copytree(model_folder, folder / "broken")
    (folder / "broken" / "model.json").write_text('{"format": ')
    return folder


def run(arguments: list[str]) -> int:
    """The exit status, also where argparse ends the program."""
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def assert_refused(status: int, stderr: str, parts: tuple[str, ...]) -> None:
    assert status == 2
    assert "Traceback" not in stderr
    progress = re.compile(r"\[\d+:\d\d:\d\d\] |computing on ")
    lines = [line for line in stderr.splitlines(True) if not progress.match(line)]
    heading, _, message = "".join(lines).partition(" error: ")
    assert heading.splitlines()[-1].startswith("jaxsal")
    assert not heading.splitlines()[:-1] or heading.startswith("usage: jaxsal")
    place = 0
    for part in parts:
        place = message.find(part, place)
        assert place >= 0, f"{part!r} is not said, or not in this order: {message}"


@pytest.mark.parametrize(("line", "parts"), CASES.values(), ids=CASES.keys())
def test_bad_input_is_refused(
    line: str,
    parts: tuple[str, ...],
    bad: Path,
    scan: TinyScan,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    inputs = (bad, scan.flair.parent, model_folder)
    before = [contents(folder) for folder in inputs]
    words = [
        word.format(bad=bad, model=model_folder, flair=scan.flair, t1=scan.t1)
        for word in line.split()
    ]
    out = [] if words[0] == "info" else ["--out", str(tmp_path / "out")]
    status = run([*words, *out])
    assert_refused(status, capsys.readouterr().err, parts)
    assert list(tmp_path.iterdir()) == []
    assert [contents(folder) for folder in inputs] == before


@pytest.mark.parametrize("line", [EXPLAIN, PREDICT, "convert unet {bad}/whole.pth"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_with_files_of_the_users_is_left_alone(
    line: str,
    overwrite: bool,
    bad: Path,
    scan: TinyScan,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "instances.tsv").write_text("mine")
    words = line.format(bad=bad, model=model_folder, flair=scan.flair, t1=scan.t1).split()
    status = run([*words, "--out", str(tmp_path), *["--overwrite"][:overwrite]])
    assert_refused(status, capsys.readouterr().err, (str(tmp_path),))
    assert contents(tmp_path) == {"instances.tsv": b"mine"}


@pytest.mark.parametrize("line", [EXPLAIN, PREDICT, "convert unet {bad}/whole.pth"])
@pytest.mark.parametrize("name", ["file", "file/out"])
def test_results_do_not_replace_a_file(
    line: str,
    name: str,
    bad: Path,
    scan: TinyScan,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("mine")
    words = line.format(bad=bad, model=model_folder, flair=scan.flair, t1=scan.t1).split()
    status = run([*words, "--overwrite", "--out", str(tmp_path / name)])
    assert_refused(status, capsys.readouterr().err, (str(tmp_path),))
    assert contents(tmp_path) == {"file": b"mine"}
