"""Options that say which maps are computed, and how."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jaxsal.cli import options as shared
from jaxsal.errors import InputError
from jaxsal.registry import METHODS
from jaxsal.saliency.methods.gradcam import ALIGNMENTS, DENOMINATORS, DERIVATIVES, GradCamSettings
from jaxsal.saliency.methods.smoothgrad import AGGREGATES, NOISE_SCALES, SmoothGradSettings
from jaxsal.settings import LEVELS, OUTCOMES, ExplainSettings, MethodSettings

# Names of the settings that belong to some methods only; None stands for an option not given.
_OWN: dict[str, tuple[str, ...]] = {
    "smoothgrad": (
        "aggregate",
        "samples",
        "noise",
        "noise_scale",
        "tolerance",
        "standard_error",
        "voxels_per_lesion",
        "group_size",
    ),
    "gradcam++": ("layer", "alignment", "derivatives", "denominator", "probes"),
    "gradcam": ("layer", "alignment"),
}
_COMMON = ("seed", "memory")


_METHODS_HELP = (
    "maps from gradients of the image's voxels, one per channel, or one heat map from the "
    "activations of a layer"
)


def add(parser: argparse.ArgumentParser) -> None:
    """The method, its options, and what of a scan to explain."""
    group = parser.add_argument_group("saliency")
    group.add_argument(
        "--method",
        choices=tuple(METHODS),
        default="smoothgrad",
        help=f"{_METHODS_HELP}; default: %(default)s",
    )
    group.add_argument(
        "--level",
        choices=LEVELS,
        default=ExplainSettings.level,
        help="a map per lesion, or one of all segmented voxels; default: %(default)s",
    )
    group.add_argument(
        "--labels",
        type=_labels,
        metavar="3,7",
        help="which lesions to explain, by their labels in instances.nii.gz; default: all",
    )
    group.add_argument(
        "--kind",
        nargs="+",
        choices=OUTCOMES,
        help="which of them, by what they are against the reference: found (TP), false alarms "
        "(FP), missed (FN)",
    )
    group.add_argument(
        "--max-voxels",
        type=int,
        metavar="N",
        help="which of them, by size: those of at most N voxels",
    )
    _add_common(parser, group)


def add_several(parser: argparse.ArgumentParser) -> None:
    """One or more methods for every lesion, and their options."""
    group = parser.add_argument_group("saliency")
    group.add_argument(
        "--method",
        nargs="+",
        choices=tuple(METHODS),
        default=["smoothgrad"],
        help=f"one or more: {_METHODS_HELP}; default: smoothgrad",
    )
    _add_common(parser, group)


def add_smoothgrad(parser: argparse.ArgumentParser) -> None:
    """SmoothGrad for every lesion, by the aggregate that the command chooses; see `smoothgrad`."""
    group = parser.add_argument_group("saliency")
    _add_field_and_seed(group)
    _add_noise(group)
    _add_approximations(group)


def smoothgrad(options: argparse.Namespace) -> SmoothGradSettings:
    """The settings given by the options of `add_smoothgrad`.

    Raises:
        InputError: an option is out of range, or does not go with another one.
    """
    names = {*_OWN["smoothgrad"], *_COMMON} & set(vars(options))
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return SmoothGradSettings(**given)


def _add_field_and_seed(group: argparse._ActionsContainer) -> None:
    shared.add_field(
        group,
        "what is differentiated: the windows' blended logits, or the whole "
        "volume's (lesions are found by sliding window in any case)",
    )
    group.add_argument(
        "--seed",
        type=int,
        help=f"of noise and probes; default: {SmoothGradSettings.seed}",
    )


def _add_common(parser: argparse.ArgumentParser, group: argparse._ActionsContainer) -> None:
    _add_field_and_seed(group)
    _add_smoothgrad(parser.add_argument_group("for --method smoothgrad"))
    _add_gradcam(parser.add_argument_group("for --method gradcam++ and gradcam"))


def _add_smoothgrad(group: argparse._ActionsContainer) -> None:
    defaults = SmoothGradSettings()
    group.add_argument(
        "--aggregate",
        choices=AGGREGATES,
        help="of a lesion's single-voxel gradients: signed maximum (quantitative, Eq. 3), "
        f"mean (Eq. 2) or sum; for the instance level; default: {defaults.aggregate}",
    )
    _add_noise(group)
    group.add_argument(
        "--standard-error",
        action="store_true",
        default=None,
        help="save the standard error of each map beside it, as ..._se.nii.gz",
    )
    _add_approximations(group)


def _add_noise(group: argparse._ActionsContainer) -> None:
    defaults = SmoothGradSettings()
    group.add_argument(
        "--samples", type=int, metavar="N", help=f"noisy images; default: {defaults.samples}"
    )
    group.add_argument("--noise", type=float, help=f"noise level; default: {defaults.noise}")
    group.add_argument(
        "--noise-scale",
        choices=NOISE_SCALES,
        help="noise as a fraction of the first channel's range, or in units of the z-scored "
        f"image; default: {defaults.noise_scale}",
    )
    group.add_argument(
        "--tolerance",
        type=float,
        metavar="T",
        help="use fewer noisy images for a lesion whose map has a standard error below this "
        "fraction of its peak, such as 0.05; default: always all",
    )


def _add_approximations(group: argparse._ActionsContainer) -> None:
    """For lesions of thousands of voxels, of which each takes a gradient."""
    group.add_argument(
        "--voxels-per-lesion",
        type=int,
        metavar="K",
        help="approximate the signed maximum of larger lesions by K voxels spread over each; "
        "default: all voxels, exact",
    )
    group.add_argument(
        "--group-size",
        type=int,
        metavar="G",
        help="approximate it as the published scripts can: by gradients of the summed logits of G "
        f"consecutive voxels; default: {SmoothGradSettings.group_size}, exact",
    )


def _add_gradcam(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--layer",
        metavar="NAME",
        help="whose activations are weighted, by its name in `jaxsal info`; required",
    )
    group.add_argument(
        "--alignment",
        choices=ALIGNMENTS,
        help="where the layer's cells lie in the image: at the centres of their receptive fields, "
        "or dividing the window evenly as in PyTorch, MONAI and pytorch-grad-cam, to compare with "
        f"their maps; default: {GradCamSettings.alignment}",
    )
    group.add_argument(
        "--derivatives",
        choices=DERIVATIVES,
        help="of second and third order, for gradcam++: taken for zero, which is exact where the "
        "network is piecewise linear above the layer; exact for any network, one unit vector of "
        "the layer after the other; or estimated by random probes; default: "
        f"{GradCamSettings.derivatives}",
    )
    group.add_argument(
        "--denominator",
        choices=DENOMINATORS,
        help="of the weights of gradcam++: as in the paper's Eq. 7, or as in MONAI, to compare "
        f"with older maps; default: {GradCamSettings.denominator}",
    )
    group.add_argument(
        "--probes",
        type=int,
        metavar="N",
        help=f"random probes, for --derivatives stochastic; default: {GradCamSettings.probes}",
    )


def settings(options: argparse.Namespace) -> MethodSettings:
    """How the maps of one scan are computed.

    Raises:
        InputError: an option does not go with another one, or the layer is missing.
    """
    if options.level == "class" and options.aggregate is not None:
        raise InputError("--aggregate is for the instance level; the class level is a sum (Eq. 1)")
    _check(options, [options.method])
    return _settings_of(options, options.method)


def several_settings(
    options: argparse.Namespace,
) -> tuple[MethodSettings, ...]:
    """How maps are computed, by each of the methods.

    Raises:
        InputError: as `settings` does.
    """
    _check(options, options.method)
    return tuple(_settings_of(options, method) for method in options.method)


def _settings_of(options: argparse.Namespace, method: str) -> MethodSettings:
    names = (*_OWN[method], *_COMMON)
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    settings: MethodSettings = METHODS[method].make(**given)
    return settings


def _check(options: argparse.Namespace, methods: Sequence[str]) -> None:
    taken = {name for method in methods for name in _OWN[method]}
    for name in {name: None for own in _OWN.values() for name in own}:
        if getattr(options, name) is not None and name not in taken:
            takers = " and ".join(method for method, own in _OWN.items() if name in own)
            raise InputError(
                f"{_flag(name)} is for {takers}; it does not go with --method {' '.join(methods)}"
            )
    if options.probes is not None and options.derivatives != "stochastic":
        raise InputError("--probes is for --derivatives stochastic; give that, too, or neither")
    random = "smoothgrad" in methods or options.derivatives == "stochastic"
    if options.seed is not None and not random:
        raise InputError("--seed is for noise and probes, and these heat maps have neither")
    if any("layer" in _OWN[method] for method in methods) and options.layer is None:
        raise InputError(
            f"--method {' '.join(methods)} needs --layer NAME; `jaxsal info {options.model}` lists "
            "the layers"
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _labels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"labels are whole numbers with commas between, such as 3,7; got {text!r}"
        ) from error
