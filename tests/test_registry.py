"""A saliency method from outside: scans, cohorts and reports take it like jaxsal's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import make_dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.cohorts import make_cohort, results, write_manifest
from helpers.tiny import CHANNELS, ROI, TinyScan, contents, load, read_table
from helpers.toy_method import METHOD, NAME, InputGradientSettings, install

import jaxsal
from jaxsal.cli.main import main
from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.options import option
from jaxsal.registry import METHODS, Registry
from jaxsal.saliency.infill import Scene

pytestmark = pytest.mark.usefixtures("one_device")

SIDE = [str(ROI[0])]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package of a method is installed."""
    site = tmp_path / "site-packages"
    site.mkdir()
    install(site)
    monkeypatch.syspath_prepend(site)
    yield
    assert NAME in METHODS


def test_methods_are_known_by_name_and_loaded_when_asked_for() -> None:
    assert list(METHODS)[:3] == ["smoothgrad", "gradcam++", "gradcam"]
    assert NAME not in METHODS
    for name in METHODS:
        assert METHODS[name].name == name
        assert METHODS[name].summary


def test_an_entry_point_adds_a_method_and_a_broken_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raising.py").write_text("raise RuntimeError('no GPU')", encoding="utf-8")
    broken = "broken = toy:NOTHING\nraising = raising:METHOD\nother = toy:METHOD\n"
    install(tmp_path, f"{broken}gradcam = toy:METHOD\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert METHODS[NAME] is METHOD
    for name, said in {
        "broken": "of toy cannot be loaded from toy:NOTHING: AttributeError: .*mend",
        "raising": "cannot be loaded from raising:METHOD: RuntimeError: no GPU",
        "other": f"its own name is '{NAME}'",
        "gradcam": "several saliency methods 'gradcam', of jaxsal and toy",
    }.items():
        with pytest.raises(InputError, match=said):
            METHODS[name]
    with pytest.raises(InputError, match=f"a saliency method '{NAME}' already, of toy"):
        jaxsal.register_method(replace(METHOD, summary="another one"))
    unknown = f"unknown saliency method 'lime'; known: .*{NAME}.* those of entry points only"
    with pytest.raises(InputError, match=unknown):
        METHODS["lime"]


def test_a_name_is_given_once() -> None:
    registry: Registry[int] = Registry("number", "jaxsal.numbers", {"one": "math:pi"})
    registry.register("two", 2)
    registry.register("two", 2)
    assert (list(registry), registry["two"]) == (["one", "two"], 2)
    with pytest.raises(InputError, match="there is a number 'two' already"):
        registry.register("two", 3)
    with pytest.raises(InputError, match="there is a saliency method 'smoothgrad' already"):
        jaxsal.register_method(replace(METHODS["smoothgrad"], summary="another one"))
    with pytest.raises(InputError, match=f"its own name is '{NAME}'"):
        METHODS.register("another", METHOD)


def test_installed_packages_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "unet" in Registry("number", "jaxsal.networks", {"unet": "math:pi"})
    monkeypatch.setattr("jaxsal.registry.entry_points", None)
    assert "unet" in Registry("number", "jaxsal.networks", {"unet": "math:pi"})


def faulty(name: str, **facts: Any) -> dict[str, Any]:
    """Settings of the method, with an option that is not as it must be."""
    kind = list[int] if name == "several" else int | None
    field = (name, kind, option(None, **facts))
    return {"settings": make_dataclass("S", [field], bases=(InputGradientSettings,), frozen=True)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": int}, "must be a frozen dataclass"),
        (
            {"settings": make_dataclass("S", [], frozen=True)},
            "must have the fields target and memory",
        ),
        ({"name": "another"}, f"must have its name as method; got '{NAME}'"),
        ({"fixed": {"force": 1}}, "have no force, of fixed or options"),
        ({"options": ["force"]}, "have no force, of fixed or options"),
        ({"cost": len}, "a cost needs a count"),
        (faulty("plain"), "plain has no help"),
        (faulty("help", help="n"), "--help has another meaning"),
        (faulty("no_plain", help="n"), "--no-plain has another meaning"),
    ],
)
def test_a_method_that_is_not_whole_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(METHOD, **changes)


def test_an_option_of_which_no_word_is_a_value_is_refused() -> None:
    with pytest.raises(TypeError, match=r"several cannot be an option: .* got list"):
        replace(METHOD, **faulty("several", help="numbers"))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("level", ["instance", "class"])
