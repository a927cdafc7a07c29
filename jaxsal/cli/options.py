"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.errors import InputError
from jaxsal.settings import DOMAIN_RULES, FIELDS, PRECISIONS, WINDOWS, PredictSettings

if TYPE_CHECKING:
    import jax

    from jaxsal.inputs.entries import Entry
    from jaxsal.inputs.scan import Scan
    from jaxsal.model import Model

_GIB = 2**30


def add_scan(parser: argparse.ArgumentParser) -> None:
    """The model, the scan's files and the output folder."""
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="a converted model")
    parser.add_argument(
        "--image",
        type=Path,
        action="append",
        required=True,
        metavar="NIFTI",
        help="the images, one per channel of the model and in its order (`jaxsal info`): "
        "--image FLAIR T1, or --image FLAIR --image T1",
    )
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="MASK",
        help="the brain: all outside of it is background; default: what is 0, or holds the "
        "border's constant value",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for the results"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the results of an earlier run in that folder",
    )


def add_cohort(parser: argparse.ArgumentParser) -> None:
    """The model and the cohort, see `cohort_entries`."""
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="a converted model")
    add_cohort_source(parser)


def add_cohort_source(parser: argparse.ArgumentParser) -> None:
    """The cohort, see `cohort_entries`."""
    parser.add_argument(
        "cohort",
        type=Path,
        metavar="COHORT",
        help="a table (.tsv, .csv) with the columns scan, one per channel, and "
        "perhaps reference, instances, mask, subject, session and run; or a BIDS folder",
    )
    parser.add_argument(
        "--select",
        type=_selection,
        action="append",
        default=[],
        metavar="CHANNEL=ENTITY:LABEL,...",
        help="of a BIDS folder: the images that are a channel's, or the reference, instances or "
        "mask (of the brain), by their BIDS entities, such as t1=suffix:T1w,desc:preproc; once per "
        "channel",
    )


def add_prediction(parser: argparse.ArgumentParser, *, domains: bool = True) -> None:
    """How lesions are found.

    Args:
        parser: gets the options.
        domains: whether they can be found by another rule than a threshold.
    """
    defaults = PredictSettings()
    group = parser.add_argument_group("finding lesions")
    group.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="lesion probability at and above which a voxel is lesion; default: the model's",
    )
    if domains:
        group.add_argument(
            "--domain",
            choices=DOMAIN_RULES,
            default=defaults.domain,
            help="which voxels are lesion: those whose probability reaches the threshold, or, of a "
            "network with several classes, those where lesion is the most probable one; default: "
            "%(default)s",
        )
    group.add_argument(
        "--target",
        type=output_number_or_name,
        metavar="K",
        help="output channel of the lesion class, by number or name (`jaxsal info`); default: the "
        "model's, else 1",
    )
    group.add_argument(
        "--minimum-volume",
        type=float,
        default=defaults.minimum_volume,
        metavar="MM3",
        help="lesions must be larger than this; default: %(default)s",
    )
    add_roi(group)
    group.add_argument(
        "--overlap",
        type=float,
        metavar="SHARE",
        help="share of a window that the next one covers again; default: the model's, else "
        f"{defaults.overlap}",
    )
    group.add_argument(
        "--windows",
        choices=WINDOWS,
        help="whose rules place and weight the windows; default: the model's, else "
        f"{defaults.windows}",
    )
    group.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        default=defaults.mirror,
        help="average logits over mirrored windows, which takes up to eight times as long; nnU-Net "
        "does so by default; default here: no",
    )


def add_roi(parser: argparse._ActionsContainer) -> None:
    """Size of the sliding window, see `window_size`."""
    parser.add_argument(
        "--roi",
        type=int,
        nargs="+",
        metavar="N",
        help="window size in voxels, one number or one per axis; default: the model's, else 96",
    )


def add_memory(parser: argparse._ActionsContainer) -> None:
    """Memory to stay within, in bytes."""
    parser.add_argument(
        "--memory",
        type=_gibibytes,
        metavar="GiB",
        help="memory to stay within; default: a share of what is free",
    )


def add_rematerialise(parser: argparse._ActionsContainer) -> None:
    """Time for memory."""
    parser.add_argument(
        "--rematerialise",
        action="store_true",
        help="for Swin UNETR: compute activations again instead of keeping them, which takes less "
        "memory per window and more time",
    )


