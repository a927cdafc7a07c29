"""Which of a subject's images belong together as one scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jaxsal.errors import InputError
from jaxsal.inputs.bids_files import Image
from jaxsal.inputs.entries import ENTITIES, Entry
from jaxsal.inputs.scan import OTHER_ROLES, Scan

Entities = Mapping[str, str]
Images = Mapping[str, Sequence[Image]]  # by role

_FURTHER = tuple(name for name in ENTITIES if name not in ("subject", "session"))


def split(images: Images, channels: Sequence[str]) -> Iterator[tuple[dict[str, str], Images]]:
    """Divides the images of one session into scans.

    Scans differ in the entities of which all channels share a label. An entity of one
    channel only, such as its acquisition, does not divide the session.

    Yields:
        The entities of each scan, and its images by role; several where one must be chosen.
    """
    own = [image for channel in channels for image in images.get(channel, ())]
    if not own:  # a reference without images
        return
    present = [images[channel] for channel in channels if images.get(channel)]
    shared = [
        name
        for name in _FURTHER
        if set.intersection(*({_label(image, name) for image in found} for found in present)) - {""}
    ]
    scans = sorted({tuple(_label(image, name) for name in shared) for image in own})
    # A mask of the only scan need not be named by its run as well.
    parting = [
        n for n, labels in zip(shared, zip(*scans, strict=True), strict=True) if len({*labels}) > 1
    ]
    for labels in scans:
        entities = {name: label for name, label in zip(shared, labels, strict=True) if label}
        same = {name: entities.get(name, "") for name in parting}
        yield entities, {role: [i for i in found if i.has(same)] for role, found in images.items()}


def make_entry(
    entities: Entities, images: Images, wanted: Mapping[str, Entities], channels: Sequence[str]
) -> Entry:
    """The scan of these images.

    Args:
        entities: of the scan; empty labels are left out.
        images: found for each role.
        wanted: the entities that were looked for, by role.
        channels: of the model.

    Raises:
        InputError: there are several images for a role.
    """
    entities = {name: label for name, label in entities.items() if label}
    stem = Entry("", Scan(()), entities).stem
    several = [
        _ambiguity(role, found, wanted[role]) for role, found in images.items() if len(found) > 1
    ]
    if several:
        raise InputError(f"{stem}: {'; '.join(several)}")
    files = {role: found[0].path for role, found in images.items() if found}
    folder = next(files[channel] for channel in channels if channel in files).parent
    paths = tuple(
        files.get(channel) or folder / _missing(stem, wanted[channel]) for channel in channels
    )
    try:
        scan = Scan(paths, **{role: files[role] for role in OTHER_ROLES if role in files})
    except InputError as error:
        raise InputError(f"{stem}: {error}") from error
    return Entry(stem, scan, entities)


def described(role: str, entities: Entities) -> str:
    """A role and the entities of its images, for messages."""
    return f"{role} ({_listed(entities)})"


def _label(image: Image, name: str) -> str:
    return image.entities.get(name, "")


def _listed(entities: Entities) -> str:
    return ", ".join(f"{name}:{label}" for name, label in entities.items())


def _ambiguity(role: str, found: Sequence[Image], wanted: Entities) -> str:
    names = sorted({name for image in found for name in image.entities})
    differing = [name for name in names if len({_label(image, name) for image in found}) > 1]
    listed = [f"{i.path.name} ({_listed({n: _label(i, n) for n in differing})})" for i in found]
    text = f"{len(found)} images for {role}: {' or '.join(listed)}"
    if not differing:
        folders = " and ".join(str(image.path.parent) for image in found)
        return f"{text}, in {folders}: give a folder with only one of them"
    example = dict(wanted) | {differing[0]: _label(found[0], differing[0])}
    return f"{text}: select one, such as --select {role}={_listed(example).replace(', ', ',')}"


def _missing(stem: str, wanted: Entities) -> Path:
    """A name for a missing image, which no file can have."""
    others = [f"{name}-{label}_*" for name, label in wanted.items() if label and name != "suffix"]
    return Path(f"{stem}_*{''.join(others)}{wanted.get('suffix', '')}.nii*")
