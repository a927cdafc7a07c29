"""What prepared scans are called: names of BIDS derivatives, by which they can be found again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from jaxsal.inputs.channel_names import usual_suffix
from jaxsal.store.bids_dataset import camel_case, ending_of, name_of

_MASKS = MappingProxyType(
    {
        "reference": "label-lesion_mask",
        "instances": "seg-lesions_dseg",
        "mask": "label-brain_mask",
    }
)
_PICTURE = "desc-preproc_check.png"
_ENDINGS = re.compile(  # "label-lesion_dseg": of earlier versions
    r"desc-[A-Za-z0-9]+_[A-Za-z0-9]+\.(nii\.gz|json)"
    r"|from-[A-Za-z0-9]+_to-[A-Za-z0-9]+_mode-image_xfm\.txt"
    rf"|({'|'.join([*_MASKS.values(), 'label-lesion_dseg'])})\.(nii\.gz|json)"
)


@dataclass(frozen=True)
class PreparedNames:
    """Names of a prepared scan's files, relative to the folder of all.

    Attributes:
        stem: what they all begin with; see `jaxsal.inputs.entries.Entry.stem`.
        suffixes: BIDS's by channel; see `suffixes_of`.
    """

    stem: str
    suffixes: Mapping[str, str]

    def image(self, channel: str, end: str = "nii.gz") -> str:
        """A channel's image; ending in "json" the sidecar that says how it came about."""
        suffix = self.suffixes[channel]
        alike = list(self.suffixes.values()).count(suffix) > 1
        name = camel_case(f"{channel} preproc") if alike else "preproc"
        return name_of(self.stem, f"desc-{name}_{suffix}.{end}")

    def transform(self, channel: str, fixed: str) -> str:
        """The transform by which the image was resampled, for ITK."""
        ends = camel_case(channel), camel_case(fixed)
        return name_of(self.stem, "from-{}_to-{}_mode-image_xfm.txt".format(*ends))

    def mask(self, role: str, end: str = "nii.gz") -> str:
        """The reference, the instances or the mask of the brain; in "json" what describes it."""
        return name_of(self.stem, f"{_MASKS[role]}.{end}")

    @property
    def picture(self) -> str:
        """The picture to check the scan by."""
        return name_of(self.stem, _PICTURE, "figures")


def is_prepared_of(stem: str, name: str) -> bool:
    """Whether `PreparedNames` of this stem hold such a name, of whatever channels and version."""
    if ending_of(stem, name, "figures") == _PICTURE:
        return True
    return _ENDINGS.fullmatch(ending_of(stem, name)) is not None


def suffixes_of(channels: tuple[str, ...]) -> dict[str, str]:
    """BIDS's suffix of each channel; of one that BIDS does not know, its own name."""
    return {channel: usual_suffix(channel) or camel_case(channel) for channel in channels}
