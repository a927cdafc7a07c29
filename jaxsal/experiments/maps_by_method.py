"""Maps of all lesions by any method, with the settings that it shares with the study's maps.

Experiments that compare methods share them: a folder of results per method.
"""

from __future__ import annotations

from dataclasses import MISSING
from typing import TYPE_CHECKING, Any

from jaxsal.errors import InputError
from jaxsal.registry import METHODS

if TYPE_CHECKING:
    from jaxsal.cohort.results import CohortResults
    from jaxsal.experiments.study import Study
    from jaxsal.settings import MethodSettings

_OWN = "smoothgrad"  # whose settings are the study's


def settings_of(study: Study, name: str, layer: str | None) -> MethodSettings:
    """A method's settings: as SmoothGrad's are given, where it has the same; else its defaults.

    Raises:
        InputError: the network has no such layer, or the method needs what no experiment offers.
    """
    method = METHODS[name]
    layer = None if layer is None else study.model.resolve_layer(layer)
    own: dict[str, Any] = {}
    for option in method.offered():
        if option.name == "layer":
            own["layer"] = layer
        elif option.name == "aggregate":
            own["aggregate"] = "max"
        elif hasattr(study.saliency, option.name):
            own[option.name] = getattr(study.saliency, option.name)
        elif option.default is MISSING:
            raise InputError(f"{name} needs {option.name}, which experiments do not offer")
    made: MethodSettings = method.make(**own)
    return made


def maps_by(study: Study, settings: MethodSettings) -> CohortResults:
    """The maps of all lesions by a method, with settings of `settings_of`.

    Raises:
        InputError: the study's folder has maps by this method with other settings.
    """
    if is_own(settings):
        return study.lesions()
    return study.run_method(f"lesions-{settings.method}", study.entries, settings)


def is_own(settings: MethodSettings) -> bool:
    """Whether a method is SmoothGrad, whose maps all experiments of a study share."""
    return settings.method == _OWN
