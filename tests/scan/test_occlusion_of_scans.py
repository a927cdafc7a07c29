"""Occlusion of a scan and of a cohort: files and tables as of any method, lesion by lesion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.cohorts import make_cohort, results, write_manifest
from helpers.tiny import CHANNELS, ROI, TinyScan, contents, load, read_table

import jaxsal
import jaxsal.saliency.occlusion as module
from jaxsal.cli.main import main
from jaxsal.grid import Grid
from jaxsal.model import Model

pytestmark = pytest.mark.usefixtures("one_device")

BOX = ["--box", "9", "--radius", "6"]
OPTIONS = ["--method", "occlusion", *BOX, "--roi", str(ROI[0])]


def test_a_scan_s_maps_and_table_are_those_of_python(
    scan: TinyScan, tiny_model: Model, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["explain", str(model_folder), "--image", *map(str, scan.images), *OPTIONS]
    assert main([*command, "--labels", "2", "--out", str(out)]) == 0
    labels = load(out / "instances.nii.gz")
    maps = jaxsal.occlusion(
        jaxsal.sliding_window(tiny_model, roi=ROI),
        scan.image,
        np.where(labels == 2, 2, 0),
        spacing=Grid(labels.shape, scan.affine).spacing,
        lesions=labels,  # others are no healthy brain, though they are not explained
        box=9.0,
        radius=6.0,
    )
    (row,) = read_table(out / "instances.tsv")
    for at, channel in enumerate(CHANNELS):
        found = load(out / f"maps/lesion-0002_{channel}_occlusion.nii.gz")
        expected = maps.crop(2).values[..., at]
        np.testing.assert_allclose(found, expected, atol=1e-5)  # logits of some units, in float32
        assert float(row[f"{channel}_occlusion_max"]) == pytest.approx(expected.max(), rel=1e-4)
        loss = maps.crop(2).figures[f"{at}_loss"]
        assert float(row[f"{channel}_loss"]) == pytest.approx(loss, rel=1e-4, abs=1e-5)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "the lesion and 6 mm around it are infilled (mean) in flair alone" in page


def test_channels_together_make_one_map(scan: TinyScan, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["explain", str(model_folder), "--image", *map(str, scan.images), *OPTIONS]
    options = ["--channels-together", "--level", "class", "--infill", "zero"]
    assert main([*command, *options, "--out", str(out)]) == 0
    maps = {name for name in contents(out) if name.startswith("maps/")}
    assert maps == {"maps/class_occlusion.nii.gz"}
    (row,) = read_table(out / "instances.tsv")
    assert {"occlusion_max", "occlusion_min", "flair_loss", "t1_loss"} <= set(row)


@pytest.mark.thorough
def test_a_cohort_goes_on_after_the_lesions_that_are_done(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = write_manifest(tmp_path / "scans.tsv", make_cohort(tmp_path, 1))
    command = ["cohort", "run", str(model_folder), str(cohort), *OPTIONS, "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    done: list[int] = []
    compute = module.maps_of_domains

    def stopping(*arguments: object, **options: object) -> object:
        done.append(1)
        if len(done) == 2:
            raise OSError("the disk is gone")
        return compute(*arguments, **options)

    monkeypatch.setattr(module, "maps_of_domains", stopping)
    assert main([*command, str(tmp_path / "broken")]) == 1
    assert main([*command, str(tmp_path / "broken")]) == 0
    assert results(tmp_path / "broken") == results(tmp_path / "whole")
    rows = read_table(tmp_path / "whole" / "lesions.tsv")
    assert len(rows) > 1
    assert len(done) == 1 + len(rows)  # the first one's was not computed again
    assert all(row["flair_loss"] and row["t1_loss"] for row in rows)
