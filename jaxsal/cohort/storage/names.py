"""The names of results: BIDS derivatives.

A file next to others describes all those whose names it begins, by BIDS's inheritance: one sidecar
serves the maps of all lesions of a scan.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from jaxsal.store.bids_dataset import camel_case, ending_of, name_of

COLUMNS_OF_SCANS = "seg-lesions_dseg.json"  # by BIDS's inheritance, what those of all tables mean
TABLES = (
    *("lesions.tsv", "lesions.parquet", "lesions.json", "status.tsv", "status.json"),
    COLUMNS_OF_SCANS,
)
_ENDINGS = re.compile(  # "label-lesion" alone: of earlier versions
    r"label-(L|lesion)_probseg\.(nii\.gz|json)"
    r"|(seg-lesions|label-lesion)_dseg\.(nii\.gz|json|tsv)"
    r"|label-lesion\d{4,}_desc-[A-Za-z0-9]+_saliency\.nii\.gz"
    r"|desc-[A-Za-z0-9]+_saliency\.json",
    re.ASCII,
)


@dataclass(frozen=True)
class Names:
    """Names of a scan's results, relative to the cohort's folder.

    Attributes:
        stem: what they all begin with; see `jaxsal.inputs.entries.Entry.stem`.
    """

    stem: str

    @property
    def probability(self) -> str:
        """Lesion probability."""
        return self._name("label-L_probseg.nii.gz")

    @property
    def probability_sidecar(self) -> str:
        """The sidecar of the lesion probability."""
        return self._name("label-L_probseg.json")

    @property
    def labels(self) -> str:
        """Label map of the lesions."""
        return self._name("seg-lesions_dseg.nii.gz")

    @property
    def labels_sidecar(self) -> str:
        """The sidecar of the label map and the table."""
        return self._name("seg-lesions_dseg.json")

    @property
    def table(self) -> str:
        """Table of the lesions, by label."""
        return self._name("seg-lesions_dseg.tsv")

    def map(self, label: int, file: str) -> str:
        """A lesion's map; `file` is a channel and method, such as "t1_smoothgrad-max"."""
        return self._name(f"label-lesion{label:04d}_desc-{camel_case(file)}_saliency.nii.gz")

    def sidecar(self, file: str) -> str:
        """The sidecar of all maps of a method and channel."""
        return self._name(f"desc-{camel_case(file)}_saliency.json")

    def picture(self, label: int, method: str) -> str:
        """A lesion's picture."""
        return self._picture(f"lesion{label:04d}", camel_case(method))

    @property
    def pictures(self) -> str:
        """A pattern that the names of all its pictures match, and of no other scan's."""
        return self._picture("lesion*", "*")

    def _picture(self, lesion: str, method: str) -> str:
        return name_of(self.stem, f"label-{lesion}_desc-{method}_saliency.png", "figures")

    def _name(self, ending: str) -> str:
        return name_of(self.stem, ending)


def is_result_of(stem: str, name: str) -> bool:
    """Whether `Names` of this stem hold such a name, pictures apart, in any version."""
    return _ENDINGS.fullmatch(ending_of(stem, name)) is not None
