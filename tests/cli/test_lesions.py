"""The table of lesions that a command ends with, and the page in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

from jaxsal.cli.browser import address, open_page
from jaxsal.cli.lesions import show_explained
from jaxsal.cli.main import main
from jaxsal.saliency.methods.appearance import Appearance

LESIONS = [
    {"label": 1, "kind": "FP", "voxels": 9, "volume_mm3": 9.0, "gradcam++_max": 0.5},
    {"label": 2, "kind": "TP", "voxels": 20, "volume_mm3": 21.04, "gradcam++_max": 1.23456},
]


def printed(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_a_heat_map_has_one_peak(capsys: pytest.CaptureFixture[str]) -> None:
    show_explained(LESIONS, Appearance.of_heat("gradcam++", "logits"), Path("out"))
    assert printed(capsys) == [
        ["label", "kind", "mm³", "gradcam++", "max"],
        ["2", "TP", "21.0", "1.23"],
        ["1", "FP", "9.0", "0.500"],
    ]


def test_what_is_approximated_and_where_lesions_lie_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lesion = {**LESIONS[1], "region": "pons", "approximated": "8 of 20 voxels"}
    lesion |= {"t1_max": 0.1, "t1_min": -1234.5, "lsu": None}
    shown = Appearance.of_channels("smoothgrad-max", ("t1",), maps=("t1",))
    show_explained([lesion], shown, Path("out"))
    header, row = printed(capsys)
    assert " ".join(header) == "label kind mm³ region lsu t1 max t1 min approximated"
    assert " ".join(row) == "2 TP 21.0 pons – 0.100 -1234 8 of 20 voxels"


def test_without_lesions_there_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_explained([], Appearance.of_heat("gradcam++", "logits"), Path("out"))
    assert printed(capsys) == []


EXPLAIN = ["explain", "model", "--image", "flair.nii.gz", "--out", "out", "--open"]


@pytest.mark.parametrize("option", ["--no-pictures", "--dry-run"])
def test_a_page_that_is_not_written_is_not_opened(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*EXPLAIN, option]) == 2
    assert f"--open shows a page, and {option} writes none" in capsys.readouterr().err


def test_without_a_browser_nothing_is_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def get() -> None:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", get)
    assert main(EXPLAIN) == 2
    said = capsys.readouterr().err
    assert "--open needs a browser, and none was found on this machine" in said
    assert "model" not in said


@pytest.mark.parametrize("starts", [True, False])
def test_the_page_is_opened_by_its_address(
    starts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or starts)
    open_page(address(tmp_path / "my page.html"))
    assert opened == [f"file://{tmp_path}/my%20page.html"]
    assert [str(each.message).startswith("the browser did not start") for each in recwarn] == (
        [] if starts else [True]
    )
