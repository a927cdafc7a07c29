"""How a cohort's results were made, as a page shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jaxsal.wording import duration


def run_facts(
    run: Mapping[str, Any], ran: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The run, section by section.

    Args:
        run: the content of ``run.json``.
        ran: device, software and seconds of each finished scan.
    """
    identity = run["identity"]
    model, settings = dict(identity["model"]), dict(identity["settings"])
    architecture, saliency = model.pop("architecture"), settings.pop("saliency")
    preprocessing = model.pop("preprocessing", None) or {}
    now = datetime.now().astimezone()
    return {
        "Run": {
            "report written": f"{now:%Y-%m-%d %H:%M}",
            **_devices(run, ran),
            "computing": duration(sum(scan["seconds"] for scan in ran)),
            **{name: _counted(ran, name) or run[name] for name in ("jaxsal", "jax", "python")},
            "libraries": run["libraries"],
        },
        "Model": _readable({**model, "precision": identity["precision"]}),
        "Architecture": _readable(architecture),
        **({"Preprocessing": _readable(preprocessing)} if preprocessing else {}),
        "Prediction": _readable(identity["prediction"]),
        "Saliency": _readable(settings),
        **{f"Saliency: {name}": _readable(method) for name, method in saliency.items()},
    }


def _devices(run: Mapping[str, Any], ran: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The devices; those of a cluster are known with the first scan."""
    devices = _counted(ran, "device") or run.get("device")
    return {"devices": devices} if devices else {}


def _counted(ran: Sequence[Mapping[str, Any]], name: str) -> str:
    """What scans were computed with, and how many scans if it differs."""
    counts = Counter(str(scan[name]) for scan in ran if name in scan)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(
        f"{what} ({scans} of {counts.total()} scans)" for what, scans in counts.most_common()
    )


def _readable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that are not in use."""
    return {
        name.replace("_", " "): f"{value:g}" if isinstance(value, float) else value
        for name, value in settings.items()
        if value is not None and value != {}
    }
