"""Names of BIDS derivatives: a stem, such as "sub-07_ses-01", in its folders, and an ending."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath
from typing import Literal


def name_of(stem: str, ending: str, kind: Literal["anat", "figures"] = "anat") -> str:
    """A file's name in the folder of its kind: a session's images, or a subject's figures."""
    # Subject and session, if there is one, such as "sub-07" and "ses-01".
    folders = [part for part in stem.split("_") if part.startswith(("sub-", "ses-"))]
    folders = folders[:1] if kind == "figures" else folders
    return str(PurePosixPath(*folders, kind, f"{stem}_{ending}"))


def ending_of(stem: str, name: str, kind: Literal["anat", "figures"] = "anat") -> str:
    """The ending of which `name_of` makes this name; empty if there is none."""
    start = name_of(stem, "", kind)
    return name.removeprefix(start) if name.startswith(start) else ""


def camel_case(text: str) -> str:
    """A text as BIDS allows it for a label: "t1_gradcam++" becomes "t1Gradcamplusplus"."""
    plain = unicodedata.normalize("NFKD", text.replace("+", "plus"))  # accents by themselves
    words = re.findall(r"[A-Za-z0-9]+", plain.encode("ascii", "ignore").decode())
    first, *others = words or ["x"]
    return first + "".join(word[0].upper() + word[1:] for word in others)
