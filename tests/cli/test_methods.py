"""Options of saliency methods: from their settings, also those of another package's method."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from jaxsal.cli.command import Given
from jaxsal.cli.main import main
from jaxsal.cli.methods import settings
from jaxsal.errors import InputError
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings

MODULE = """
    from dataclasses import dataclass
    from typing import ClassVar

    from jaxsal.options import option
    from jaxsal.saliency.methods.method import Method


    @dataclass(frozen=True)
    class Settings:
        '''How steps are taken.

        Attributes:
            steps: number of steps.
            memory: bytes to stay within.
            samples: number of images.
        '''

        method: ClassVar[str] = "walk"
        target: int | None = None
        steps: {kind} = option({default}, "N")
        memory: int | None = None
        samples: int = option(7, "N")


    METHOD = Method(name="walk", summary="maps by walking", settings=Settings, maps="none:none")
"""


def install(folder: Path, kind: str = "int", default: str = "3") -> None:
    """Another package, with a method of its own, as pip would leave it."""
    module = textwrap.dedent(MODULE).replace("{kind}", kind).replace("{default}", default)
    name = f"walking_{abs(hash((folder, kind, default)))}"  # of its own, as modules stay loaded
    (folder / f"{name}.py").write_text(module, encoding="utf-8")
    record = folder / "walking-1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Name: walking\nVersion: 1\n", encoding="utf-8")
    points = f"[jaxsal.methods]\nwalk = {name}:METHOD\n"
    (record / "entry_points.txt").write_text(points, encoding="utf-8")


@pytest.fixture
def walking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("walking")
def test_the_help_shows_the_options_of_another_packages_method(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["explain", "--help"])
    assert end.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "walk: maps by walking" in said
    assert "for --method walk: --steps N number of steps; default: 3" in said
    assert "hirescam and layercam: --layer NAME" in said
    assert "for --method gradcam++: --derivatives" in said
    assert (
        "--samples N number N of noisy images; with a tolerance, the largest number; default: "
        "50 (smoothgrad and vargrad), 7 (walk)" in said
    )


@pytest.mark.usefixtures("walking")
@pytest.mark.parametrize(
    ("given", "methods", "expected"),
    [
        ({"steps": 5}, ["walk"], [{"steps": 5, "samples": 7}]),
        (
            {"steps": 5, "samples": 9, "seed": 2},
            ["walk", "smoothgrad"],
            [{"steps": 5, "samples": 9}, {"samples": 9, "seed": 2}],
        ),
    ],
)
def test_each_method_gets_the_options_that_it_has(
    given: dict[str, Any], methods: list[str], expected: list[dict[str, Any]]
) -> None:
    made = settings(Given(given), methods)
    assert [each.method for each in made] == methods
    for each, values in zip(made, expected, strict=True):
        assert {name: getattr(each, name) for name in values} == values


@pytest.mark.usefixtures("walking")
@pytest.mark.parametrize(
    ("given", "methods", "said"),
    [
        ({"steps": 5}, ["smoothgrad"], "--steps is for walk; it does not go with --method smooth"),
        ({"seed": 5}, ["walk"], "--seed is for smoothgrad and gradcam"),
        ({"noise": 0.1, "layer": "x"}, ["gradcam", "walk"], "--noise is for smoothgrad and var"),
        ({}, ["walk", "gradcam"], "--method gradcam needs --layer NAME: "),
        ({"layer": "x", "seed": 1}, ["gradcam++", "gradcam"], "these heat maps have neither"),
        ({"seed": 1}, ["gradient"], "--seed is for smoothgrad"),
        ({"samples": 1}, ["vargrad"], "a variance needs 2 samples or more, got 1"),
    ],
)
def test_options_that_do_not_go_with_the_methods_are_refused(
    given: dict[str, Any], methods: list[str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        settings(Given(given), methods)


def test_settings_take_their_own_options_only() -> None:
    assert Given(target="lesion", samples=3).of(SmoothGradSettings) == SmoothGradSettings(samples=3)


def test_a_seed_is_for_one_of_the_methods() -> None:
    given = Given(seed=5, layer="x")
    smooth, heat = settings(given, ["smoothgrad", "gradcam++"])
    assert (smooth.seed, heat.layer) == (5, "x")  # type: ignore[attr-defined]


def test_options_that_the_command_has_already_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, "int", "4")
    module = next(tmp_path.glob("walking_*.py"))
    module.write_text(module.read_text().replace("steps", "overlap"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["explain", "--help"]) == 2
    assert "there is an option --overlap already; rename it" in capsys.readouterr().err


@pytest.mark.filterwarnings("always")
def test_a_broken_package_takes_no_other_method_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, "list", "()")
    monkeypatch.syspath_prepend(tmp_path)
    for line in ("explain --help", "--print-completion bash"):
        with pytest.raises(SystemExit, match="0"):
            main(line.split())
    assert "jaxsal: warning: the saliency method 'walk' of walking" in capsys.readouterr().err
    assert settings(Given(samples=3), ["smoothgrad"])[0].method == "smoothgrad"
    assert main(["explain", "M", "--image", "A", "--out", "D", "--method", "walk"]) == 2
    assert "'walk' of walking cannot be loaded" in capsys.readouterr().err


def test_options_of_one_name_and_two_types_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, "float", "2.5")
    module = next(tmp_path.glob("walking_*.py"))
    module.write_text(module.read_text().replace("steps", "probes"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["explain", "--help"]) == 2
    assert "methods declare --probes with different types" in capsys.readouterr().err
