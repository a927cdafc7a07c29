"""All experiments by name: a module each, imported when the experiment is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsal.experiments.findings import Findings
    from jaxsal.experiments.study import Study

EXPERIMENTS: Mapping[str, str] = MappingProxyType(
    {
        "aggregation": "jaxsal.experiments.aggregation",
        "levels": "jaxsal.experiments.levels",
        "contributions": "jaxsal.experiments.contributions",
        "groups": "jaxsal.experiments.groups",
        "sanity": "jaxsal.experiments.sanity",
        "synthetic": "jaxsal.experiments.synthetic",
        "context": "jaxsal.experiments.context",
    }
)
"""Modules by the names of their experiments, and of the functions in them that ask for these."""


def experiment(name: str) -> Callable[[Study, Any], Findings]:
    """The experiment of this name: a function of a study and of settings of its own."""
    asked: Callable[[Study, Any], Findings] = getattr(import_module(EXPERIMENTS[name]), name)
    return asked
