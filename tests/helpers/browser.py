"""A page in a headless browser, whose every request and complaint is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


SOFTWARE_WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@contextmanager
def installed_browser(*more: str) -> Iterator[Any]:
    """The Chromium of this machine, started with more arguments; skips the test without one."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("needs Chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=[*ARGUMENTS, *more])
        yield browser
        browser.close()


class Visit:
    """A file, or an address, opened in a browser.

    Attributes:
        page: Playwright's.
        requests: addresses of all that the page asked for, itself included.
        complaints: errors, warnings and dialogs.
    """

    def __init__(self, browser: Any, path: Path | str, width: int = 1280, **context: Any) -> None:
        # A page's policy also forbids what Playwright's own functions are made of.
        context = {"bypass_csp": True, **context}
        self.page = browser.new_page(viewport={"width": width, "height": 900}, **context)
        self.page.set_default_timeout(120_000)  # on a machine that is at work on other things
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._dismiss)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.goto(path if isinstance(path, str) else path.as_uri())

    def _dismiss(self, dialog: Any) -> None:
        self.complaints.append(dialog.message)
        dialog.dismiss()
