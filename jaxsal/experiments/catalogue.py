"""All experiments by name: a module and a line each. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsal.experiments.findings import Findings
    from jaxsal.experiments.study import Study

EXPERIMENTS: Mapping[str, str] = MappingProxyType(
    {
        "aggregation": "A large and a small lesion's map by the maximum and by the mean (Fig. 7)",
        "levels": "The map of all segmented voxels beside those of single lesions (Figs. 3, 10)",
        "contributions": "Positive and negative values of each sequence, and where they lie "
        "(Figs. 8, 9)",
        "groups": "Peaks of the maps of found, false and missed lesions and of none (Fig. 11)",
        "sanity": "Maps of healthy white matter, and of a lesion's middle voxel alone "
        "(Figs. 12, 13)",
        "synthetic": "Lesions copied into healthy white matter, and out of the head (Fig. 14)",
        "ablation": "How peaks depend on a lesion's volume, by the maximum, the mean and the sum",
        "adjacency": "How much of a neighbour shows in a lesion's map, by the gap between them",
        "stability": "How much maps depend on the noise, by the number of noisy images",
        "randomisation": "Whether maps change when the network's layers are randomised",
        "faithfulness": "Whether logits fall when what a map marks is hidden, and rise when it is "
        "shown, beside rankings that know nothing of the network",
        "context": "How much of a lesion's surroundings the network needs to find it (Fig. 15)",
        "detector": "Whether maps tell false lesions from true ones, and missed ones from none",
        "patch-size": "Whether networks trained on larger patches need more of the surroundings",
        "uncertainty": "Whether the network is uncertain of what it missed, and of false alarms",
    }
)
"""What each experiment shows, by its name; its module has it as ``EXPERIMENT``."""


@dataclass(frozen=True)
class NoSettings:
    """An experiment has none of its own."""


@dataclass(frozen=True)
class Experiment:
    """A question that is asked of a study.

    Attributes:
        ask: finds the answer, by settings of the type below.
        settings: their type; its fields are the command's options, see `jaxsal.options`.
        uses_saliency: whether maps are computed.
        uses_maps: whether those of the cohort's own lesions are among them, which an earlier run
            may have computed.
        takes_tolerance: whether maps may be of fewer noisy images than others where these are
            enough; not where maps of equal numbers are compared.
    """

    ask: Callable[[Study, Any], Findings]
    settings: type = NoSettings
    uses_saliency: bool = True
    uses_maps: bool = True
    takes_tolerance: bool = True


def experiment(name: str) -> Experiment:
    """The experiment of this name."""
    found: Experiment = import_module(f"jaxsal.experiments.{name.replace('-', '_')}").EXPERIMENT
    return found
