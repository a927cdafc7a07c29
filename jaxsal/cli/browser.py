"""A page in the user's browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from jaxsal.errors import InputError, warn


def address(page: Path) -> str:
    """Where a browser finds a page: a file:// URL."""
    return page.resolve().as_uri()


def require_browser() -> None:
    """Refuses to begin what is to be shown where there is no browser.

    Raises:
        InputError: this machine has none.
    """
    try:
        webbrowser.get()
    except webbrowser.Error as error:
        raise InputError(
            "--open needs a browser, and none was found on this machine; leave it out and open the "
            "page that is named, or name a browser in the environment variable BROWSER"
        ) from error


def open_page(address: str) -> None:
    """Opens a page in the browser; warns if the browser does not start."""
    try:
        opened = webbrowser.open(address)
    except webbrowser.Error:
        opened = False
    if not opened:
        warn(f"the browser did not start; open {address} yourself")