def add_field(parser: argparse._ActionsContainer, purpose: str) -> None:
    """Sliding window or whole volume."""
    parser.add_argument(
        "--field", choices=FIELDS, default="sliding", help=f"{purpose}; default: %(default)s"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where and how precisely to compute."""
    group = parser.add_argument_group("computing")
    group.add_argument(
        "--device",
        metavar="NAME",
        help="cpu, gpu or tpu for all of this machine, or one of them as gpu:1; default: the best",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="arithmetic of the network; default: %(default)s",
    )


@contextmanager
def computing(
    options: argparse.Namespace, *, everywhere: bool = False
) -> Iterator[list[jax.Device]]:
    """Computes on the devices asked for, which it yields; compiled programs serve later runs.

    Args:
        options: those of `add_device`.
        everywhere: if none is asked for, compute on all of the best kind, not on one of them.
    """
    from jaxsal.compilation import keep_compiled_programs
    from jaxsal.devices import best_kind, computing_on, split_cpu

    split_cpu()
    keep_compiled_programs()
    name = options.device or (best_kind() if everywhere else None)
    with computing_on(name, options.precision) as devices:
        yield devices


def prediction_settings(
    options: argparse.Namespace, model: Model, field: str = "sliding"
) -> PredictSettings:
    """The settings given by the options of `add_prediction`, and else by the model."""
    from jaxsal.scan.defaults import for_model

    settings = PredictSettings(
        field=field,
        threshold=options.threshold,
        domain=getattr(options, "domain", PredictSettings.domain),
        minimum_volume=options.minimum_volume,
        mirror=options.mirror,
    )
    return for_model(
        settings,
        model,
        roi=window_size(options),
        overlap=options.overlap,
        target=options.target,
        windows=options.windows,
    )


def window_size(options: argparse.Namespace) -> Any:
    """The option of `add_roi`, a size per axis; None if it is not given.

    Whether there are three of them is checked where the window is made.
    """
    sizes = options.roi
    return sizes and tuple(sizes * 3 if len(sizes) == 1 else sizes)


def output_number_or_name(text: str) -> int | str:
    """Which of a network's outputs is meant."""
    return int(text) if text.lstrip("-").isdigit() else text


def scan_files(options: argparse.Namespace) -> Scan:
    """The scan given by the options."""
    from jaxsal.inputs.scan import Scan

    return Scan(
        images=tuple(options.image),
        reference=options.reference,
        instances=getattr(options, "instances", None),
        mask=options.mask,
    )


def cohort_entries(
    options: argparse.Namespace, channels: Sequence[str], named_by: str = "the model"
) -> list[Entry]:
    """The cohort given by the options of `add_cohort`; of what names the channels, for messages."""
    from jaxsal.inputs.sources import read_cohort

    roles = [role for role, _ in options.select]
    twice = {role for role in roles if roles.count(role) > 1}
    if twice:
        raise InputError(f"--select {min(twice)}=... is given twice: put all its entities in one")
    return read_cohort(options.cohort, channels, dict(options.select), named_by)


def model_entries(options: argparse.Namespace, model: Model) -> list[Entry]:
    """The cohort given by the options of `add_cohort`; warns if its scans are of several kinds."""
    from jaxsal.inputs.mixture import warn_if_mixed

    entries = cohort_entries(options, model.channels)
    warn_if_mixed(entries, model.preprocessing)
    return entries


def channel_files(scan: Scan, channels: Sequence[str]) -> str:
    """Which file is taken for which channel."""
    pairs = zip(channels, scan.images, strict=False)
    return ", ".join(f"{channel}: {path.name}" for channel, path in pairs)


def _selection(text: str) -> tuple[str, dict[str, str]]:
    """A role and its images' entities."""
    role, _, listed = text.partition("=")
    pairs = [pair.partition(":") for pair in listed.split(",")]
    if not role or not all(name and colon for name, colon, _ in pairs):
        raise argparse.ArgumentTypeError(f"must be like t1=suffix:T1w,desc:preproc, got {text!r}")
    return role, {name: label for name, _, label in pairs}


def _gibibytes(text: str) -> int:
    """Bytes from a number of GiB."""
    try:
        return int(float(text) * _GIB)
    except (ValueError, OverflowError) as error:  # NaN, infinity
        raise argparse.ArgumentTypeError(f"must be a number of GiB, got {text!r}") from error
