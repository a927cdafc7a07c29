"""What the pages have in common: templates filled with escaped values, and a glossary."""

from __future__ import annotations

import base64
from collections.abc import Collection
from hashlib import sha256
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from jaxsal.wording import fact, number

_KINDS = {
    "TP": "true positive: the network found this lesion, and the reference has it, too",
    "FN": "false negative: the reference has this lesion, but the network found no voxel of it",
    "FP": "false positive: the network found a lesion where the reference has none",
    "TN": "true negative: a place in the head where neither the network nor the reference has one",
    "predicted": "found by the network; there was no reference to compare with",
    "given": "a lesion of the label map that was given",
}
_LOGIT = (
    "the network’s score for a lesion at a voxel, from which it computes the probability: the "
    "higher, the more confident it is of a lesion there"
)
_SHARE = (
    "the part of the map’s total strength that is positive: at 1 more intensity only makes the "
    "network more confident of the lesion, at 0 only less, at 0.5 both alike"
)


def fill(name: str, **values: object) -> str:
    """Fill a template of this package; what it extends and includes is found beside it."""
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fact": fact, "number": number}
    environment.globals |= {"script": _script, "policy": _policy()}
    return environment.get_template(name).render(**values)


def _script(name: str) -> Markup:
    """A script of this package, as it stands between its tags; `_policy` lets no other run."""
    return Markup(_source(name))


def _policy() -> str:
    """What a page may do: run the scripts of this package, and load pictures from beside it.

    A script that came in by a text would not run. Libraries are modules from the page's own memory
    (blob:); NiiVue's letters are pictures in its code (data:).
    """
    own = [each for each in files("jaxsal.report").iterdir() if each.name.endswith(".js")]
    hashes = [base64.b64encode(sha256(each.read_bytes()).digest()).decode() for each in own]
    scripts = " ".join(sorted(f"'sha256-{each}'" for each in hashes))
    return (
        f"default-src 'none'; script-src blob: {scripts}; style-src 'unsafe-inline'; "
        "img-src 'self' file: data: blob:; frame-src 'self'; connect-src 'self' data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(name: str) -> str:
    return files("jaxsal.report").joinpath(name).read_text(encoding="utf-8")


def glossary(kinds: Collection[object], keys: Collection[str]) -> dict[str, str]:
    """What the words on a page mean, as far as it uses them.

    Args:
        kinds: of its lesions.
        keys: of its table's columns.

    Returns:
        Meanings by word, in the order of reading.
    """
    words = {kind: meaning for kind, meaning in _KINDS.items() if kind in kinds}
    if any(key.endswith("positive_share") for key in keys):
        words["positive share"] = _SHARE
    return {**words, "logit": _LOGIT}
