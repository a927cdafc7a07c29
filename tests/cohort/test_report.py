"""The report over a cohort's folder: what it tells, and the pictures that it draws."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.browser import Visit, installed_browser
from helpers.cohorts import OPTIONS, SETTINGS, run, write_manifest
from helpers.official_validator import bids_issues
from helpers.tiny import CHANNELS, as_dense, read_table
from PIL import Image

from jaxsal.cli.main import main
from jaxsal.cli.progress import ProgressBar
from jaxsal.cohort import pictures
from jaxsal.cohort.report import write_report
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import Names
from jaxsal.errors import InputError
from jaxsal.figures.lesion import lesion_figure
from jaxsal.inputs.entries import Entry
from jaxsal.model import Model
from jaxsal.processes import in_processes
from jaxsal.saliency.methods.gradcam import GradCamSettings


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with installed_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def drawn(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cohort with its report; not to be changed."""
    out = tmp_path_factory.mktemp("report") / "ä cohort"
    shutil.copytree(finished, out)
    write_report(out, processes=1)
    return out


@pytest.fixture
def copied(drawn: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(drawn, tmp_path / "copy"))


def all_pictures(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*.png")}


def told(path: Path) -> dict[str, Any]:
    """The rows that a page holds, column by column."""
    html = path.read_text(encoding="utf-8")
    begin = html.index(">", html.index('id="rows"')) + 1
    return dict(json.loads(html[begin : html.index("</script>", begin)]))


def test_every_lesion_has_a_picture_in_bids_folder_for_figures(drawn: Path) -> None:
    rows = read_table(drawn / "lesions.tsv")
    expected = {
        f"sub-{row['subject']}/figures/sub-{row['subject']}_label-lesion{int(row['label']):04d}"
        "_desc-smoothgradMax_saliency.png"
        for row in rows
    }
    assert all_pictures(drawn) == expected
    for name in expected:
        with Image.open(drawn / name) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert picture.width > 2 * picture.height > 1000  # two rows of five slices


def test_pictures_show_the_maps_where_they_lie(
    finished: Path, entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    seen: dict[str, Any] = {}

    def watched(
        image: Any, labels: Any, label: int, saliency: Any, origin: Any, *rest: Any, **others: Any
    ) -> Any:
        if label == 2:
            seen.update(image=image, saliency=saliency, origin=origin)
        return lesion_figure(image, labels, label, saliency, origin, *rest, **others)

    monkeypatch.setattr(pictures, "lesion_figure", watched)
    record = next(CohortFolder(out).records())
    methods = told_methods(out)
    scan = pictures.missing_pictures(out, record, methods, CHANNELS)
    assert scan is not None
    assert pictures.draw(out, scan).problem == ""
    affine = nib.load(entries[0].scan.images[0]).affine
    x, y, z = (
        slice(o, o + n) for o, n in zip(seen["origin"], seen["saliency"].shape, strict=False)
    )
    for channel, name in enumerate(CHANNELS):
        map_file = out / Names(record.stem).map(2, f"{name}_smoothgrad-max")
        dense = as_dense(map_file, affine)
        np.testing.assert_array_equal(seen["saliency"][..., channel], dense[x, y, z])
        raw = nib.load(entries[0].scan.images[channel]).get_fdata()
        inside = raw != 0
        np.testing.assert_allclose(
            seen["image"][..., channel][inside],
            (raw[inside] - raw[inside].mean()) / raw[inside].std(),
            atol=1e-4,
        )


def told_methods(out: Path) -> tuple[Any, ...]:
    from jaxsal.cohort.columns import Outline

    return Outline.read(CohortFolder(out).recorded()).methods


def test_page_and_pictures_are_no_errors_to_the_official_validator(drawn: Path) -> None:
    assert bids_issues(drawn) == []


def test_the_page_has_the_rows_of_the_table(drawn: Path) -> None:
    page, rows = told(drawn / "report.html"), read_table(drawn / "lesions.tsv")
    assert [column["key"] for column in page["columns"]] == list(rows[0])
    for column in page["columns"]:
        values = column["values"]
        if column["text"]:
            assert [column["names"][v] if v is not None else "" for v in values] == [
                row[column["key"]] for row in rows
            ]
        else:
            assert values == pytest.approx([float(row[column["key"]]) for row in rows], rel=1e-5)
    assert set(page["pictures"]) == all_pictures(drawn)


def test_of_the_columns_those_of_interest_are_shown_first(drawn: Path) -> None:
    shown = [column["key"] for column in told(drawn / "report.html")["columns"] if column["shown"]]
    statistics = [f"{c}_{s}" for c in CHANNELS for s in ("max", "min", "mean_inside")]
    shares = [f"{c}_positive_share" for c in CHANNELS]
    # "pät 0" does not tell that the subject is 00
    assert set(shown) == {"scan", "subject", "label", "kind", "volume_mm3", *statistics, *shares}


def test_what_is_drawn_is_not_drawn_again(copied: Path) -> None:
    some = sorted(all_pictures(copied))
    (copied / some[0]).unlink()
    (copied / some[1]).write_bytes(b"as it was")
    report = write_report(copied, processes=1)
    assert report.pictures == 1
    assert sorted(all_pictures(copied)) == some
    assert (copied / some[1]).read_bytes() == b"as it was"


@pytest.mark.thorough
def test_processes_draw_the_same(copied: Path, drawn: Path) -> None:
    some = sorted(all_pictures(copied))[:4]  # of two scans
    for name in some:
        (copied / name).unlink()
    steps: list[tuple[int, int]] = []
    report = write_report(copied, processes=2, on_scan=lambda *step: steps.append(step))
    assert steps == [(1, 2), (2, 2)]
    assert report.pictures == len(some)
    for name in some:
        assert (copied / name).read_bytes() == (drawn / name).read_bytes()


def test_without_pictures_those_are_shown_that_are_there(copied: Path) -> None:
    gone = sorted(all_pictures(copied))[0]
    (copied / gone).unlink()
    report = write_report(copied, pictures=False)
    assert (report.pictures, report.problems) == (0, {})
    page = told(copied / "report.html")
    assert set(page["pictures"]) == {None, *all_pictures(copied)}


def first_pictures(out: Path) -> set[str]:
    return {name for name in all_pictures(out) if "lesion0001" in name}


@pytest.fixture
def own(entries: list[Entry], drawn: Path, tmp_path: Path) -> tuple[Path, list[Path]]:
    """A folder without its scans' first pictures, and their images, all to be changed."""
    out = Path(shutil.copytree(drawn, tmp_path / "out"))
    for name in first_pictures(out):
        (out / name).unlink()
    images = []
    for entry in entries:
        image = tmp_path / f"{entry.stem}.nii.gz"
        shutil.copy2(entry.scan.images[0], image)
        path = CohortFolder(out).record_path(entry.stem)
        record = json.loads(path.read_bytes())
        record["inputs"]["flair"]["file"] = str(image)
        path.write_text(json.dumps(record), encoding="utf-8")
        images.append(image)
    return out, images


def test_scans_whose_images_are_gone_or_changed_have_no_pictures_and_others_do(
    own: tuple[Path, list[Path]],
) -> None:
    out, images = own
    images[0].unlink()
    shutil.copy(images[2], images[1])
    os.utime(images[2])  # touched, but the same
    report = write_report(out, processes=1)
    assert list(report.problems) == ["pät 0", "pät 1"]
    assert f"{images[0]} is gone" in report.problems["pät 0"]
    assert f"{images[1]} has changed since" in report.problems["pät 1"]
    assert {name[:6] for name in first_pictures(out)} == {"sub-02", "sub-03"}
    assert f"{images[0]} is gone" in (out / "report.html").read_text(encoding="utf-8")
    assert report.lesions == len(read_table(out / "lesions.tsv"))


def test_a_damaged_map_costs_its_picture_only(copied: Path) -> None:
    names = Names("sub-00")
    (copied / names.picture(1, "smoothgrad-max")).unlink()
    (copied / names.picture(2, "smoothgrad-max")).unlink()
    (copied / names.map(1, "t1_smoothgrad-max")).write_bytes(b"")
    report = write_report(copied, processes=1)
    assert report.pictures == 1
    assert report.problems["pät 0"].startswith("no picture of lesion 1: ")


def test_the_page_does_not_say_where_its_folder_is(copied: Path) -> None:
    names = Names("sub-00")
    (copied / names.picture(1, "smoothgrad-max")).unlink()
    damaged = copied / names.map(1, "t1_smoothgrad-max")
    damaged.write_bytes(b"")
    report = write_report(copied, processes=1)
    assert str(damaged) in report.problems["pät 0"]
    text = report.path.read_text(encoding="utf-8")
    assert damaged.relative_to(copied).as_posix() in text
    assert str(copied) not in text


def test_failed_and_unfinished_scans_are_told_of(copied: Path) -> None:
    folder = CohortFolder(copied)
    records = list(folder.records())
    folder.forget(records[1])
    broken = replace(records[2], status="failed", reason="t1 <is> cut", rows=[], files={})
    folder.forget(records[2])
    broken.write(folder.record_path(broken.stem))
    report = write_report(copied, processes=1)
    assert report.statuses == {"finished": 2, "failed": 1, "unfinished": 1}
    text = (copied / "report.html").read_text(encoding="utf-8")
    assert "2 finished" in text
    assert "t1 &lt;is&gt; cut" in text
    assert set(told(copied / "report.html")["pictures"]) == all_pictures(copied)
    assert {name[:6] for name in all_pictures(copied)} == {"sub-00", "sub-03"}


def test_before_the_first_scan_is_finished_there_is_a_page(copied: Path) -> None:
    folder = CohortFolder(copied)
    for record in list(folder.records()):
        folder.forget(record)
    assert write_report(copied).statuses == {"unfinished": 4}
    assert "No lesion was explained." in (copied / "report.html").read_text(encoding="utf-8")


def test_a_scan_is_forgotten_with_its_pictures_and_no_other_s(copied: Path) -> None:
    record = next(CohortFolder(copied).records())
    other = copied / "sub-00/figures/sub-00_ses-02_label-lesion0001_desc-smoothgradMax_saliency.png"
    other.write_bytes(b"of another session")
    CohortFolder(copied).forget(record)
    left = [path.name for path in other.parent.iterdir()]
    assert left == [other.name]
    assert any(name.startswith("sub-01") for name in all_pictures(copied))


def test_beginning_anew_removes_pictures_and_page(
    copied: Path, entries: list[Entry], tiny_model: Model
) -> None:
    cohort = run(tiny_model, entries[:1], copied, overwrite=True)
    assert [result.status for result in cohort] == ["finished"]
    assert all_pictures(copied) == set()
    assert not (copied / "report.html").exists()
    assert not list(copied.rglob("figures"))


@pytest.mark.thorough
def test_each_method_has_a_picture_of_a_lesion(
    entries: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    both = (*SETTINGS.saliency, GradCamSettings(tiny_model.layers[1]))
    run(tiny_model, entries[:1], tmp_path, settings=replace(SETTINGS, saliency=both))
    write_report(tmp_path, processes=1)
    page = told(tmp_path / "report.html")
    assert page["captions"] == ["smoothgrad-max", "gradcam++"]
    names = Names("sub-00")
    assert page["pictures"] == [
        [names.picture(label, "smoothgrad-max"), names.picture(label, "gradcam++")]
        for label in (1, 2, 3)
    ]
    assert all_pictures(tmp_path) == {name for pair in page["pictures"] for name in pair}


def test_approximated_maps_are_marked_on_the_page_and_in_their_pictures(
    finished: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    record = next(CohortFolder(out).records())
    first, *others = record.rows
    assert first["approximated"] == "exact"
    rows = [{**first, "approximated": "30 of 2984 voxels"}, *others]
    record = replace(record, rows=rows)
    scan = pictures.missing_pictures(out, record, told_methods(out), CHANNELS)
    assert scan is not None
    notes = [picture.note for picture in scan.pictures]
    assert notes == ["approximated: 30 of 2984 voxels differentiated", *["" for _ in others]]
    record.write(CohortFolder(out).record_path(record.stem))
    write_report(out, pictures=False)
    assert re.search(r"1 of \d+ maps are approximated", (out / "report.html").read_text())


def test_without_maps_there_are_no_pictures(
    entries: list[Entry], tiny_model: Model, tmp_path: Path
) -> None:
    run(tiny_model, entries[:1], tmp_path, settings=replace(SETTINGS, output="table"))
    report = write_report(tmp_path)
    assert (report.pictures, report.problems, report.lesions) == (0, {}, 3)
    assert "The run kept no maps" in report.path.read_text(encoding="utf-8")


def test_the_run_is_described(drawn: Path, tiny_model: Model) -> None:
    text = (drawn / "report.html").read_text(encoding="utf-8")
    for name, value in [
        ("threshold", f"{tiny_model.threshold:.6g}"),
        ("roi", "16, 16, 16"),
        ("samples", "2"),
        ("channels", "flair, t1"),
        ("portion", "20"),
    ]:
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text


def test_devices_are_counted_where_they_differ(copied: Path) -> None:
    record = next(CohortFolder(copied).records())
    other = replace(record, ran={**record.ran, "device": "Quick <1>"})
    other.write(CohortFolder(copied).record_path(record.stem))
    write_report(copied, pictures=False)
    text = (copied / "report.html").read_text(encoding="utf-8")
    assert f"<dd>{record.ran['device']} (3 of 4 scans), Quick &lt;1&gt; (1 of 4 scans)</dd>" in text


def test_a_folder_of_another_version_is_refused(copied: Path) -> None:
    path = copied / "run.json"
    run_json = json.loads(path.read_bytes())
    del run_json["outline"]
    path.write_text(json.dumps(run_json))
    with pytest.raises(InputError, match="another version"):
        write_report(copied)


def test_reports_do_without_jax() -> None:
    modules = "jaxsal.cohort.pictures", "jaxsal.cohort.report"
    codes = [f"__import__('{module}') and 'jax' in __import__('sys').modules" for module in modules]
    with in_processes(eval, codes, 2) as results:
        assert list(results) == [False, False]


def test_a_row_of_the_real_report_shows_its_picture(browser: Any, drawn: Path) -> None:
    visit = Visit(browser, drawn / "report.html")
    visit.page.locator("#lesions tbody tr").nth(1).click()
    visit.page.wait_for_function("() => document.querySelector('#chosen img')?.naturalWidth > 1000")
    assert not visit.complaints
    assert {url.partition(":")[0] for url in visit.requests} == {"file", "blob"}
    assert len([url for url in visit.requests if url.endswith(".png")]) == 1
    visit.page.close()


def test_the_command_reports_on_what_the_command_ran(
    entries: list[Entry],
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cohort = write_manifest(tmp_path / "cohort.tsv", entries[:1])
    out = tmp_path / "out"
    assert main(["cohort", "run", str(model_folder), str(cohort), "--out", str(out), *OPTIONS]) == 0
    capsys.readouterr()
    assert main(["report", str(out), "--processes", "1"]) == 0
    page = out / "report.html"
    summary = "3 lesions in 1 scan (1 finished); {} drawn; open " + f"{page}\n"
    captured = capsys.readouterr()
    assert captured.out == summary.format("3 pictures")
    assert captured.err.splitlines()[-1].endswith("drawing: 100 %, 1/1 scans")
    assert main(["report", str(out), "--pictures", "none"]) == 0
    assert capsys.readouterr().out == summary.format("0 pictures")


def test_the_command_warns_of_pictures_that_cannot_be_drawn(
    own: tuple[Path, list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, images = own
    images[3].unlink()
    assert main(["report", str(out), "--processes", "1"]) == 0
    warning = f"jaxsal report: warning: pät 3: no pictures: {images[3]} is gone"
    assert warning in capsys.readouterr().err


def test_what_is_drawn_stays_when_the_command_is_interrupted(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = sorted(first_pictures(copied))
    for name in some:
        (copied / name).unlink()

    def interrupt(bar: ProgressBar, done: int, scans: int, things: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "count", interrupt)
    assert main(["report", str(copied), "--processes", "1"]) == 130
    assert "pictures that are drawn stay" in capsys.readouterr().err
    assert first_pictures(copied) == set(some[:1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{none}"], "holds no results of `jaxsal cohort run`"),
        (["{drawn}", "--processes", "0"], "processes must be at least 1, got 0"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str],
    message: str,
    drawn: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [argument.format(none=tmp_path, drawn=drawn) for argument in arguments]
    assert main(["report", *given]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_record_s_scan_is_known_by_its_stem() -> None:
    names = Names("sub-1_ses-2_acq-x")
    assert names.labels == "sub-1/ses-2/anat/sub-1_ses-2_acq-x_seg-lesions_dseg.nii.gz"
    assert names.picture(3, "gradcam++") == (
        "sub-1/figures/sub-1_ses-2_acq-x_label-lesion0003_desc-gradcamplusplus_saliency.png"
    )
