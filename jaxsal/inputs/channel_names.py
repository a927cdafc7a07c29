"""Names of channels, and texts that may be named after them: files, other programs' channels."""

from __future__ import annotations

import re

# A word ends where letters meet digits, so that T1w and FLAIR2 hold "t1" and "flair".
_WORDS = re.compile(r"[23]d|[a-z]+|\d+|[^a-z\d]+")


def is_named_after(text: str, channel: str) -> bool:
    """Whether a text holds a channel's name as whole words: "patient12" does not hold "t1".

    Capital and small letters are not told apart.
    """
    words, wanted = (_WORDS.findall(each.lower()) for each in (text, channel))
    count = len(wanted)
    return any(words[i : i + count] == wanted for i in range(len(words) - count + 1))
