"""What describes the dataset of prepared scans: its README, and what the columns of tables mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jaxsal.errors import InputError
from jaxsal.inputs.channel_names import usual_suffix
from jaxsal.inputs.entries import ENTITIES
from jaxsal.preparation.names import suffixes_of
from jaxsal.preparation.settings import PreparationSettings
from jaxsal.store.bids_dataset import DatasetKind

_README = """\
# Scans prepared for segmentation

The images of each scan on one grid and without bias fields, for a network to find lesions in.
`jaxsal preprocess` wrote them.

- `cohort.tsv`: a row per scan, with its images; other commands of jaxsal take it as their cohort.
  `cohort.json` says what the columns are
- `failed.tsv`: scans that could not be prepared, and why, if there are any
- `sub-*/**/anat/*_desc-preproc_*.nii.gz`: the images; the `.json` beside each says how it came
  about
- `sub-*/**/anat/*_label-lesion_mask.nii.gz`, `*_seg-lesions_dseg.nii.gz`,
  `*_label-brain_mask.nii.gz`: masks and label maps, carried along, where they were given
- `sub-*/**/anat/*_xfm.txt`: the transform by which an image was resampled, for ITK
- `sub-*/figures/`: pictures to check each scan by
- `run.json`: the settings

BIDS has no names for some of these; `.bidsignore` lists them. Before you share the dataset, see to
its name, authors and license in `dataset_description.json`, and write here whom the scans are of.
Later runs leave what you write.
"""

_ALWAYS = {
    "scan": "the scan's id in the cohort that was prepared",
    "reference": "reference mask on the grid of the images, relative to this table",
    "instances": "label map on the grid of the images, relative to this table",
    "mask": "mask of the brain on the grid of the images, relative to this table",
    "brain_ml": "volume of the mask of the brain, outside of which images are 0, in ml",
    "picture": "a picture to check the scan by, relative to this table",
    "seconds": "seconds that preparing took",
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
    return {column: {"Description": meanings[column]} for column in columns if column in meanings}


def check_row(row: Mapping[str, Any]) -> None:
    """Raises InputError unless a row, read from a record, holds texts and numbers only."""
    for name, value in row.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            raise InputError(f"{name} of a row is {value!r}")


def prepared(channels: tuple[str, ...]) -> DatasetKind:
    """The dataset of prepared scans with images of these channels."""
    others = [name for channel, name in suffixes_of(channels).items() if not usual_suffix(channel)]
    return DatasetKind(
        name="Scans prepared for segmentation",
        command="preprocess",
        readme=_README,
        ignored=(
            *("cohort.tsv", "cohort.json", "failed.tsv", "failed.json", "run.json", "figures"),
            "*_xfm.txt",
            *(f"*_{name}.{end}" for name in others for end in ("nii.gz", "json")),
        ),
    )
