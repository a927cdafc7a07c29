"""Options of how a cohort is explained, which planning and running share."""

from __future__ import annotations

from jaxsal.cli import methods
from jaxsal.cli import options as shared
from jaxsal.cli.command import Given, Group, group
from jaxsal.settings import CohortSettings


def groups() -> tuple[Group, ...]:
    """The options."""
    return (
        *methods.of_methods(methods.SeveralMethods),
        group(CohortSettings, "what is kept"),
        *(shared.FINDING, shared.COMPUTING, shared.REMATERIALISE),
    )


def settings_of(given: Given) -> CohortSettings:
    """The settings given by the options.

    Raises:
        InputError: an option is out of range, or does not go with another one.
    """
    names = given.of(methods.SeveralMethods).method
    return given.of(CohortSettings, saliency=methods.settings(given, names))
