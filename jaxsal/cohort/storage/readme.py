"""The README of a cohort's results, and the names that BIDS does not have."""

from __future__ import annotations

from jaxsal.store.bids_dataset import DatasetKind

_README = """\
# Saliency of lesions

Lesions that a network found in the scans of a cohort, or that were given, and for each of them maps
of what in the images the network's answer rests on (Spagnolo et al., Scientific Reports 2026).
`jaxsal cohort run` wrote them.

- `lesions.tsv`, `lesions.parquet`: a row per lesion; `lesions.json` says what the columns are
- `status.tsv`: a row per scan, finished or failed, and why; `status.json` says what the columns are
- `sub-*/**/anat/*_seg-lesions_dseg.nii.gz`: label map of a scan's lesions; the `.tsv` beside it is
  their table, `seg-lesions_dseg.json` says what its columns are
- `sub-*/**/anat/*_label-L_probseg.nii.gz`: probability of lesion
- `sub-*/**/anat/*_saliency.nii.gz`: maps, one per lesion, method and channel; the `.json` beside
  them says how they were computed
- `report.html`, `sub-*/figures/`: the same to look at, once `jaxsal report` was run
- `run.json`: the model and all settings that the results depend on

BIDS has no names for maps and for tables over all scans; `.bidsignore` lists these. Before you
share the dataset, see to its name, authors and license in `dataset_description.json`, and write
here whom the scans are of. Later runs leave what you write.
"""

RESULTS = DatasetKind(
    name="Saliency of lesions",
    command="cohort run",
    readme=_README,
    ignored=(
        *("lesions.tsv", "lesions.json", "lesions.parquet", "status.tsv", "status.json"),
        *("run.json", "report.html", "figures", "*_saliency.nii.gz", "*_saliency.json"),
    ),
)
