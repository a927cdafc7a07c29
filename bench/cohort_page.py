"""How usable is the page over a cohort of ten thousand lesions?"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.case import TOY, make_model
from bench.cohort import RECORDED, cohort_job, record_all, to_be_recorded
from bench.options import job_settings, timed
from bench.record import Result, Row
from jaxsal.cohort.report import write_report
from jaxsal.cohort.run import run_cohort
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.errors import InputError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FIRST_ROW = "#lesions tbody tr[tabindex='0']"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--scans", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    count = 3 if options.toy else options.scans
    job = cohort_job(make_model(TOY), TOY)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        entries = to_be_recorded(Path(folder), count)
        list(run_cohort(job.model, [], out, prediction=job.prediction, settings=job.settings))
        record_all(job, entries, CohortFolder(out))
        CohortFolder(out).list_scans({entry.stem: entry.id for entry in entries})
        report, writing_s = timed(lambda: write_report(out, pictures=False))
        row: Row = {
            "lesions": report.lesions,
            "writing_s": writing_s,
            "mib": report.path.stat().st_size / 2**20,
            **_browsed(report.path, entries[-1].id, options.rounds),
        }
    notes = [
        "writing: the page of all lesions, without their pictures.",
        "opening: from the address to the first row on the screen; sorting: by a column of "
        "numbers; filtering: to one scan's lesions, typed; in headless Chromium, best of the "
        "rounds.",
    ]
    return Result("cohort_page", job_settings(TOY) | {"lesions_per_scan": RECORDED}, [row], notes)


def _browsed(path: Path, scan: str, rounds: int) -> Row:
    """Seconds that a reader waits; the least of the rounds."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise InputError("this benchmark drives a browser: pip install playwright") from error
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        raise InputError(f"this benchmark needs one of {', '.join(BROWSERS)} on the PATH")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"]
        )
        visits = [_visit(browser, path, scan) for _ in range(rounds)]
        browser.close()
    return {name: min(visit[name] for visit in visits) for name in visits[0]}


def _visit(browser: Any, path: Path, scan: str) -> dict[str, float]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})

    def opening() -> None:
        page.goto(path.as_uri())
        page.wait_for_selector(_FIRST_ROW)

    def sorting() -> None:
        page.locator("#lesions thead button", has_text="volume").first.click()
        page.wait_for_selector("#lesions thead th[aria-sort]:has-text('volume')")

    def filtering() -> None:
        page.fill("[name=text]", scan)
        page.wait_for_function(
            "text => document.getElementById('count').value.startsWith(text)", arg=f"{RECORDED} of"
        )

    steps: dict[str, Callable[[], None]] = {
        "opening_s": opening,
        "sorting_s": sorting,
        "filtering_s": filtering,
    }
    found = {}
    for name, step in steps.items():
        began = time.perf_counter()
        step()
        found[name] = time.perf_counter() - began
    page.close()
    return found
