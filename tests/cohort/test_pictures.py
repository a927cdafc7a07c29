"""Whatever is wrong with one picture, the others are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jaxsal.cohort import pictures
from jaxsal.cohort.columns import MethodOutline
from jaxsal.cohort.pictures import Drawn, Picture, ScanPictures

METHOD = MethodOutline("smoothgrad-max", ("t1",), ("t1_smoothgrad-max",), "logit", "diverging", "")


@pytest.fixture
def scan() -> ScanPictures:
    wanted = [Picture(f"{label}.png", label, "", (f"{label}.nii.gz",), METHOD) for label in (1, 2)]
    return ScanPictures("p", {}, "labels.nii.gz", tuple(wanted))


def test_an_unexpected_error_of_a_scan_is_told(
    scan: ScanPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(images: Any, mask: Any) -> Any:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(pictures, "unchanged_image", fail)
    problem = "no pictures: ZeroDivisionError: of all things"
    assert pictures.draw(tmp_path, scan) == Drawn("p", 0, problem)


def test_an_unexpected_error_of_a_picture_costs_it_only(
    scan: ScanPictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def figure(image: Any, labels: Any, label: int, *_: Any, **__: Any) -> str:
        if label == 1:
            raise IndexError("of all things")
        return "drawn"

    monkeypatch.setattr(pictures, "unchanged_image", lambda images, mask: (None, None))
    monkeypatch.setattr(pictures, "read_labels", lambda path, grid: None)
    monkeypatch.setattr(pictures, "read_map", lambda paths, grid: (None, None))
    monkeypatch.setattr(pictures, "lesion_figure", figure)
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: path.write_text(figure))
    problem = "no picture of lesion 1: IndexError: of all things"
    assert pictures.draw(tmp_path, scan) == Drawn("p", 1, problem)
    assert (tmp_path / "2.png").read_text() == "drawn"
