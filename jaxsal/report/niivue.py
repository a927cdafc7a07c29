"""NiiVue, which draws volumes in a browser (BSD-2-Clause), as one module of JavaScript."""

from __future__ import annotations

import re
from importlib.metadata import distribution, distributions
from pathlib import Path
from urllib.parse import unquote

_NEEDED = (
    "The interactive view needs NiiVue, which is not installed, or in another version: `pip "
    "install 'jaxsal[view]'`, then run this again"
)
MISSING = f"{_NEEDED}."
MISSING_FROM_RESULTS = f"{_NEEDED} with --overwrite."  # for they are in the folder by then


def is_installed() -> bool:
    """Whether there is a view at all."""
    return any(distributions(name="ipyniivue"))


def niivue() -> str | None:
    """NiiVue as an ES module that needs no other file; None if no ipyniivue that holds it is there.

    ipyniivue holds it as one text in its widget, from which it writes pages of its own
    (`NiiVue.save_html`). It is found without importing the package, which would import Jupyter's.
    """
    if not is_installed():
        return None
    widget = distribution("ipyniivue").locate_file("ipyniivue/static/widget.js")
    found = re.search(r'"([^"\s]{1000000,})"', Path(str(widget)).read_text(encoding="utf-8"))
    module = unquote(found[1]) if found else ""
    return module if re.search(r"export\s*\{[^}]*\bNiivue\b[^}]*\};?\s*$", module) else None
