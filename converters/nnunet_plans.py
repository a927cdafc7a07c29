"""nnU-Net's plans and dataset description -> channels, outputs, preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxsal.errors import InputError
from jaxsal.preprocessing import Normalisation, Outputs, Preprocessing
from jaxsal.types import Triple
from jaxsal_converters.nnunet_resampling import read_resampling, resamples
from jaxsal_converters.outputs import fit_names

_OVERLAP = 0.5  # nnU-Net's tile_step_size
_SCHEMES = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "RescaleTo01Normalization": "rescale",
    "RGBTo01Normalization": "rgb",
    "NoNormalization": "none",
}
_CT = {"mean": "mean", "std": "std", "lower": "percentile_00_5", "upper": "percentile_99_5"}
# reader -> axis codes that it brings images to; all of them give arrays (Z, Y, X)
_READERS = {"SimpleITKIO": None, "NibabelIO": None, "NibabelIOWithReorient": "RAS"}


def select_configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration of the plans, with what it inherits.

    Raises:
        InputError: there is none of that name, or it is 2D or a cascade.
    """
    configuration = _inherited(plans["configurations"], name, ())
    size = configuration.get("patch_size")
    if not isinstance(size, list) or len(size) != 3:
        raise InputError(
            f"the configuration {name} has patches of size {size}; only 3D configurations are "
            "supported, such as 3d_fullres"
        )
    if configuration.get("previous_stage"):
        raise InputError(
            f"the configuration {name} is a cascade, which takes the segmentation of "
            f"{configuration['previous_stage']} as further channels; supported are 3d_fullres and "
            "3d_lowres"
        )
    return configuration


def _inherited(
    configurations: Mapping[str, Any], name: str, visited: tuple[str, ...]
) -> dict[str, Any]:
    if name not in configurations:
        raise InputError(
            f"the plans have no configuration {name}; they have {', '.join(configurations)}"
        )
    if name in visited:
        raise InputError(f"the plans' configurations inherit in a circle: {', '.join(visited)}")
    own = dict(configurations[name])
    parent = own.pop("inherits_from", None)
    return {**_inherited(configurations, parent, (*visited, name)), **own} if parent else own


def spatial_axes(plans: Mapping[str, Any]) -> Triple:
    """For X, Y and Z each, the axis of nnU-Net's arrays that lies along it.

    Images are read as (Z, Y, X) and then transposed by the plans' ``transpose_forward``.

    Raises:
        InputError: it is no order of three axes.
    """
    order = plans.get("transpose_forward", [0, 1, 2])
    if not isinstance(order, list) or sorted(order) != [0, 1, 2]:
        raise InputError(f"the plans' transpose_forward must order three axes, got {order}")
    return order.index(2), order.index(1), order.index(0)


def channel_names(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the image channels, made fit for file names.

    Raises:
        InputError: dataset.json does not list them.
    """
    listed = dataset.get("channel_names", dataset.get("modality"))
    try:
        names = [str(listed[key]) for key in sorted(listed or {}, key=int)]
    except (TypeError, ValueError):
        names = []
    if not names:
        raise InputError(
            'dataset.json must list channels by number, "channel_names": {"0": "FLAIR"}; it has '
            f"{listed!r}"
        )
    return fit_names(names)


def read_outputs(dataset: Mapping[str, Any]) -> Outputs:
    """Meaning of the output channels: labels that exclude each other, or regions.

    Raises:
        InputError: dataset.json lists no labels as nnU-Net version 2 does.
    """
    values = _label_values(dataset.get("labels"))
    if any(len(several) > 1 for several in values.values()):
        regions = [name for name, several in values.items() if set(several) != {0}]
        return Outputs(tuple(regions), "sigmoid")
    return Outputs(tuple(sorted(values, key=lambda name: values[name][0])), "softmax")


def _label_values(labels: Any) -> dict[str, list[int]]:
    """What voxels of each name hold; "ignore" is none, and text stands for the number it is."""
    try:
        values = {
            str(name): [int(v) for v in (value if isinstance(value, list) else [value])]
            for name, value in labels.items()
            if name != "ignore"
        }
    except (AttributeError, TypeError, ValueError):
        values = {}
    if values.get("background") != [0] or not all(values.values()):
        raise InputError(
            'dataset.json must list labels by name, "labels": {"background": 0, "lesion": 1}; it '
            f"has {labels!r}"
        )
    return values


def read_preprocessing(
    plans: Mapping[str, Any],
    configuration: Mapping[str, Any],
    axes: Triple,
    mirror_axes: tuple[int, ...] | None,
) -> Preprocessing:
    """What nnU-Net did to the images.

    Args:
        plans: all of them.
        configuration: the one of the network.
        axes: as `spatial_axes` gives them.
        mirror_axes: of nnU-Net's arrays; None if the checkpoint does not say.

    Raises:
        InputError: a normalisation or reader is not supported.
    """
    reader = plans.get("image_reader_writer", "SimpleITKIO")
    if reader not in _READERS:
        raise InputError(f"the plans read images with {reader}; supported: {', '.join(_READERS)}")
    x, y, z = (configuration["patch_size"][a] for a in axes)
    return Preprocessing(
        normalisation=_normalisations(plans, configuration),
        spacing=_spacing(configuration, axes),
        roi=(x, y, z),
        overlap=_OVERLAP,
        orientation=_READERS[reader],
        mirror_axes=mirror_axes and tuple(sorted(axes.index(a) for a in mirror_axes)),
        windows="nnunet",
        crop=True,
        resampling=read_resampling(configuration),
    )


def _spacing(configuration: Mapping[str, Any], axes: Triple) -> tuple[float, float, float] | None:
    """Voxel size in mm that images are resampled to; None if they never are."""
    if not resamples(configuration):
        return None
    x, y, z = (float(configuration["spacing"][a]) for a in axes)
    return x, y, z


def _normalisations(
    plans: Mapping[str, Any], configuration: Mapping[str, Any]
) -> tuple[Normalisation, ...]:
    schemes = configuration["normalization_schemes"]
    unknown = sorted(set(schemes) - set(_SCHEMES))
    if unknown:
        raise InputError(
            f"the plans normalise with {', '.join(unknown)}; supported: {', '.join(_SCHEMES)}"
        )
    statistics = plans.get(
        "foreground_intensity_properties_per_channel",
        plans.get("foreground_intensity_properties_by_modality", {}),
    )
    masks = configuration["use_mask_for_norm"]
    return tuple(
        _normalisation(scheme, bool(masked), statistics.get(str(c), {}), c)
        for c, (scheme, masked) in enumerate(zip(schemes, masks, strict=True))
    )


def _normalisation(
    scheme: str, masked: bool, statistics: Mapping[str, Any], channel: int
) -> Normalisation:
    if scheme != "CTNormalization":
        return Normalisation(_SCHEMES[scheme], masked and scheme == "ZScoreNormalization")
    missing = [name for name in _CT.values() if name not in statistics]
    if missing:
        raise InputError(
            f"the plans lack the intensity statistics of channel {channel} for CTNormalization: "
            f"{', '.join(missing)}"
        )
    mean, std, lower, upper = (float(statistics[name]) for name in _CT.values())
    return Normalisation("ct", mean=mean, std=std, lower=lower, upper=upper)
