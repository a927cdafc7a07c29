"""Options of how a cohort is explained, which planning and running share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from jaxsal.cli import options as shared
from jaxsal.cli import saliency_options
from jaxsal.settings import OUTPUTS, CohortSettings

if TYPE_CHECKING:
    from jaxsal.model import Model


def add(parser: argparse.ArgumentParser) -> None:
    """Methods, what is kept, how lesions are found, and on which device."""
    defaults = CohortSettings()
    saliency_options.add_several(parser)
    group = parser.add_argument_group("what is kept")
    group.add_argument(
        "--output",
        choices=OUTPUTS,
        default=defaults.output,
        help="statistics of each map only, also the maps where they can be non-zero, or the maps "
        "on the images' grids; default: %(default)s",
    )
    group.add_argument(
        "--portion",
        type=int,
        default=defaults.portion,
        metavar="VOXELS",
        help="lesions are computed and recorded together until they have this many voxels: what an "
        "interrupted run does again at most; default: %(default)s",
    )
    shared.add_prediction(parser)
    shared.add_device(parser)
    shared.add_memory(parser)
    shared.add_rematerialise(parser)


def settings(options: argparse.Namespace) -> CohortSettings:
    """The settings given by the options.

    Raises:
        InputError: an option is out of range, or does not go with another one.
    """
    return CohortSettings(
        saliency_options.several_settings(options),
        field=options.field,
        output=options.output,
        portion=options.portion,
    )


def load(options: argparse.Namespace) -> Model:
    """The model, as the options ask for it."""
    from jaxsal.checkpoints import load_model

    model = load_model(options.model, options.precision)
    return model.with_rematerialisation() if options.rematerialise else model
