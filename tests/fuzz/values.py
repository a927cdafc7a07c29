"""Values that files of strangers hold, and changes to documents and bytes that were sound."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

VICTIM = "elsewhere/victim"  # beside the folder of a case
OUTSIDE = (
    *(f"../{VICTIM}", f"sub-00/../../{VICTIM}", "/dev/zero", "/etc/passwd", "..", ".", "/"),
    *("a\0b", "link/victim", "C:\\victim", "~nobody/x", "~/x"),
)
TEXTS = (
    *("", " ", "x" * 300, "n/a", "=1+1", "\ud800", "\x1b[2Jx", "<script>", "Größe 1", "1e30"),
    *("nan", "%s{0}", "*", "sub-00\nsub-01", "[", "²"),
)
NUMBERS = (
    *(0, 1, -1, 2, 3, 255, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e-300, 1e30),
    *(float("nan"), float("inf"), float("-inf"), True, False),
)
DEEP: Any = [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]
CONTAINERS = ([], {}, [None], [[]], {"": {}}, [1] * 50, [[1, 2], [3]], {"a": 1}, DEEP)

plain = st.sampled_from([None, *NUMBERS, *TEXTS, *OUTSIDE, *CONTAINERS])


def as_json(document: Any) -> bytes:
    """As JSON holds it, with the names of NaN and infinity that Python reads."""
    return json.dumps(document).encode()


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a document, with each of its keys or indices."""
    if isinstance(document, dict | list):
        items = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in list(items):
            yield document, key
            yield from _places(value)


@st.composite
def changed(draw: st.DrawFn, document: Any, values: st.SearchStrategy[Any] = plain) -> Any:
    """A document with one to three places taken out, filled with another value, or added."""
    document = deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            return deepcopy(draw(values))
        container, key = places[draw(st.integers(0, len(places) - 1))]
        change = draw(st.sampled_from(["value", "value", "value", "remove", "add", "wrap", "copy"]))
        if change == "value":
            container[key] = deepcopy(draw(values))
        elif change == "wrap":
            container[key] = [container[key]]
        elif change == "remove":
            del container[key]
        elif change == "copy":
            other, place = places[draw(st.integers(0, len(places) - 1))]
            container[key] = deepcopy(other[place])
        elif isinstance(container, dict):
            container[draw(st.sampled_from(["unknown", "", "a\0b", "__class__"]))] = deepcopy(
                draw(values)
            )
        else:
            container.append(deepcopy(draw(values)))
    return document


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes that were cut off, overwritten, repeated, or put into another encoding."""
    place = draw(st.integers(0, max(len(content) - 1, 0)))
    some = draw(st.binary(max_size=8))
    change = draw(st.sampled_from(["cut", "overwrite", "insert", "repeat", "empty", "utf-16"]))
    if change == "cut":
        return content[:place]
    if change == "overwrite":
        return content[:place] + some + content[place + len(some) :]
    if change == "insert":
        return content[:place] + some + content[place:]
    if change == "repeat":
        return content + content[:place]
    if change == "empty":
        return b""
    return content.decode("latin-1").encode("utf-16")


def json_files(name: str, document: Any) -> st.SearchStrategy[dict[str, bytes]]:
    """A file of JSON: mostly JSON that was changed, at times bytes that were."""
    sound = as_json(document)
    contents = st.one_of(
        *[changed(document).map(as_json)] * 6,
        damaged(sound),
        plain.map(as_json),
        st.sampled_from([b"[" * 100_000, b"\xff\xfe", b"\xef\xbb\xbf" + sound, b"1" * 5000]),
    )
    return contents.map(lambda content: {name: content})
