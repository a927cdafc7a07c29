"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

from jaxsal.errors import OutputError


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a binary file that appears under its name only when the block ends without an error.

    Raises:
        OutputError: if the file cannot be written; an existing one is then unchanged.
    """
    path = Path(path)
    partial = path.with_name(
        f".{path.name}.{os.getpid()}-{token_hex(4)}.part"
    )  # hosts may share it
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"Cannot write {path}: {reason}. Check folder, rights and space."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, whole or not at all."""
    with whole_file(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Has the names in a folder written to the disk; not every system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_checksum(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
