"""What a scan is explained with, as it takes effect, and the lesions that are found."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from jaxsal.errors import InputError
from jaxsal.inputs.entries import Scan
from jaxsal.inputs.images import load_scan, warn_of
from jaxsal.model import Model
from jaxsal.progress import OnStage
from jaxsal.scan.explanations import to_explain
from jaxsal.scan.members import require_members
from jaxsal.scan.methods import appearance, in_effect
from jaxsal.scan.notes import notes_of
from jaxsal.scan.portions import Portions
from jaxsal.scan.prediction import completed
from jaxsal.scan.provenance import RunRecord, identity_of, without_memory
from jaxsal.scan.uncertain_lesions import find_uncertain_lesions
from jaxsal.settings import ExplainSettings, PredictSettings


class Call:
    """What a scan is explained with, as it takes effect.

    Attributes:
        finding: how lesions are found.
        settings: which of them are explained, and how.

    Raises:
        InputError: the settings do not fit the model.
    """

    def __init__(
        self, model: Model, scan: Scan, finding: PredictSettings, settings: ExplainSettings
    ) -> None:
        self._model, self._scan = model, scan
        self.finding = completed(finding, model)
        self.settings = in_effect(settings, self.finding, model)
        self._shown = appearance(self.settings, model.channels)
        require_members(model, self.finding, settings.uncertainty)

    def record(self) -> tuple[RunRecord, dict[str, Any]]:
        """The run's record, and all that its results depend on."""
        run = RunRecord("explain", self._model, self._scan.roles(self._model.channels))
        asked = {
            **asdict(self.settings),
            "saliency": without_memory(self.settings.saliency),
            "method": self.settings.method,
        }
        identity = identity_of(self._model, self.finding, asked)
        return run, {**identity, "inputs": run.checksums()}

    def find(self, on_stage: OnStage, *, uncertain: bool = True) -> Portions:
        """The scan's lesions, and what is to be computed of them.

        Args:
            on_stage: called with what is being done.
            uncertain: find out how uncertain they are, too, if that is asked for.
        """
        kinds = self.settings.kinds
        if kinds is not None and self._scan.reference is None:
            raise InputError(
                f"lesions of kind {', '.join(kinds)} are known only with a mask of the true "
                "lesions; give one (--reference), or leave out the kind"
            )
        on_stage("finding lesions")
        loaded = load_scan(self._scan, self._model.channels, self._model.preprocessing)
        asked = self.settings.uncertainty if uncertain else None
        prediction = find_uncertain_lesions(self._model, loaded, self.finding, asked, on_stage)
        wanted = to_explain(prediction, self.settings)
        warn_of((*notes_of(self._model, prediction), *wanted.notes))
        return Portions(self._model, prediction, wanted, self.finding, self.settings, self._shown)
