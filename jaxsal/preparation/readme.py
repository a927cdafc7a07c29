"""The README of a dataset of prepared scans, and its files that BIDS has no names for."""

from __future__ import annotations

from jaxsal.inputs.channel_names import usual_suffix
from jaxsal.preparation.names import suffixes_of
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