def test_a_scan_is_explained_by_it(
    level: str, tmp_path: Path, scan: TinyScan, model_folder: Path, tiny_model: Model
) -> None:
    out = tmp_path / "out"
    command = ["explain", str(model_folder), "--image", *map(str, scan.images), "--roi", *SIDE]
    command += ["--method", NAME, "--power", "2", "--level", level, "--out", str(out)]
    assert main([*command, *(["--labels", "1"] if level == "instance" else [])]) == 0
    stem = "class" if level == "class" else "lesion-0001"
    files = {f"maps/{stem}_{channel}_{NAME}.nii.gz" for channel in CHANNELS}
    assert {*files, f"pictures/{stem}.png", "index.html"} <= set(contents(out))
    assert NAME in (out / "index.html").read_text(encoding="utf-8")
    (row,) = read_table(out / "instances.tsv")
    assert not {"samples", "approximated"} & set(row)

    domain = load(out / "instances.nii.gz") == 1
    if level == "class":
        domain = load(out / "prediction.nii.gz") >= tiny_model.threshold
    field = jaxsal.sliding_window(tiny_model, roi=ROI)
    settings, domains = InputGradientSettings(target=1, power=2), domain.astype(np.int32)
    maps = METHOD.compute(
        tiny_model, field, scan.image, domains, settings, level=level, on_progress=None
    )
    ((_, crop),) = maps
    for name, expected in zip(CHANNELS, np.moveaxis(crop.values, -1, 0), strict=True):
        found = load(out / "maps" / f"{stem}_{name}_{NAME}.nii.gz")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
        assert float(row[f"{name}_{NAME}_max"]) == pytest.approx(expected.max(), rel=1e-4)


def test_a_method_in_the_scene_is_given_voxel_size_and_all_lesions(
    tmp_path: Path, scan: TinyScan, model_folder: Path
) -> None:
    seen = []

    def maps(*arguments: Any, scene: Scene, **options: Any) -> Any:
        seen.append((scene, arguments[3]))
        yield from METHOD.compute(*arguments, **options)

    jaxsal.register_method(replace(METHOD, maps=maps, in_scene=True))
    out = tmp_path / "out"
    command = ["explain", str(model_folder), "--image", *map(str, scan.images), "--roi", *SIDE]
    assert main([*command, "--method", NAME, "--labels", "1", "--out", str(out)]) == 0
    ((given, labels),) = seen
    assert given.spacing == pytest.approx(nib.load(scan.images[0]).header.get_zooms()[:3])
    instances = load(out / "instances.nii.gz")
    np.testing.assert_array_equal(given.lesions, instances != 0)  # all
    np.testing.assert_array_equal(labels, instances == 1)  # those that are explained


def test_a_method_in_the_scene_says_that_it_needs_it() -> None:
    with pytest.raises(InputError, match="needs the scene"):
        replace(METHOD, in_scene=True).compute()


@pytest.mark.usefixtures("installed")
def test_its_options_are_offered_and_refused_where_they_have_no_effect(
    model_folder: Path, scan: TinyScan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["explain", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"{NAME}: the image times its gradient" in said
    assert "--power P of the image that the gradient is multiplied by; default: 1" in said
    command = ["explain", str(model_folder), "--image", *map(str, scan.images)]
    assert main([*command, "--out", str(tmp_path / "out"), "--power", "2"]) == 2
    refused = capsys.readouterr().err
    assert "--power is for " in refused
    assert "it does not go with --method smoothgrad" in refused


@pytest.mark.thorough
@pytest.mark.usefixtures("installed")
def test_a_cohort_goes_on_with_it_beside_another_method(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = make_cohort(tmp_path, 2)
    options = ["--method", "smoothgrad", NAME, "--samples", "1", "--noise", "0", "--roi", *SIDE]
    options += ["--aggregate", "mean"]  # a gradient per lesion

    def run(out: Path, scans: int) -> None:
        table = write_manifest(tmp_path / "scans.tsv", entries[:scans])
        assert (
            main(["cohort", "run", str(model_folder), str(table), "--out", str(out), *options]) == 0
        )

    run(tmp_path / "whole", 2)
    halted = tmp_path / "halted"
    run(halted, 1)
    run(halted, 2)
    assert results(halted).keys() == results(tmp_path / "whole").keys()
    rows = results(halted)["lesions.tsv"]
    assert rows == results(tmp_path / "whole")["lesions.tsv"]
    assert {f"{c}_{NAME}_max" for c in CHANNELS} | {"flair_max", "samples"} <= set(rows[0])
    assert main(["report", str(halted), "--processes", "1"]) == 0
    assert NAME in (halted / "report.html").read_text(encoding="utf-8")
    assert f"{2 * len(rows)} pictures drawn" in capsys.readouterr().out
