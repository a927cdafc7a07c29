"""All experiments by name; each is asked of a study, with settings of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from jaxsal.experiments import aggregation, contributions, groups, levels
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.study import Study

EXPERIMENTS: Mapping[str, Callable[[Study, Any], Findings]] = MappingProxyType(
    {
        "aggregation": aggregation.run,
        "levels": levels.run,
        "contributions": contributions.run,
        "groups": groups.run,
    }
)
