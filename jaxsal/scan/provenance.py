"""How results came about: software, device, model, inputs and time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal import __version__
from jaxsal.current_device import current_device
from jaxsal.model import Model
from jaxsal.store.files import file_checksum
from jaxsal.versions import software

if TYPE_CHECKING:
    from jaxsal.inputs.background import Background
    from jaxsal.settings import MethodSettings, PredictSettings


class RunRecord:
    """How the results of one command came about.

    Args:
        command: what was run.
        model: with what.
        inputs: on which files, by what each is taken for.
    """

    def __init__(self, command: str, model: Model, inputs: Mapping[str, Path]) -> None:
        self._clock = time.perf_counter()
        self._command, self._model = command, model
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._inputs: dict[str, dict[str, Any]] = {
            role: {"file": str(path), "sha256": file_checksum(path)}
            for role, path in inputs.items()
            if path.is_file()
        }

    def saw(self, backgrounds: Sequence[Background]) -> None:
        """Adds what the background of each channel's image is."""
        for channel, background in zip(self._model.channels, backgrounds, strict=True):
            self._inputs[channel]["background"] = asdict(background)

    def summary(self) -> dict[str, Any]:
        """The facts that a reader of the page wants first."""
        return {
            **software(),
            "device": current_device().device_kind,
            "precision": self._model.precision,
            "started": self._started,
            "seconds": round(time.perf_counter() - self._clock, 1),
        }

    def files(self) -> dict[str, str]:
        """The input files, by what each is taken for."""
        return {role: entry["file"] for role, entry in self._inputs.items()}

    def checksums(self) -> dict[str, str]:
        """The input files' content, by what each is taken for: results depend on it alone."""
        return {role: entry["sha256"] for role, entry in self._inputs.items()}

    def finished(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The whole record, ready for JSON."""
        return {
            "command": self._command,
            **self.summary(),
            "settings": settings,
            "model": model_facts(self._model),
            "inputs": self._inputs,
        }


def identity_of(
    model: Model, finding: PredictSettings, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """All that results depend on besides the input files, ready for JSON.

    Args:
        model: the network.
        finding: how lesions are found, as it takes effect.
        settings: of all else, ready for JSON.
    """
    return {
        "jaxsal": __version__,
        "precision": model.precision,
        "model": model_facts(model),
        "prediction": asdict(finding),
        "settings": dict(settings),
    }


def without_memory(saliency: MethodSettings) -> dict[str, Any]:
    """A method's settings, ready for JSON, but for its memory: maps depend on it by rounding."""
    return {name: value for name, value in asdict(saliency).items() if name != "memory"}


def model_facts(model: Model) -> dict[str, Any]:
    """What distinguishes a model from others, ready for JSON."""
    return {
        "network": model.config.kind,
        "architecture": model.config.to_arguments(),
        "channels": list(model.channels),
        "threshold": model.threshold,
        "rematerialised": model.rematerialise,
        "parameters_sha256": _parameters_checksum(model),
        "mirror_axes": list(model.mirror_axes),
        "preprocessing": model.preprocessing and model.preprocessing.to_json(),
        "outputs": model.outputs and model.outputs.to_json(),
        "source": dict(model.source),
    }


def _parameters_checksum(model: Model) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.parameters.items()):
        digest.update(name.encode())
        digest.update(np.asarray(value).tobytes())
    return digest.hexdigest()
