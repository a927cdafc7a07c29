"""The names of results, BIDS derivatives, and the README beside them.

A file next to others describes all those whose names it begins, by BIDS's inheritance: one sidecar
serves the maps of all lesions of a scan.
"""

from __future__ import annotations

import re

from jaxsal.store.bids_dataset import DatasetKind, camel_case, ending_of, name_of

LESION_COLUMNS_SIDECAR = "seg-lesions_dseg.json"  # by BIDS's inheritance of all scans' tables
REGION_TABLES = ("regions.tsv", "regions.json", "region_summary.tsv", "region_summary.json")
TABLES = (
    *("lesions.tsv", "lesions.parquet", "lesions.json", "status.tsv", "status.json"),
    *(LESION_COLUMNS_SIDECAR, *REGION_TABLES),
)
_ENDINGS = re.compile(  # "label-lesion" alone: of earlier versions
    r"label-(L|lesion)_probseg\.(nii\.gz|json)"
    r"|(seg-lesions|label-lesion)_dseg\.(nii\.gz|json|tsv)"
    r"|label-lesion\d{4,}_desc-[A-Za-z0-9]+_saliency\.nii\.gz"
    r"|desc-[A-Za-z0-9]+_saliency\.json"
    r"|desc-(entropy|variance|candidates)_uncertainty\.(nii\.gz|json)",
    re.ASCII,
)
_README = """\
# Saliency of lesions

Lesions that a network found in the scans of a cohort, or that were given, and for each of them maps
of what in the images the network's answer rests on (Spagnolo et al., Scientific Reports 2026).
`jaxsal cohort run` wrote them.

- `lesions.tsv`, `lesions.parquet`: a row per lesion; `lesions.json` says what the columns are
- `status.tsv`: a row per scan, finished or failed, and why; `status.json` says what the columns are
- `regions.tsv`, `region_summary.tsv`: how much of the maps lies in which region of the brain, if
  scans have parcellations; the `.json` beside them says what the columns are
- `sub-*/**/anat/*_seg-lesions_dseg.nii.gz`: label map of a scan's lesions; the `.tsv` beside it is
  their table, `seg-lesions_dseg.json` says what its columns are
- `sub-*/**/anat/*_label-L_probseg.nii.gz`: probability of lesion
- `sub-*/**/anat/*_saliency.nii.gz`: maps, one per lesion, method and channel; the `.json` beside
  them says how they were computed
- `sub-*/**/anat/*_uncertainty.nii.gz`: how uncertain the network is, if the run asked for that
- `report.html`, `sub-*/figures/`: the same to look at, once `jaxsal report` was run
- `sub-*/figures/*_view.nii.gz`: the scans' images, cut and rounded, for `jaxsal view`
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
        *(
            "run.json",
            "report.html",
            "ratings.html",
            "figures",
            "*_saliency.nii.gz",
            "*_saliency.json",
        ),
        *("*_uncertainty.nii.gz", "*_uncertainty.json", *REGION_TABLES),
    ),
)


class Names:
    """Names of a scan's results, relative to the cohort's folder.

    Args:
        stem: what they all begin with; see `jaxsal.inputs.entries.Entry.stem`.

    Attributes:
        probability: lesion probability.
        probability_sidecar: its sidecar.
        labels: label map of the lesions.
        labels_sidecar: the sidecar of the label map and the table.
        table: table of the lesions, by label.
        pictures: a pattern that the names of all its pictures match, and of no other scan's.
        views: likewise, of its images for the interactive view.
    """

    def __init__(self, stem: str) -> None:
        self._stem = stem
        self.probability = self._name("label-L_probseg.nii.gz")
        self.probability_sidecar = self._name("label-L_probseg.json")
        self.labels = self._name("seg-lesions_dseg.nii.gz")
        self.labels_sidecar = self._name("seg-lesions_dseg.json")
        self.table = self._name("seg-lesions_dseg.tsv")
        self.pictures = self._picture("lesion*", "*")
        self.views = self._view("*")

    def map(self, label: int, file: str) -> str:
        """A lesion's map; `file` is a channel and method, such as "t1_smoothgrad-max"."""
        return self._name(f"label-lesion{label:04d}_desc-{camel_case(file)}_saliency.nii.gz")

    def sidecar(self, file: str) -> str:
        """The sidecar of all maps of a method and channel."""
        return self._name(f"desc-{camel_case(file)}_saliency.json")

    def uncertainty(self, kind: str) -> str:
        """A map of uncertainty: "entropy", "variance" or "candidates"."""
        return self._name(f"desc-{kind}_uncertainty.nii.gz")

    def uncertainty_sidecar(self, kind: str) -> str:
        """Its sidecar."""
        return self._name(f"desc-{kind}_uncertainty.json")

    def picture(self, label: int, method: str) -> str:
        """A lesion's picture."""
        return self._picture(f"lesion{label:04d}", camel_case(method))

    def view(self, channel: str) -> str:
        """The image of a channel for the interactive view."""
        return self._view(camel_case(channel))

    def _view(self, channel: str) -> str:
        return name_of(self._stem, f"desc-{channel}_view.nii.gz", "figures")

    def _picture(self, lesion: str, method: str) -> str:
        return name_of(self._stem, f"label-{lesion}_desc-{method}_saliency.png", "figures")

    def _name(self, ending: str) -> str:
        return name_of(self._stem, ending)


def is_result_of(stem: str, name: str) -> bool:
    """Whether `Names` of this stem hold such a name, pictures apart, in any version."""
    return _ENDINGS.fullmatch(ending_of(stem, name)) is not None
