"""Maps of lesions that are measured at once and not kept; what is measured is kept by lesion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.approximated import EXACT, warning
from jaxsal.errors import InputError
from jaxsal.experiments.choice import left_out, unfit
from jaxsal.experiments.each_lesion import KeptLesions
from jaxsal.lesions import instances_of
from jaxsal.saliency.methods.smoothgrad import Aggregate, SmoothGradSettings
from jaxsal.scan.explanations import to_explain
from jaxsal.scan.methods import in_effect
from jaxsal.scan.portions import maps_of
from jaxsal.scan.prediction import Prediction
from jaxsal.scan.provenance import without_memory
from jaxsal.settings import ExplainSettings, MethodSettings

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.inputs.entries import Entry
    from jaxsal.lesions import Instance
    from jaxsal.model import Model
    from jaxsal.saliency.maps import Crop
    from jaxsal.tables import Row


def map_of(
    study: Study,
    prediction: Prediction,
    omega: np.ndarray,
    saliency: MethodSettings,
    *,
    model: Model | None = None,
    image: np.ndarray | None = None,
) -> Crop:
    """The map of one domain.

    Args:
        study: whose field, and whose rules of predicting.
        prediction: the scan.
        omega: (X, Y, Z) bool, the domain, on its grid.
        saliency: which map.
        model: None: the study's.
        image: (X, Y, Z, C), normalised; None: the scan's.

    Raises:
        InputError: the network is not given all of the domain.
    """
    model = model or study.model
    scan = prediction.scan if image is None else replace(prediction.scan, image=image)
    labels = omega.astype(np.int32)
    instances = instances_of(labels, prediction.grid)
    for each in instances:
        if reason := unfit(each.box, prediction):
            raise InputError(f"there is no map of a domain: {reason}")
    own = replace(prediction, scan=scan, labels=labels, instances=instances)
    return _map(study, own, ExplainSettings(saliency, field=study.field, pictures=False), model)


def lesion_map(study: Study, prediction: Prediction, label: int, saliency: MethodSettings) -> Crop:
    """The map of a lesion among the others of its scan.

    Args:
        study: whose network, field and rules of predicting.
        prediction: the scan.
        label: of the lesion.
        saliency: which map.

    Raises:
        InputError: there is no such lesion, or the network is not given anything of it.
    """
    chosen = ExplainSettings(saliency, labels=(label,), field=study.field, pictures=False)
    return _map(study, prediction, chosen, study.model)


def _map(study: Study, prediction: Prediction, given: ExplainSettings, model: Model) -> Crop:
    """The only map that is asked for."""
    settings = in_effect(given, study.prediction, model)
    wanted = to_explain(prediction, settings)
    ((_, crop),) = maps_of(model, prediction, wanted, study.prediction, settings, None)
    return crop


def each_lesion(
    study: Study,
    name: str,
    settings: Mapping[str, Any],
    entry: Entry,
    prediction: Prediction,
    lesions: Sequence[Instance],
    compute: Callable[[Instance], list[Row]],
) -> list[Row]:
    """Rows of lesions of a scan, kept one after the other, so that an interrupted run goes on.

    A lesion of which the network is not given all has a row with a "note" instead.

    Args:
        study: the scans.
        name: of the experiment.
        settings: what the rows of a lesion depend on besides model, prediction and scan, so not
            which lesions are chosen; for JSON. How maps are computed need not be among it.
        entry: the scan.
        prediction: the scan with its lesions.
        lesions: which lesions.
        compute: makes the rows of a lesion, ready for JSON.
    """
    settings = {**settings, **saliency_identity(study)}
    kept = KeptLesions(study, name, settings, entry)
    rows: list[Row] = []
    for number, lesion in enumerate(lesions, start=1):
        if reason := unfit(lesion.box, prediction):
            rows.append({"note": left_out(entry, lesion, reason)})
            continue
        found = kept.rows(lesion)
        rows += kept.keep(lesion, compute(lesion)) if found is None else found
        study.monitor.detail(f"{entry.id}: {number}/{len(lesions)} lesions")
    return rows


def about_lesion(entry: Entry, lesion: Instance) -> Row:
    """The columns of a row that say of which lesion it is."""
    return {
        "scan": entry.id,
        "subject": entry.entities["subject"],
        "label": lesion.label,
        "voxels": lesion.voxels,
        "volume_mm3": lesion.volume_mm3,
    }


def saliency_identity(study: Study) -> dict[str, Any]:
    """What maps of a study depend on besides model, prediction and scan, ready for JSON."""
    return {"saliency": without_memory(study.saliency), "field": study.field}


def maximum(study: Study) -> SmoothGradSettings:
    """The study's maps by the signed maximum, with its tolerance, if it has one."""
    return replace(study.saliency, aggregate="max", standard_error=False)


def refuse_tolerance(study: Study) -> None:
    """Refuses a tolerance, where maps of so many noisy images each are compared.

    Raises:
        InputError: there is one.
    """
    if study.saliency.tolerance is not None:
        raise InputError(
            f"the tolerance {study.saliency.tolerance:g} does not go with this experiment: it "
            "compares maps of equal numbers of noisy images; leave it out"
        )


def exact(saliency: SmoothGradSettings, aggregate: Aggregate) -> SmoothGradSettings:
    """The settings with an aggregate that is not the maximum, which needs no approximation."""
    return replace(saliency, aggregate=aggregate, voxels_per_lesion=None, group_size=1)


def note_approximated(
    study: Study, rows: Sequence[Row], saliency: SmoothGradSettings | None = None
) -> None:
    """Counts the lesions of rows, and those whose maximum is approximated, which is said.

    Args:
        study: counts.
        rows: of lesions, some of the same one.
        saliency: how their maps are computed; None: by the study's maximum.
    """
    saliency = saliency or maximum(study)
    study.note(warning(saliency))
    voxels = {(row["scan"], row["label"]): row["voxels"] for row in rows}
    study.counted["all"] += len(voxels)
    hows = [saliency.approximation(count) for count in voxels.values()]
    study.counted["approximated"] += sum(how != EXACT for how in hows)
