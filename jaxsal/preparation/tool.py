"""A tool that finds brains: a command line of the user's, with places for the names of files."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.preparation.brain import require_brain
from jaxsal.same_grid import difference
from jaxsal.volumes import read_grid, read_mask, write_volume

IMAGE, MASK, FOLDER = "{image}", "{mask}", "{folder}"
"""What stands in a command line for the image that it reads, the mask that it is to write, or an
empty folder into which it writes the mask and no other image."""

_SHOWN = 10  # lines of what a tool wrote on its error stream
_NIFTI = (".nii", ".nii.gz")


def is_command(text: str) -> bool:
    """Whether a text is a command line rather than the name of a file."""
    return IMAGE in text or MASK in text or FOLDER in text


def words_of(command: str) -> list[str]:
    """The words of a command line, split as a shell does; none runs.

    Raises:
        InputError: it cannot be split, or lacks a place for the image or for what is written.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"the command line to extract brains is not complete: {error}") from error
    if IMAGE not in command or not (MASK in command or FOLDER in command):
        raise InputError(
            f"the command line to extract brains needs {IMAGE} in place of the image that it reads "
            f"and {MASK} in place of the mask that it writes, or {FOLDER} for a folder into which "
            f"it writes the mask alone; got {command!r}"
        )
    return words


def require_tool(command: str) -> None:
    """Raises InputError unless the program that a command line names is there."""
    program = words_of(command)[0]
    if shutil.which(program) is None:
        raise InputError(
            f"there is no program {program!r} to extract brains with: install it, or give its path"
        )


def find_brain(command: str, image: np.ndarray, grid: Grid, folder: Path) -> np.ndarray:
    """The mask of the brain that a tool finds in an image.

    Args:
        command: the command line, see `IMAGE`; run without a shell, in the current folder.
        image: (X, Y, Z) float32.
        grid: of the image.
        folder: for the files of both; made anew, and removed.

    Returns:
        (X, Y, Z) bool.

    Raises:
        InputError: the tool fails, writes no mask on the image's grid, or marks nothing or all.
    """
    shutil.rmtree(folder, ignore_errors=True)
    written = folder.absolute() / "out"
    written.mkdir(parents=True)
    places = {
        IMAGE: str(written.parent / "image.nii.gz"),
        MASK: str(written / "mask.nii.gz"),
        FOLDER: str(written),
    }
    try:
        write_volume(places[IMAGE], image, grid)
        said = _run([_filled(word, places) for word in words_of(command)])
        path = _mask_in(written, command, said)
        own = read_grid(path)
        if not own.matches(grid):
            raise InputError(
                f"the mask that `{command}` wrote does not lie on the image's grid: "
                f"{difference(own, grid)}"
            )
        return require_brain(read_mask(path, grid), f"the mask that `{command}` wrote")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _filled(word: str, places: dict[str, str]) -> str:
    for place, name in places.items():
        word = word.replace(place, name)
    return word


def _run(words: Sequence[str]) -> str:
    """Runs a program; returns what it wrote on its error stream, for messages."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise InputError(f"`{shlex.join(words)}` cannot be run: {error.strerror}") from error
    said = _end_of(done.stderr) or _end_of(done.stdout)
    if done.returncode:
        raise InputError(f"`{shlex.join(words)}` ended with status {done.returncode}: {said}")
    return said


def _end_of(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-_SHOWN:])


def _mask_in(folder: Path, command: str, said: str) -> Path:
    """The one image that a tool wrote."""
    found = sorted(path for path in folder.rglob("*") if path.name.lower().endswith(_NIFTI))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found)
    what = f"wrote several images, {names}, where the mask alone is expected"
    said = f"; it printed: {said}" if said else ""
    raise InputError(f"`{command}` {what if found else 'wrote no mask'}{said}")
