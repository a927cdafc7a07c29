"""A cohort in a BIDS folder, raw or derivatives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jaxsal.errors import InputError, warn
from jaxsal.inputs.bids_files import PIPELINE, Image, find_images
from jaxsal.inputs.channel_names import usual_suffix
from jaxsal.inputs.entries import ENTITIES, OTHER_ROLES, Entry, Scan, repeated
from jaxsal.inputs.problems import refuse

Entities = Mapping[str, str]
Images = Mapping[str, Sequence[Image]]  # by role
Select = Mapping[str, Entities]

_OTHERS = (*OTHER_ROLES, "parcellation")
_LONG = {short: name for name, short in ENTITIES.items()} | {"ce": "ceagent", "seg": "segmentation"}
_FURTHER = tuple(name for name in ENTITIES if name not in ("subject", "session"))


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
    roles = {role.lower(): role for role in (*channels, *_OTHERS)}
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
    for role in (role for role in _OTHERS if role in wanted):
        without = [entry.id for entry in entries if getattr(entry.scan, role) is None]
        if without:
            warn(
                f"{len(without)} of {len(entries)} scans have no {described(role, wanted[role])}: "
                f"{', '.join(without[:10])}{', ...' if len(without) > 10 else ''}",
            )


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
        scan = Scan(paths, **{role: files[role] for role in _OTHERS if role in files})
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
