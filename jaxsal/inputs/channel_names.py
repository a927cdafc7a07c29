"""Channels and the texts that may be named after them: files, other programs' channels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

# A word ends where letters meet digits, so that T1w and FLAIR2 hold "t1" and "flair".
_WORDS = re.compile(r"[23]d|[a-z]+|\d+|[^a-z\d]+")
_SUFFIXES = MappingProxyType(
    {
        **{"flair": "FLAIR", "mprage": "T1w", "t1": "T1w"},
        **{"t2star": "T2starw", "t2": "T2w", "pd": "PDw"},
    }
)


def is_named_after(text: str, channel: str) -> bool:
    """Whether a text holds a channel's name as whole words: "patient12" does not hold "t1".

    Upper and lower case are the same.
    """
    words, wanted = (_WORDS.findall(each.lower()) for each in (text, channel))
    count = len(wanted)
    return any(words[i : i + count] == wanted for i in range(len(words) - count + 1))


def named_after_others(
    images: Sequence[Path], channels: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yields each channel whose image is named after another channel, with a warning."""
    for channel, path in zip(channels, images, strict=True):
        others = [other for other in channels if is_named_after(path.name, other)]
        if others and channel not in others:
            yield (
                channel,
                f"{path.name} is taken for the channel {channel}, but is named after {others[0]}; "
                f"give the images in the model's order: {', '.join(channels)}",
            )


def usual_suffix(channel: str) -> str:
    """BIDS's suffix for the images of a channel, by the beginning of its name; "" if unknown."""
    name = channel.lower()
    return next((suffix for begin, suffix in _SUFFIXES.items() if name.startswith(begin)), "")
