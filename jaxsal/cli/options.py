"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxsal.cli.command import Given, group
from jaxsal.errors import InputError
from jaxsal.options import option, options_of
from jaxsal.settings import PRECISIONS, PredictSettings, UncertaintySettings

if TYPE_CHECKING:
    import jax

    from jaxsal.inputs.entries import Entry, Scan
    from jaxsal.model import Model

REFERENCE = "true lesions: sets the kinds TP, FP and FN"
FINDING = group(PredictSettings, "finding lesions", without=("field",))
FINDING_WITH_FIELD = group(PredictSettings, "finding lesions")


def overwrite_option(included: str = "") -> Any:
    """One meaning in all commands; see `jaxsal.store`."""
    what = f"all that earlier runs wrote there{included and f', {included} included'}"
    return option(False, help=f"begin anew: replace {what}; other files stay")


def processes_option(what: str) -> Any:
    """How many scans are worked on at once."""
    return option(None, "N", help=f"how many scans are {what} at once", shown="one per CPU core")


def _selection(text: str) -> tuple[str, dict[str, str]]:
    """A role and its images' entities."""
    role, _, listed = text.partition("=")
    pairs = [pair.partition(":") for pair in listed.split(",")]
    if not role or not all(name and colon for name, colon, _ in pairs):
        raise ValueError("must be like t1=suffix:T1w,desc:preproc")
    return role, {name: label for name, _, label in pairs}


@dataclass(frozen=True)
class ModelFolder:
    """A network."""

    model: Path = option(metavar="MODEL_DIR", positional=True, help="a converted model")


@dataclass(frozen=True)
class Results:
    """Where results go."""

    out: Path = option(metavar="DIR", help="folder for the results")
    overwrite: bool = overwrite_option("maps and pictures")


@dataclass(frozen=True)
class ScanFiles:
    """The files of a scan.

    Attributes:
        image: the images, one per channel of the model and in its order (`jaxsal info`):
            --image FLAIR T1, or --image FLAIR --image T1. Or a folder of one scan's images as
            nnU-Net names them, CASE_0000.nii.gz, CASE_0001.nii.gz, …; of several, imagesTs/CASE.
        mask: mask of the brain: all outside of it is background. None: what is 0, or holds the
            border's constant value.
    """

    image: tuple[Path, ...] = option(metavar="NIFTI", repeated=True)
    mask: Path | None = option(None, "MASK")


@dataclass(frozen=True)
class Cohort:
    """Many scans.

    Attributes:
        cohort: a table (.tsv, .csv) with the columns scan, one per channel, and perhaps reference,
            instances, mask, parcellation, region_names, subject, session and run; a BIDS folder;
            or a folder of images as nnU-Net names them, such as imagesTs.
        select: which images of a BIDS folder are a channel's, or the reference, instances, mask
            (of the brain) or parcellation, by their BIDS entities, such as
            t1=suffix:T1w,desc:preproc; once per channel.
        references: folder of masks of the true lesions for images as nnU-Net names them, such as
            labelsTs; all values but 0 are lesion.
    """

    cohort: Path = option(metavar="COHORT", positional=True)
    select: tuple[tuple[str, dict[str, str]], ...] = option(
        (), "CHANNEL=ENTITY:LABEL,...", parse=_selection, repeated=True
    )
    references: Path | None = option(None, "FOLDER")


@dataclass(frozen=True)
class Computing:
    """Where and how precisely to compute.

    Attributes:
        device: cpu, gpu or tpu for all of this machine, or one of them as gpu:1. None: the best.
        precision: arithmetic of the network; tf32 is for NVIDIA GPUs, bfloat16x3 for TPUs.
    """

    device: str | None = option(None, "NAME")
    precision: str = option("float32", choices=PRECISIONS)


@dataclass(frozen=True)
class Rematerialise:
    """Time for memory."""

    rematerialise: bool = option(
        False,
        help="for Swin UNETR: compute activations again instead of keeping them, which takes less "
        "memory per window and more time",
    )


@dataclass(frozen=True)
class Resample:
    """Scans of another voxel size than the network's.

    Attributes:
        resample: by which splines scans of other voxel sizes are brought to the network's. None:
            the model's, else cubic.
        allow_upsampling: take scans, too, that would grow to more than 8 times as many voxels.
        any_voxel_size: take scans, too, with voxels outside of 0.05 to 20 mm.
    """

    resample: Literal["linear", "cubic"] | None = option(None)
    allow_upsampling: bool = option(False)
    any_voxel_size: bool = option(False)


