"""All experiments by name; each is asked of a study, with settings of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from jaxsal.experiments.aggregation import aggregation
from jaxsal.experiments.context import context
from jaxsal.experiments.contributions import contributions
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.groups import groups
from jaxsal.experiments.levels import levels
from jaxsal.experiments.sanity import sanity
from jaxsal.experiments.study import Study
from jaxsal.experiments.synthetic import synthetic

EXPERIMENTS: Mapping[str, Callable[[Study, Any], Findings]] = MappingProxyType(
    {
        "aggregation": aggregation,
        "levels": levels,
        "contributions": contributions,
        "groups": groups,
        "sanity": sanity,
        "synthetic": synthetic,
        "context": context,
    }
)
