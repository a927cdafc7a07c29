"""A cohort in a BIDS folder, raw or derivatives."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxsal.errors import InputError
from jaxsal.inputs.bids_files import PIPELINE, Image, find_images
from jaxsal.inputs.bids_scans import Entities, Images, described, make_entry, split
from jaxsal.inputs.channel_names import usual_suffix
from jaxsal.inputs.entries import ENTITIES, Entry, repeated
from jaxsal.inputs.problems import refuse
from jaxsal.inputs.scan import OTHER_ROLES

Select = Mapping[str, Entities]

_LONG = {short: name for name, short in ENTITIES.items()} | {"ce": "ceagent", "seg": "segmentation"}

# Suffix of a channel's images by the beginning of the channel's name, longer ones first.


def read_bids(folder: Path, channels: Sequence[str], select: Select | None = None) -> list[Entry]:
    """Finds the scans of a BIDS folder.

    A scan is a subject's session; where all channels have several images by the same
    acquisitions, reconstructions, runs or spaces, it is one of these. A missing image gets a path
    that shows what was looked for.

    Args:
        folder: a dataset, valid or not, or one pipeline's folder of derivatives.
        channels: of the model.
        select: the entities of a channel's images, such as {"t1": {"desc": "preproc"}}, and those
            of "reference", "instances" and "mask", which are not looked for otherwise. An empty
            label stands for images without that entity. The entity "pipeline" is the name of a
            folder below derivatives/ to look in. Channels whose names begin with flair, t1, mprage,
            t2 or pd need no suffix.

    Raises:
        InputError: a channel must be selected or has no image at all; or scans have several images
            for a role, all listed at once.
    """
    wanted = _wanted(channels, select or {})
    images = _images(folder, wanted)
    nothing = [role for role in wanted if not images[role]]
    refuse(str(folder), [f"no image for {described(role, wanted[role])}" for role in nothing])
    entries: list[Entry] = []
    problems: list[str] = []
    for place, here in _by_place(images).items():
        for entities, candidates in split(here, channels):
            own = dict(zip(("subject", "session"), place, strict=True)) | entities
            try:
                entries.append(make_entry(own, candidates, wanted, channels))
            except InputError as error:
                problems.append(str(error))
    problems += _alike(entries)
    refuse(str(folder), problems)
    _warn_of_lacking(entries, wanted)
    return entries


def _wanted(channels: Sequence[str], select: Select) -> dict[str, dict[str, str]]:
    """The entities that the images of each role have."""
    roles = {role.lower(): role for role in (*channels, *OTHER_ROLES)}
    unknown = [role for role in select if role.lower() not in roles]
    if unknown:
        raise InputError(
            f"there is no {unknown[0]!r} to select images for, only {', '.join(roles.values())}"
        )
    wanted = {channel: _usual(channel) for channel in channels}
    for role, entities in select.items():
        chosen = {_LONG.get(name, name): label for name, label in entities.items()}
        own = roles[role.lower()]
        wanted[own] = wanted.get(own, {}) | chosen
    unclear = [role for role, entities in wanted.items() if not entities]
    if unclear:
        raise InputError(
            f"select the images of {', '.join(unclear)} by their BIDS entities, such as --select "
            f"{unclear[0]}=suffix:FLAIR"
        )
    return wanted


def _usual(channel: str) -> dict[str, str]:
    suffix = usual_suffix(channel)
    return {"suffix": suffix} if suffix else {}


def _images(folder: Path, wanted: Select) -> dict[str, list[Image]]:
    """All images of each role."""
    asked = {name for entities in wanted.values() for name in entities}
    pipelines = sorted({entities.get(PIPELINE, "") for entities in wanted.values()})
    images = [image for name in pipelines for image in find_images(folder, name, asked)]
    return {
        role: [i for i in images if i.has({PIPELINE: ""} | dict(entities))]
        for role, entities in wanted.items()
    }


def _by_place(images: Images) -> dict[tuple[str, str], dict[str, list[Image]]]:
    """The images of each role by subject and session ("" for none), in order."""
    places: dict[tuple[str, str], dict[str, list[Image]]] = defaultdict(lambda: defaultdict(list))
    for role, found in images.items():
        for image in found:
            place = image.entities["subject"], image.entities.get("session", "")
            places[place][role].append(image)
    return {place: places[place] for place in sorted(places)}


def _alike(entries: Sequence[Entry]) -> list[str]:
    return [
        f"{entries[first].id} and {entries[other].id} differ in upper and lower case only, which "
        "some file systems take for the same: rename one"
        for first, other in repeated(entry.stem for entry in entries)
    ]


def _warn_of_lacking(entries: Sequence[Entry], wanted: Select) -> None:
    """Warns of scans that lack the reference, label map or mask that others have."""
    for role in (role for role in OTHER_ROLES if role in wanted):
        without = [entry.id for entry in entries if getattr(entry.scan, role) is None]
        if without:
            warnings.warn(
                f"{len(without)} of {len(entries)} scans have no {described(role, wanted[role])}: "
                f"{', '.join(without[:10])}{', ...' if len(without) > 10 else ''}",
                stacklevel=3,
            )
