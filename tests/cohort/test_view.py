"""The interactive view of a cohort's scans: images beside the pictures, and a page of each."""

from __future__ import annotations

import _thread
import json
import re
import shutil
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import nibabel as nib
import numpy as np
import pytest
from helpers.browser import SOFTWARE_WEBGL, Visit, installed_browser
from helpers.tiny import CHANNELS

from jaxsal.cli.main import main
from jaxsal.cohort.report import write_report
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import Names
from jaxsal.cohort.view import page_of
from jaxsal.inputs.entries import Entry
from jaxsal.report.server import PageServer


@pytest.fixture(scope="module")
def viewed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cohort with its report, without pictures; not to be changed."""
    out = tmp_path_factory.mktemp("viewed") / "cohort"
    shutil.copytree(finished, out)
    write_report(out, pictures=False, processes=1)
    return out


def told(html: str, name: str) -> dict[str, Any]:
    """JSON that a page holds."""
    begin = html.index(">", html.index(f'id="{name}"')) + 1
    return dict(json.loads(html[begin : html.index("</script>", begin)]))


def test_images_lie_beside_the_pictures_as_the_scans_are(
    viewed: Path, entries: list[Entry]
) -> None:
    record = next(CohortFolder(viewed).records())
    (entry,) = [each for each in entries if each.id == record.id]
    for channel, path in zip(CHANNELS, entry.scan.images, strict=True):
        image = nib.load(viewed / Names(record.stem).view(channel))
        scan = nib.load(path)
        start = np.rint(np.linalg.solve(scan.affine, image.affine[:, 3]))[:3].astype(int)
        part = tuple(slice(a, a + n) for a, n in zip(start, image.shape, strict=True))
        data = scan.get_fdata()
        np.testing.assert_allclose(image.get_fdata(), data[part], atol=1e-3 * np.abs(data).max())


def test_a_scans_page_finds_its_maps_where_they_are(viewed: Path) -> None:
    folder = CohortFolder(viewed)
    record = next(folder.records())
    data = told(page_of(folder, f"view/{record.stem}.html") or "", "view-data")
    names = [
        each["volume"] for layer in data["layers"] for m in layer["maps"].values() for each in m
    ]
    names += [each["volume"] for each in data["channels"]]
    assert all((viewed / "view" / name).resolve().is_file() for name in names)
    assert [each["label"] for each in data["lesions"]] == [row["label"] for row in record.rows]
    row = record.rows[0]
    peak = max(abs(row["flair_max"]), abs(row["flair_min"]))
    assert data["layers"][0]["maps"][str(row["label"])][0]["peak"] == pytest.approx(peak)
    assert page_of(folder, "view/../x.html") is None
    assert page_of(folder, "report.html") is None


def test_ratings_of_another_folder_are_others_and_of_a_folder_together(
    viewed: Path, tmp_path: Path
) -> None:
    copy = CohortFolder(Path(shutil.copytree(viewed, tmp_path / "copy")))
    here, there = (
        {told(page_of(folder, f"view/{r.stem}.html") or "", "view-data")["id"] for r in records}
        for folder in (CohortFolder(viewed), copy)
        for records in ([r for r in folder.records() if r.rows],)
    )
    assert len(here) == len(there) == 1
    assert here != there


def test_a_map_without_numbers_has_a_page_too(viewed: Path, tmp_path: Path) -> None:
    folder = CohortFolder(Path(shutil.copytree(viewed, tmp_path / "copy")))
    record = next(folder.records())
    label = record.rows[0]["label"]
    record.rows[0] |= {"flair_max": float("nan"), "flair_min": float("-inf")}
    record.write(folder.record_path(record.stem))
    data = told(page_of(folder, f"view/{record.stem}.html") or "", "view-data")
    assert data["layers"][0]["maps"][str(label)][0]["peak"] == 0


def test_an_image_that_has_changed_is_said_and_not_written(viewed: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(viewed, tmp_path / "copy"))
    folder = CohortFolder(out)
    record = next(folder.records())
    for path in out.glob(Names(record.stem).views):
        path.unlink()
    content = json.loads(folder.record_path(record.stem).read_bytes())
    content["inputs"]["flair"]["size"] += 1
    folder.record_path(record.stem).write_text(json.dumps(content))
    report = write_report(out, pictures=False, processes=1)
    assert re.search("no interactive view: .* is not what it was", report.problems[record.id])
    assert record.id not in told((out / "report.html").read_text(), "rows")["views"]


def test_without_a_view_no_image_is_written(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    assert main(["report", str(out), "--pictures", "none", "--no-view"]) == 0
    assert not list(out.rglob("*_view.nii.gz"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["{folder}"], "holds no page of results: give the folder of `jaxsal explain`"),
        (["{folder}/none"], "holds no page of results"),
        (["{finished}"], "has no report.html yet: run `jaxsal report"),
        (["{viewed}", "--port", "70000"], "--port must be from 0 to 65535, got 70000"),
    ],
)
def test_what_cannot_be_viewed_is_said(
    given: list[str],
    said: str,
    viewed: Path,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [each.format(folder=tmp_path, viewed=viewed, finished=finished) for each in given]
    assert main(["view", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_page_is_served_while_the_browser_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run.json").write_text('{"jaxsal": "0", "command": "explain", "files": {"x": "0"}}')
    (tmp_path / "index.html").write_text("the page")
    read: list[bytes] = []

    def open_in_the_terminal(address: str) -> bool:
        try:
            with build_opener(ProxyHandler({})).open(address, timeout=10) as answer:
                read.append(answer.read())
        finally:
            _thread.interrupt_main()  # as Ctrl-C does
        return True

    monkeypatch.setattr(webbrowser, "get", lambda: None)
    monkeypatch.setattr(webbrowser, "open", open_in_the_terminal)
    assert main(["view", str(tmp_path), "--open"]) == 0
    assert read == [b"the page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with installed_browser(*SOFTWARE_WEBGL) as browser:
        yield browser


@pytest.mark.thorough
def test_a_row_of_the_report_shows_its_lesion_when_it_is_served(browser: Any, viewed: Path) -> None:
    folder = CohortFolder(viewed)
    with PageServer(viewed, made=lambda name: page_of(folder, name)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        visit = Visit(browser, server.address("report.html"), bypass_csp=False)
        row = visit.page.locator("#lesions tbody tr").first
        row.click()
        frame = visit.page.frame_locator("iframe.interactive")
        frame.locator("#view-state", has_text=" of ").wait_for(timeout=60_000)
        assert "At the crosshair" in frame.locator("#view-values caption").inner_text()
        assert [t for t in visit.complaints if "GL Driver Message" not in t] == []
        visit.page.close()
        server.shutdown()


@pytest.mark.thorough
def test_opened_as_a_file_the_report_says_how_to_view(browser: Any, viewed: Path) -> None:
    visit = Visit(browser, viewed / "report.html", bypass_csp=False)
    visit.page.locator("#lesions tbody tr").first.click()
    said = visit.page.locator("#chosen", has_text="slice by slice").inner_text()
    assert f"jaxsal view {viewed}" in said
    visit.page.close()


@pytest.mark.thorough
def test_a_page_without_its_volumes_says_where_they_were(
    browser: Any, viewed: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(viewed, tmp_path / "copy"))
    folder = CohortFolder(out)
    record = next(folder.records())
    with PageServer(out, made=lambda name: page_of(folder, name)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (out / Names(record.stem).view("flair")).unlink()
        visit = Visit(browser, server.address(f"view/{record.stem}.html"))
        text = visit.page.locator("#view-state", has_text="cannot be loaded").inner_text()
        assert f"{Names(record.stem).view('flair')} cannot be loaded; it was in {out}" in text
        visit.page.close()
        server.shutdown()
