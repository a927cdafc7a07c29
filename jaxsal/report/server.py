"""A folder's pages over HTTP, for a browser on this machine: to read, by who has the token."""

from __future__ import annotations

import errno
import hmac
import http.client
import os
import secrets
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from jaxsal.errors import InputError, JaxsalError
from jaxsal.store.inside import is_inside

HOST = "127.0.0.1"
_NAME = "jaxsal-view"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".gz": "application/gzip",
    ".tsv": "text/tab-separated-values; charset=utf-8",
    ".json": "application/json",
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Made = Callable[[str], str | None]
"""From the name of a page to its HTML, if it is made when it is asked for."""


class PageServer(ThreadingHTTPServer):
    """Serves a folder's files of the kinds that pages are made of, and nothing beside it.

    The address holds a random token, without which nothing is answered. Hidden files, links that
    lead out of the folder and names with ".." are not there.

    Args:
        folder: the folder.
        port: to listen on, of 127.0.0.1 alone; 0: one that is free.
        made: pages that are no files.

    Raises:
        InputError: the port is in use, or may not be used.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0, made: Made = lambda name: None) -> None:
        self.folder, self.made, self.token = folder.resolve(), made, secrets.token_urlsafe(16)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise InputError(_refused(port, error)) from error

    def address(self, page: str) -> str:
        """Where a page is."""
        return f"http://{HOST}:{self.server_address[1]}/{self.token}/{quote(page)}"

    def find(self, name: str) -> Path | None:
        """The file of a name, with "/" between its parts; None if it is not to be served."""
        path = PurePosixPath(name)
        if path.suffix not in _TYPES or any(part.startswith(".") for part in path.parts):
            return None
        if not is_inside(self.folder, name):
            return None
        file = Path(os.path.realpath(self.folder / name))
        return file if file.is_relative_to(self.folder) and file.is_file() else None

    def content(self, name: str) -> tuple[bytes, str] | None:
        """The content of a page or file, and of which type it is; None if there is none.

        Raises:
            JaxsalError: a page cannot be made.
            OSError: a file cannot be read.
        """
        page = self.made(name)
        if page is not None:
            return page.encode(), _TYPES[".html"]
        file = self.find(name)
        return None if file is None else (file.read_bytes(), _TYPES[PurePosixPath(name).suffix])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that goes before it has all; of other errors, as usual."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    server_version, sys_version = _NAME, ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answers with a page or a file."""
        hosts = {f"{name}:{self.server.server_address[1]}" for name in (HOST, "localhost")}
        try:
            path = unquote(urlsplit(self.path).path)
        except ValueError:  # it is no address
            return self._refuse()
        token, _, name = path.lstrip("/").partition("/")
        own = hmac.compare_digest(token.encode(), self.server.token.encode())
        if token == "favicon.ico":  # which browsers ask for on their own
            return self._send(b"", "image/x-icon", HTTPStatus.NO_CONTENT)
        if not own or self.headers.get("Host") not in hosts:  # the latter: by another site's name
            return self._refuse()
        try:
            found = self.server.content(name)
        except JaxsalError as error:
            return self._send(str(error).encode(), "text/plain; charset=utf-8", HTTPStatus.CONFLICT)
        except OSError:  # it may not be read, or is gone by now
            found = None
        return self._refuse() if found is None else self._send(*found)

    do_HEAD = do_GET  # noqa: N815

    def _refuse(self) -> None:
        text = "There is nothing here: use the address that `jaxsal view` printed.\n"
        self._send(text.encode(), "text/plain; charset=utf-8", HTTPStatus.NOT_FOUND)

    def _send(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the terminal shows the address."""


def _refused(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        who = "another `jaxsal view`, which goes on" if _is_ours(port) else "another program"
        return f"port {port} is in use by {who}: leave out --port, or choose another one"
    return f"port {port} cannot be used ({error.strerror}): leave out --port, or choose another one"


def _is_ours(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("HEAD", "/")
        return str(connection.getresponse().getheader("Server")).startswith(_NAME)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
