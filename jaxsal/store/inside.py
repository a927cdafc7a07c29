"""Names that were read from files stay inside the folder that they are relative to.

A folder of results may come from anybody, and what its records name is moved, replaced and removed.
So every such name is asked for here before anything is done with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

from jaxsal.errors import InputError


def require_inside(folder: Path, names: Iterable[str]) -> None:
    """Refuses names of anything but files inside a folder, existing or not.

    The last part of a name may be a symbolic link: to remove or to replace it leaves alone what it
    points at.

    Args:
        folder: that the names are relative to; it may itself be a link.
        names: with "/" between their parts.

    Raises:
        InputError: a name is no text, is empty, is absolute, holds ".." or NUL, or leads out of the
            folder through a symbolic link.
    """
    parents = {_plain(name).parent: name for name in names}
    root = Path(os.path.realpath(folder))
    for parent, name in parents.items():
        real = Path(os.path.realpath(folder / parent))
        if not real.is_relative_to(root):
            raise InputError(
                f"{name!r} leads out of {folder}, to {real}, through a symbolic link: put a folder "
                "in the link's place, or use another folder for results"
            )


def is_inside(folder: Path, name: str) -> bool:
    """Whether `require_inside` lets a name pass."""
    try:
        require_inside(folder, [name])
    except InputError:
        return False
    return True


def remove_inside(folder: Path, names: Iterable[str]) -> None:
    """Removes files by such names, as far as they are there; folders stay.

    Raises:
        InputError: as of `require_inside`; nothing is removed then.
    """
    names = list(names)
    require_inside(folder, names)
    for name in names:
        path = folder / name
        if path.is_symlink() or not path.is_dir():
            with suppress(NotADirectoryError):  # a name below a file's: it is not there
                path.unlink(missing_ok=True)


def require_no_links(folder: Path) -> None:
    """Refuses a folder of jaxsal's own that is or holds what jaxsal does not make.

    Args:
        folder: looked through to its ends; it need not be there.

    Raises:
        InputError: there is a symbolic link, through which other files would be written or removed;
            or a pipe or device, for which a run would wait.
    """
    odd = [folder] if folder.is_symlink() else list(_odd(folder))
    if odd and odd[0].is_symlink():
        raise InputError(
            f"{odd[0]} is a symbolic link, which jaxsal does not make; files elsewhere could be "
            "changed through it: remove the link, or use another folder for results"
        )
    if odd:
        raise InputError(
            f"{odd[0]} is a pipe or a device, which jaxsal does not make: remove it, or use "
            "another folder for results"
        )


def _odd(folder: str | Path) -> Iterable[Path]:
    """What is neither a file nor a folder."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except (FileNotFoundError, NotADirectoryError):  # also one that another run has just removed
        return
    for entry in entries:
        if entry.is_symlink():
            yield Path(entry.path)
        elif entry.is_dir():
            yield from _odd(entry.path)
        elif not entry.is_file() and os.path.lexists(entry.path):  # it may just have been removed
            yield Path(entry.path)


def _plain(name: str) -> PurePosixPath:
    """A name as a relative path downwards, on whatever system."""
    if not isinstance(name, str):
        raise InputError(f"the name of a file must be a text, got {name!r}")
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if (
        not posix.parts
        or posix.anchor
        or windows.anchor
        or ".." in (*posix.parts, *windows.parts)
        or "\0" in name
    ):
        raise InputError(f"{name!r} is no name of a file inside a folder of results")
    return posix
