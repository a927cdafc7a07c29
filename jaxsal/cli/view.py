"""``jaxsal view``: results in the browser of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from jaxsal.cli.browser import open_page, require_browser
from jaxsal.cli.command import Command, Given, group
from jaxsal.errors import InputError
from jaxsal.options import option

if TYPE_CHECKING:
    from jaxsal.report.server import Made


@dataclass(frozen=True)
class _Viewing:
    """What is looked at, and where.

    Attributes:
        out: the folder of `jaxsal cohort run`, after `jaxsal report`, or of `jaxsal explain`.
        port: of this machine, at which the results are shown, and by which the browser keeps
            ratings.
        open: open the page in the browser, too.
    """

    out: Path = option(metavar="DIR", positional=True)
    port: int = option(0, "N", shown="a free one")
    open: bool = option(False)


def run(given: Given) -> None:
    """Runs the command; it ends with Ctrl-C."""
    options = given.of(_Viewing)
    if not 0 <= options.port < 2**16:
        raise InputError(f"--port must be from 0 to 65535, got {options.port}")
    if options.open:
        require_browser()
    from jaxsal.report.server import PageServer

    page, made = _page(options.out)
    with PageServer(options.out, options.port, made) as server:
        address = server.address(page)
        print(f"{address}\nCtrl-C ends it; only this machine sees it.", flush=True)
        if options.open:
            # A browser in the terminal keeps whoever starts it, and needs the server meanwhile.
            Thread(target=open_page, args=(address,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended")


def _page(out: Path) -> tuple[str, Made]:
    """The page of a folder, and those that are made when they are asked for."""
    from jaxsal.cohort.storage.folder import CohortFolder
    from jaxsal.cohort.view import page_of
    from jaxsal.store.output_folder import holds_results

    folder = CohortFolder(out)
    if folder.scans():
        folder.recorded()
        if not (out / "report.html").is_file():
            raise InputError(f"{out} has no report.html yet: run `jaxsal report {out}` first")
        return "report.html", lambda name: page_of(folder, name)
    if not holds_results(out) or not (out / "index.html").is_file():
        raise InputError(
            f"{out} holds no page of results: give the folder of `jaxsal explain`, or that of "
            "`jaxsal cohort run`, after `jaxsal report`"
        )
    return "index.html", lambda name: None


COMMAND = Command(
    "Shows the page of a folder at an address of this machine, which it prints. Serves that "
    "folder's pages, pictures and volumes to who has the address, with its token; changes nothing.",
    (group(_Viewing),),
    run,
    configurable=False,
)