MODEL = group(ModelFolder)
SCAN = group(ScanFiles)
RESULTS = group(Results)
COHORT = group(Cohort)
UNCERTAINTY = group(UncertaintySettings, "uncertainty")
RESAMPLE = group(Resample, "voxel sizes")
COMPUTING = group(Computing, "computing")
REMATERIALISE = group(Rematerialise, "computing")


@contextmanager
def computing(given: Given, *, everywhere: bool = False) -> Iterator[list[jax.Device]]:
    """Computes on the devices asked for, which it says and yields; keeps compiled programs.

    Args:
        given: with the options of `Computing`.
        everywhere: if none is asked for, compute on all of the best kind, not on one of them.
    """
    from jaxsal.accelerators import warn_of_unused
    from jaxsal.compilation import keep_compiled_programs
    from jaxsal.devices import best_kind, computing_on, named, split_cpu

    split_cpu()
    keep_compiled_programs()
    asked = given.of(Computing)
    if asked.device is None:
        warn_of_unused()
    name = asked.device or (best_kind() if everywhere else None)
    with computing_on(name, asked.precision) as devices:
        if not given.get("scheduler"):
            print(f"computing on {named(devices)}", file=sys.stderr)
        yield devices


def load_model(given: Given) -> Model:
    """The model, as the options ask for it."""
    from jaxsal.checkpoints import load_model

    model = load_model(given["model"], given.of(Computing).precision)
    wanted = given.of(Resample)
    if wanted.any_voxel_size:
        model = model.with_any_voxel_size()
    if replace(wanted, any_voxel_size=False) != Resample():
        model = model.with_resampling(wanted.resample, any_size=wanted.allow_upsampling)
    return model.with_rematerialisation() if given.get("rematerialise") else model


def prediction_settings(given: Given, model: Model, field: str = "sliding") -> PredictSettings:
    """How lesions are found, as the options say, and else the model."""
    from jaxsal.scan.prediction import for_model

    of_model = {name: given.get(name) for name in ("roi", "overlap", "target", "windows")}
    return for_model(given.of(PredictSettings, field=field), model, **of_model)


def uncertainty_settings(given: Given) -> UncertaintySettings | None:
    """How uncertain the network is, if that is asked for.

    Raises:
        InputError: an option is given that needs another one.
    """
    if "uncertainty" in given:
        return given.of(UncertaintySettings)
    alone = [each.flag for each in options_of(UncertaintySettings) if each.name in given]
    if alone:
        raise InputError(
            f"--{alone[0]} is about members, of which there are none: say which with --uncertainty"
        )
    return None


def scan_files(given: Given) -> Scan:
    """The scan given by the options."""
    from jaxsal.inputs.entries import OTHER_ROLES, REGION_ROLES, Scan
    from jaxsal.inputs.nnunet_cases import images_of

    files = {name: given.get(name) for name in (*OTHER_ROLES, *REGION_ROLES)}
    return Scan(images=images_of(given["image"]), **files)


def cohort_entries(
    given: Given, channels: Sequence[str], named_by: str = "the model"
) -> list[Entry]:
    """The cohort given by the options of `Cohort`; of what names the channels, for messages."""
    from jaxsal.inputs.sources import read_cohort

    cohort = given.of(Cohort)
    roles = [role for role, _ in cohort.select]
    twice = {role for role in roles if roles.count(role) > 1}
    if twice:
        raise InputError(f"--select {min(twice)}=... is given twice: put all its entities in one")
    select = dict(cohort.select)
    return read_cohort(cohort.cohort, channels, select, named_by, cohort.references)


def model_entries(given: Given, model: Model) -> list[Entry]:
    """The cohort given by the options of `Cohort`; warns if its scans are of several kinds."""
    from jaxsal.inputs.sources import warn_if_mixed

    entries = cohort_entries(given, model.channels)
    warn_if_mixed(entries, model.preprocessing)
    return entries


def channel_files(scan: Scan, channels: Sequence[str]) -> str:
    """Which file is taken for which channel."""
    pairs = zip(channels, scan.images, strict=False)
    return ", ".join(f"{channel}: {path.name}" for channel, path in pairs)
