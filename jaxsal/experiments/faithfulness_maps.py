"""The maps that `faithfulness` compares, of any methods of the registry.

Those of all lesions are recorded, as other experiments may use them. Where few lesions are asked
about, only SmoothGrad's are, and those of other methods are computed for these lesions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from jaxsal.errors import InputError
from jaxsal.experiments.direct import lesion_map
from jaxsal.experiments.faithfulness_ranking import BLIND
from jaxsal.experiments.maps_by_method import is_own, maps_by, settings_of
from jaxsal.registry import METHODS

if TYPE_CHECKING:
    from pathlib import Path

    from jaxsal.cohort.results import CohortResults, ScanResults
    from jaxsal.experiments.study import Study
    from jaxsal.inputs.entries import Entry
    from jaxsal.saliency.maps import Crop
    from jaxsal.scan.prediction import Prediction
    from jaxsal.settings import MethodSettings


class MethodMaps(Protocol):
    """The maps of one method."""

    @property
    def settings(self) -> MethodSettings:
        """How they are computed."""
        ...

    @property
    def records(self) -> dict[str, Callable[[Entry], Path]]:
        """Where it is recorded of a scan that they are done, by the method; empty if nowhere."""
        ...

    def map(self, entry: Entry, prediction: Prediction, label: int) -> Crop | None:
        """A lesion's map; None if there is none."""
        ...


@dataclass(frozen=True, eq=False)
class RecordedMaps:
    """Maps of all lesions of a cohort.

    Attributes:
        settings: how they were computed.
        results: the maps.
    """

    settings: MethodSettings
    results: CohortResults

    @cached_property
    def _scans(self) -> dict[str, ScanResults]:
        return {scan.record.stem: scan for scan in self.results.scans()}

    @property
    def records(self) -> dict[str, Callable[[Entry], Path]]:
        """As of `MethodMaps`."""
        return {self.settings.method: lambda entry: self.results.record_path(entry.stem)}

    def map(self, entry: Entry, prediction: Prediction, label: int) -> Crop | None:
        """As of `MethodMaps`."""
        scan = self._scans.get(entry.stem)
        if scan is None or not any(row["label"] == label for row in scan.rows):
            return None
        variant = METHODS[self.settings.method].variant(self.settings, "instance")
        return scan.map(label, self.results.methods[variant])


@dataclass(frozen=True, eq=False)
class ComputedMaps:
    """Maps that are computed when they are asked for, and not kept.

    Attributes:
        settings: how.
        study: of the scans.
    """

    settings: MethodSettings
    study: Study

    @property
    def records(self) -> dict[str, Callable[[Entry], Path]]:
        """As of `MethodMaps`."""
        return {}

    def map(self, entry: Entry, prediction: Prediction, label: int) -> Crop | None:
        """As of `MethodMaps`."""
        self.study.monitor.detail(f"{entry.id}: lesion {label}, {self.settings.method}")
        return lesion_map(self.study, prediction, label, self.settings)


def checked_methods(names: Sequence[str], layer: str | None) -> tuple[str, ...]:
    """The methods to compare; by default SmoothGrad, and Grad-CAM++ where there is a layer.

    Raises:
        InputError: a name is no method's or given twice, a method needs a layer and none is given,
            or none takes the one that is.
    """
    chosen = tuple(names) or ("smoothgrad", *(("gradcam++",) if layer else ()))
    repeated = {name for name in chosen if chosen.count(name) > 1}
    if repeated:
        raise InputError(f"--methods names {', '.join(sorted(repeated))} more than once")
    taking = [name for name in chosen if _takes_layer(name)]
    if layer is not None and not taking:
        raise InputError(f"--layer has no effect: of {', '.join(chosen)} none has a layer")
    if layer is None and taking:
        raise InputError(
            f"--methods {taking[0]} needs --layer NAME: `jaxsal info` lists the layers"
        )
    taken = [name for name in chosen if name in BLIND]
    if taken:
        raise InputError(f"{taken[0]} is a ranking that is compared always; leave it out")
    return chosen


def _takes_layer(name: str) -> bool:
    if name in BLIND:
        return False
    return any(option.name == "layer" for option in METHODS[name].offered())


def maps_of_methods(
    study: Study, names: Sequence[str], layer: str | None, *, few: bool
) -> list[MethodMaps]:
    """The maps of each method.

    Args:
        study: the scans.
        names: the methods.
        layer: of heat maps.
        few: whether not all lesions are asked about.
    """
    found: list[MethodMaps] = []
    for name in names:
        settings = settings_of(study, name, layer)
        if few and not is_own(settings):
            found.append(ComputedMaps(settings, study))
        else:
            found.append(RecordedMaps(settings, maps_by(study, settings)))
    return found


def favoured(maps: Sequence[MethodMaps], infills: Sequence[str]) -> Iterator[str]:
    """Sentences on maps that compare with the image infilled as it is where they are judged."""
    for each in maps:
        for role in ("baseline", "infill"):
            own = getattr(each.settings, role, None)
            if own in infills:
                name = each.settings.method
                yield (
                    f"maps of {name} are of what the image adds to one infilled by {own} "
                    f"(its own {role}), so that they are favoured where voxels are infilled by "
                    f"{own}, too"
                )
