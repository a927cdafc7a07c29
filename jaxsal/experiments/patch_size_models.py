"""The networks of `patch-size`: which patches each was trained on, and how else they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxsal.errors import InputError
from jaxsal.experiments.other_models import load_other
from jaxsal.scan.provenance import model_facts
from jaxsal.types import Triple

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.model import Model


@dataclass(frozen=True)
class Trained:
    """A network and what it was trained on.

    Attributes:
        place: its model directory, for the reader.
        study: of it, in the folder of the whole study.
        patch: of the training, in voxels.
        seed: of the training; None if it is not recorded.
        checksum: SHA-256 of its parameters.
    """

    place: str
    study: Study
    patch: Triple
    seed: int | None
    checksum: str

    @property
    def edge(self) -> float:
        """The edge of a cube of the patch's size, in voxels."""
        return float(np.cbrt(np.prod(self.patch)))

    @property
    def kept(self) -> str:
        """Name of the folder that keeps its rows."""
        seed = "" if self.seed is None else f"-seed{self.seed}"
        return f"patch-size/{'x'.join(map(str, self.patch))}{seed}-{self.checksum[:8]}"


def trained_models(
    study: Study, others: Sequence[Path], patches: Sequence[int] = ()
) -> list[Trained]:
    """The study's network and others, each once.

    Args:
        study: whose network is the first, and whose window all are given.
        others: model directories; the first one's may be among them.
        patches: edges of the patches of the first and of the others, in voxels; empty: what was
            recorded.

    Raises:
        InputError: a patch size is not known or larger than the window, channels or outputs
            differ, or all networks were trained on patches of one size.
    """
    if patches and len(patches) != 1 + len(others):
        raise InputError(
            f"patches must be {1 + len(others)} edges, of MODEL_DIR and of each of --models in "
            f"this order, or none; got {len(patches)}"
        )
    edges: Sequence[int | None] = patches or [None] * (1 + len(others))
    first = _trained("MODEL_DIR", study, edges[0])
    found = {first.checksum: first}
    for place, edge in zip(others, edges[1:], strict=True):
        model = load_other(place, study.model)
        each = _trained(str(place), replace(study, model=model), edge)
        same = found.setdefault(each.checksum, each)
        if same.patch != each.patch:
            raise InputError(
                f"{each.place} and {same.place} are the same network: one size of patches is "
                f"expected for both, got {_size(each.patch)} and {_size(same.patch)}"
            )
        if same is first:
            found[first.checksum] = replace(first, place=str(place))
    models = list(found.values())
    _check_sizes(models, study.prediction.roi)
    return models


def _trained(place: str, study: Study, edge: int | None) -> Trained:
    size = [edge] * 3 if edge else _section(study.model, "patches").get("size")
    match size:
        case [int(x), int(y), int(z)] if min(x, y, z) > 0:
            known = _section(study.model, "run").get("seed")
            seed = known if isinstance(known, int) else None
            checksum = model_facts(study.model)["parameters_sha256"]
            return Trained(place, study, (x, y, z), seed, checksum)
    raise InputError(
        f"{place} does not record the size of the patches that it was trained on, as models of "
        "`jaxsal train` do: give the edges of all networks' patches with --patches, in voxels"
    )


def _section(model: Model, name: str) -> Mapping[str, Any]:
    """A section of what `jaxsal train` records of a training; {} if there is none."""
    training = model.source.get("training")
    section = training.get(name) if isinstance(training, Mapping) else None
    return section if isinstance(section, Mapping) else {}


def _check_sizes(models: Sequence[Trained], window: Triple) -> None:
    for each in models:
        if any(np.array(each.patch) > window):
            raise InputError(
                f"{each.place} was trained on patches of {_size(each.patch)} voxels, of which the "
                f"window of {_size(window)} shows a part: give --roi {max(each.patch)}, or a "
                "network of the largest patches as the first"
            )
    if len({each.edge for each in models}) == 1:
        raise InputError(
            f"a slope needs networks of at least two patch sizes; all {len(models)} were trained "
            f"on patches of {_size(models[0].patch)} voxels: give more with --models"
        )


def _size(voxels: Triple) -> str:
    return " × ".join(map(str, voxels))


def reservations(models: Sequence[Trained]) -> Iterator[str]:
    """Sentences on what else than patches differs between networks, and on what they have seen."""
    facts = [_others(each.study.model) for each in models]
    differing = [name for name in facts[0] if any(own[name] != facts[0][name] for own in facts)]
    if differing:
        yield (
            "the networks differ in more than patch size and seed, so that the slope is not that "
            f"of patch size alone: {', '.join(differing)}"
        )
    asked = {entry.id for entry in models[0].study.entries}
    seen = {name for each in models for name in _scans(each.study.model, "training")}
    if asked & seen:
        yield f"networks were trained on scans of the same names: {', '.join(sorted(asked & seen))}"


_COMPARED = ("data", "patches", "augmentation", "loss", "optimiser", "run")
_VARIED = {"patches": "size", "run": "seed"}


def _others(model: Model) -> dict[str, Any]:
    """What is known of a network but the size of its patches and its seed, by section."""
    recorded = {name: _section(model, name) for name in _COMPARED}
    training = {
        name: {key: fact for key, fact in section.items() if key != _VARIED.get(name)}
        for name, section in recorded.items()
    }
    # The seed draws which of them validate.
    scans = {name for part in ("training", "validation") for name in _scans(model, part)}
    network = model.config.kind, model.config.to_arguments()
    return {"network": network, "scans": scans, **training}


def _scans(model: Model, part: str) -> list[str]:
    names = _section(model, "scans").get(part)
    return list(map(str, names)) if isinstance(names, Sequence) else []
