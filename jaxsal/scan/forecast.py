"""What explaining a scan will take, from its first batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from jaxsal.inputs.scan import Scan
from jaxsal.model import Model
from jaxsal.progress import OnProgress
from jaxsal.saliency.maps import Crop
from jaxsal.scan.amount import Amount, Duration
from jaxsal.scan.defaults import completed
from jaxsal.scan.following import Following, Known, amount_of, compute_portions, kept_rows
from jaxsal.scan.methods import appearance, in_effect
from jaxsal.scan.outcome import outcomes
from jaxsal.scan.portions import find_portions
from jaxsal.scan.predict import OnStage
from jaxsal.scan.provenance import RunRecord
from jaxsal.scan.unfinished import Unfinished, identity_of
from jaxsal.settings import ExplainSettings, PredictSettings
from jaxsal.store.output_folder import OutputFolder


def forecast(
    model: Model,
    scan: Scan,
    out: Path,
    prediction_settings: PredictSettings,
    settings: ExplainSettings,
    *,
    overwrite: bool = False,
    on_stage: OnStage = lambda stage: None,
    on_progress: OnProgress | None = None,
) -> tuple[Amount, Duration | None]:
    """What `explain` with the same arguments will take; writes nothing.

    Lesions are found, and the first batches of gradients computed, for some seconds.

    Returns:
        What is to be computed, and how long that takes; None if there is nothing.

    Raises:
        InputError: as `explain` does.
    """
    prediction_settings = completed(prediction_settings, model)
    settings = in_effect(settings, prediction_settings, model)
    shown = appearance(settings, model.channels)
    OutputFolder(out, overwrite=overwrite).check()
    run = RunRecord("explain", model, scan.roles(model.channels))
    unfinished = Unfinished(out)
    identity = identity_of(run, prediction_settings, settings)
    resumed = unfinished.is_of(identity, overwrite=overwrite)
    portions = find_portions(model, scan, prediction_settings, settings, on_stage)
    resumed = resumed and unfinished.is_of_lesions(portions.wanted.domains)
    kept = kept_rows(outcomes(portions, shown), unfinished) if resumed else {}
    amount = amount_of(portions, kept)
    on_stage("measuring")
    following = Following(on_progress, lambda note: None, once=True)
    with suppress(Known):
        compute_portions(portions, kept, amount, following, shown, _computed)
    return amount, following.duration


def _computed(number: int, maps: Iterator[tuple[int, Crop]]) -> None:
    for _ in maps:
        pass
