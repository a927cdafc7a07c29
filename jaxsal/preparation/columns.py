"""What the columns of the table of prepared scans mean, for BIDS's sidecar of the table."""

from __future__ import annotations

from collections.abc import Iterable

from jaxsal.inputs.entries import ENTITIES
from jaxsal.preparation.settings import PreparationSettings

_ALWAYS = {
    "scan": "the scan's id in the cohort that was prepared",
    "reference": "reference mask on the fixed image's grid, relative to this table",
    "instances": "label map on the fixed image's grid, relative to this table",
    "mask": "mask of the brain on the fixed image's grid, relative to this table",
    "picture": "a picture to check the scan by, relative to this table",
    "seconds": "that preparing the scan took",
    "note": "what is to be known of the scan's preparation; empty if nothing is",
}
_OF_A_CHANNEL = {
    "information_before": "mutual information of {channel} and {fixed} by the headers alone, where "
    "{fixed} is not zero, in nats",
    "information_after": "likewise, once {channel} is registered: more than before",
    "moved_mm": "how far the registration of {channel} moves the corners of the grid at most, in "
    "mm",
    "bias_low": "1st percentile of the field that {channel} was divided by, where it is not zero",
    "bias_high": "99th percentile of that field",
}


FAILED = {
    "scan": {"Description": "the scan's id in the cohort that was to be prepared"},
    "reason": {"Description": "why it could not be prepared"},
}
"""The content of ``failed.json``: what the columns of ``failed.tsv`` mean."""


def described(columns: Iterable[str], settings: PreparationSettings) -> dict[str, dict[str, str]]:
    """The content of ``cohort.json``.

    Args:
        columns: of ``cohort.tsv``.
        settings: how the scans were prepared.
    """
    meanings = _ALWAYS | {
        name: f"the scan's {name}, as BIDS's entity {short}-" for name, short in ENTITIES.items()
    }
    for channel in settings.channels:
        meanings[channel] = f"the prepared image of {channel}, relative to this table"
        for figure, text in _OF_A_CHANNEL.items():
            meaning = text.format(channel=channel, fixed=settings.fixed)
            meanings[f"{channel}_{figure}"] = meaning
    return {column: {"Description": meanings[column]} for column in columns}
