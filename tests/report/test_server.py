"""The server of pages: only to who has the token, only what lies in the folder, only to read."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxsal.errors import InputError
from jaxsal.report.server import HOST, PageServer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("served")
    folder = tmp_path / "ä folder"
    (folder / "sub").mkdir(parents=True)
    (folder / ".jaxsal").mkdir()
    (folder / "report.html").write_text("<p>ü", encoding="utf-8")
    for name in ("sub/map.nii.gz", "run.py", ".jaxsal/record.json", ".hidden.html"):
        (folder / name).write_bytes(b"content")
    (tmp_path / "secret.html").write_text("secret")
    (folder / "link.html").symlink_to(tmp_path / "secret.html")
    (folder / "elsewhere").symlink_to(tmp_path)
    (folder / "inner.html").symlink_to(folder / "report.html")
    (folder / "kept").write_bytes(b"kept elsewhere")  # as git-annex does
    (folder / "annexed.nii.gz").symlink_to("kept")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[PageServer]:
    def made(name: str) -> str | None:
        if name == "view/broken.html":
            raise InputError("the label map is gone")
        return "<p>made" if name == "view/one.html" else None

    with PageServer(folder, made=made) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def answer(
    server: PageServer, name: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """Status, content and headers of what is asked for as it stands, behind the token."""
    connection = http.client.HTTPConnection(HOST, server.server_address[1], timeout=10)
    connection.request(method, f"/{server.token}/{name}", headers=headers)
    found = connection.getresponse()
    content = found.read(), found.headers
    connection.close()
    return found.status, *content


def test_pages_and_volumes_are_served_and_not_kept(server: PageServer) -> None:
    status, content, headers = answer(server, "report.html")
    assert (status, content.decode()) == (200, "<p>ü")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert answer(server, "sub/map.nii.gz?x#y")[:2] == (200, b"content")
    assert answer(server, "inner.html")[0] == 200
    status, content, headers = answer(server, "annexed.nii.gz")
    assert (status, content, headers["Content-Type"]) == (
        200,
        b"kept elsewhere",
        "application/gzip",
    )
    assert answer(server, "view/one.html")[:2] == (200, b"<p>made")
    assert answer(server, "report.html", "HEAD")[:2] == (200, b"")


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.html", "sub/../../secret.html", "%2e%2e/secret.html", "..%2fsecret.html"),
        *("link.html", "elsewhere/secret.html", ".hidden.html", ".jaxsal/record.json", "run.py"),
        *(
            "",
            "sub",
            "sub/",
            "nothing.html",
            "/etc/passwd",
            "//etc/x.html",
            "report.html%00",
            f"{'x' * 300}.html",
            "\\x",
        ),
    ],
)
def test_nothing_else_is(server: PageServer, name: str) -> None:
    status, content, _ = answer(server, name)
    assert status == 404
    assert b"secret" not in content


def test_without_the_token_or_under_another_name_there_is_nothing(server: PageServer) -> None:
    for path in ("/report.html", "/another/report.html", "/"):
        connection = http.client.HTTPConnection(HOST, server.server_address[1], timeout=10)
        connection.request("GET", path)
        assert connection.getresponse().status == 404
        connection.close()
    assert answer(server, "report.html", Host="attacker.example")[0] == 404


def test_what_is_no_address_is_refused(server: PageServer) -> None:
    with socket.create_connection((HOST, server.server_address[1]), timeout=10) as connection:
        connection.sendall(b"GET http://[ HTTP/1.1\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(("error", "said"), [(BrokenPipeError, ""), (KeyError, "Traceback")])
def test_nothing_is_said_of_browsers_that_go(
    error: type[Exception], said: str, server: PageServer, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        raise error
    except error:
        server.handle_error(None, ("", 0))
    shown = capsys.readouterr().err
    assert said in shown
    assert bool(shown) == bool(said)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(server: PageServer, method: str) -> None:
    assert answer(server, "report.html", method)[0] == 501


def test_a_page_that_cannot_be_made_says_why(server: PageServer) -> None:
    assert answer(server, "view/broken.html")[:2] == (409, b"the label map is gone")


def test_a_second_viewer_at_the_same_port_is_told_so(server: PageServer, folder: Path) -> None:
    with pytest.raises(InputError, match="in use by another `jaxsal view`, which goes on"):
        PageServer(folder, server.server_address[1])


def test_only_this_machine_is_listened_to(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.address("a b.html").endswith(f"/{server.token}/a%20b.html")
