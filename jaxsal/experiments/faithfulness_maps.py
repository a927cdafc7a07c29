"""The maps that `faithfulness` compares: of any methods of the registry, recorded and resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxsal.errors import InputError
from jaxsal.experiments.faithfulness_ranking import BLIND
from jaxsal.experiments.maps_by_method import maps_by, settings_of
from jaxsal.registry import METHODS

if TYPE_CHECKING:
    from jaxsal.cohort.results import CohortResults, ScanResults
    from jaxsal.experiments.study import Study
    from jaxsal.saliency.maps import Crop
    from jaxsal.settings import MethodSettings


@dataclass(frozen=True, eq=False)
class MethodMaps:
    """The maps of one method.

    Attributes:
        method: its name.
        settings: how they were computed.
        scans: the scans' results, by stem.
        results: those of all scans.
    """

    method: str
    settings: MethodSettings
    scans: dict[str, ScanResults]
    results: CohortResults

    def map(self, stem: str, label: int) -> Crop | None:
        """A lesion's map; None if there is none."""
        scan = self.scans.get(stem)
        if scan is None or not any(row["label"] == label for row in scan.rows):
            return None
        variant = METHODS[self.method].variant(self.settings, "instance")
        return scan.map(label, self.results.methods[variant])


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


def maps_of_methods(study: Study, names: Sequence[str], layer: str | None) -> list[MethodMaps]:
    """The maps of all lesions by each method; SmoothGrad's are those of the other experiments."""
    found = []
    for name in names:
        settings = settings_of(study, name, layer)
        results = maps_by(study, settings)
        scans = {scan.record.stem: scan for scan in results.scans()}
        found.append(MethodMaps(name, settings, scans, results))
    return found


def favoured(maps: Sequence[MethodMaps], infills: Sequence[str]) -> Iterator[str]:
    """Sentences on maps that compare with the image infilled as it is where they are judged."""
    for each in maps:
        for role in ("baseline", "infill"):
            own = getattr(each.settings, role, None)
            if own in infills:
                yield (
                    f"maps of {each.method} are of what the image adds to one infilled by {own} "
                    f"(its own {role}), so that they are favoured where voxels are infilled by "
                    f"{own}, too"
                )
