"""One call from a network and images to an explained scan: `jaxsal.explain`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING
from importlib import import_module
from pathlib import Path
from typing import Any

from jaxsal.checkpoints import load_model
from jaxsal.display import Follower
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Scan
from jaxsal.model import Model
from jaxsal.progress import Shown
from jaxsal.registry import METHODS
from jaxsal.scan.call import Call
from jaxsal.scan.explained import ExplainedScan, explain_in_memory
from jaxsal.scan.given_files import File, Files
from jaxsal.scan.prediction import for_model
from jaxsal.settings import ExplainSettings, PredictSettings, UncertaintySettings
from jaxsal.store.schema import check_known

_SEVERAL = {"kinds": '["FN", "FP"]', "labels": "[3, 7]"}
_WINDOW = (96, 96, 96)  # of a PyTorch network whose window is not given
_OF_EXPLAIN = ("level", "labels", "kinds", "max_voxels", "field", "full_grid", "pictures", "view")
_OF_FINDING = ("threshold", "domain", "minimum_volume", "mirror")
_OF_WINDOWS = ("roi", "overlap", "target", "windows")


def explain(
    model: Any,
    images: Sequence[File],
    *,
    reference: File | None = None,
    instances: File | None = None,
    mask: File | None = None,
    parcellation: File | None = None,
    region_names: str | os.PathLike[str] | None = None,
    method: str = "smoothgrad",
    uncertainty: UncertaintySettings | None = None,
    progress: Shown = "auto",
    **options: Any,
) -> ExplainedScan:
    """Finds the lesions of a scan and maps what each of them rests on.

    ``result = jaxsal.explain("model", ["FLAIR.nii.gz", "T1.nii.gz"], samples=10)`` does what
    ``jaxsal explain`` does, in memory: ``result.table``, ``result.maps``, ``result.plot(3)``,
    ``result.save("out")``.

    Args:
        model: a model directory, a `jaxsal.Model`, or, with torch installed, a PyTorch network from
            (B, C, X, Y, Z) to logits (B, K, X, Y, Z), such as one of MONAI's.
        images: one per channel, in the model's order: a path, an image of nibabel's, or an array
            (X, Y, Z) with its affine (4, 4), voxel -> mm.
        reference: likewise, a mask of the true lesions; missed ones are explained, too.
        instances: likewise, a label map; its lesions are explained instead of those found.
        mask: likewise, a mask of the brain; all outside of it is background.
        parcellation: likewise, a label map of regions in the scan's world, on any grid; ``regions``
            and ``table`` of the result then say in which of them maps and lesions lie.
        region_names: table of their names: TSV with the columns index or label, and name.
        method: of the maps; one of those that ``jaxsal explain --help`` lists.
        uncertainty: how uncertain the network is of the lesions; None: that is not asked.
        progress: called with a `jaxsal.Progress`; "auto": a bar on a terminal and in notebooks.
        options: those of ``jaxsal explain``, with their defaults: of the method, such as
            ``samples``, ``noise`` and ``aggregate`` of SmoothGrad; ``level``, ``labels``,
            ``kinds``, ``max_voxels``, ``field``, ``full_grid``, ``pictures`` and ``view`` (which
            `save` writes); and of how lesions are found: ``roi``, ``overlap``, ``threshold``,
            ``domain``, ``target``, ``minimum_volume``, ``windows``. ``mirror=True`` averages over
            mirrored windows.

    Raises:
        InputError: a file, an array or an option cannot be worked with.
    """
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
    for name in ("kinds", "labels"):
        if isinstance(given.get(name), str | int):
            raise InputError(
                f"{name} must be several, such as {_SEVERAL[name]}; got {given[name]!r}"
            )
    given |= {"roi": _window(given["roi"])} if "roi" in given else {}
    own = {each.name for each in METHODS[method].offered()} | {"memory"}
    check_known("explain", given, (*own, *_OF_EXPLAIN, *_OF_FINDING, *_OF_WINDOWS), "option")
    network = _as_model(model, len(images), given.get("roi"))
    of_windows: Any = {name: given.get(name) for name in _OF_WINDOWS}
    finding = for_model(PredictSettings(**_part(given, _OF_FINDING)), network, **of_windows)
    how = {"uncertainty": uncertainty, **_part(given, _OF_EXPLAIN)}
    explaining = ExplainSettings(_of_method(method, given, own), **how)
    files = Files()
    others = {"reference": reference, "instances": instances, "mask": mask}
    others["parcellation"] = parcellation
    scan = Scan(
        tuple(files.path(f"image{n}", image) for n, image in enumerate(images)),
        **{name: files.path(name, f) for name, f in others.items() if f is not None},
        region_names=None if region_names is None else _table(region_names),
    )
    call = Call(network, scan, finding, explaining)
    with Follower(progress, "explaining") as following:
        return explain_in_memory(call, scan, following, files)


def _table(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"region_names must be the path of a table; got {type(path).__name__}")
    return Path(path)


def _of_method(name: str, given: Mapping[str, Any], own: Iterable[str]) -> Any:
    """The method's settings.

    Raises:
        InputError: an option is missing, out of its range, or has no effect.
    """
    method, chosen = METHODS[name], _part(given, own)
    for option in method.offered():
        if option.default is MISSING and option.name not in chosen:
            raise InputError(f"the method {name} needs {option.name}: {option.help}")
    settings = method.make(**chosen)
    method.refuse(settings, given.get("level", "instance"), chosen)
    return settings


def _part(given: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _window(roi: Any) -> Any:
    return (roi, roi, roi) if isinstance(roi, int) else roi


def _as_model(model: Any, channels: int, roi: Any) -> Model:
    """The model, read or converted if it is none yet."""
    if isinstance(model, Model):
        return model
    if isinstance(model, str | os.PathLike):
        return load_model(model)
    torch = sys.modules.get("torch")  # there is no network of it otherwise
    if torch is None or not isinstance(model, torch.nn.Module):
        raise InputError(
            "the model must be a model directory, a jaxsal.Model or a PyTorch network; got "
            f"{type(model).__name__}"
        )
    example = torch.zeros(1, channels, *(roi or _WINDOW))
    converters = import_module("jaxsal_converters.torch_module")
    converted: Model = converters.from_torch(model, example)
    return converted
