"""The channels of a network's images and outputs: names, and which output is the lesion."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from jaxsal.errors import InputError
from jaxsal.lesions import output_channel
from jaxsal.preprocessing import Outputs


def fit_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names with '_' for what is unfit, and numbered if two are then the same."""
    fit = [re.sub(r"[^\w.-]+", "_", name).strip("_.-") or "channel" for name in names]
    if len({name.casefold() for name in fit}) < len(fit):
        fit = [f"{name}_{c}" for c, name in enumerate(fit)]
    return tuple(fit)


def name_outputs(
    count: int,
    names: Sequence[str] | None,
    target: int | str | None,
    assumptions: list[str],
    probability: str = "softmax",
) -> Outputs:
    """The outputs of a network whose source may not name them.

    Args:
        count: number of output channels.
        names: of each; None: the source does not name them.
        target: number or name of the lesion's; None: 1, or the only one.
        assumptions: takes a sentence for what had to be assumed.
        probability: how probabilities come of several logits, as for `Outputs`; that of a single
            one is a sigmoid.

    Raises:
        InputError: there are not as many names, or there is no such output.
    """
    if names is None:
        names = _usual_names(count, target)
        if count > 2:
            assumptions.append(f"output names: {names[0]} to {names[-1]}; name them with --outputs")
    if len(names) != count:
        raise InputError(
            f"the network has {count} outputs and each needs a name; got {len(names)}: "
            f"{' '.join(names)}"
        )
    outputs = Outputs(tuple(names), probability if count > 1 else "sigmoid")
    return with_target(outputs, target, assumptions)


def with_target(outputs: Outputs, target: int | str | None, assumptions: list[str]) -> Outputs:
    """The outputs, and which of them is the lesion.

    Args:
        outputs: their names.
        target: number or name of the lesion's; None: what `Outputs.lesion` says.
        assumptions: takes a sentence where that is a guess, or says nothing.

    Raises:
        InputError: there is no such output.
    """
    if isinstance(target, str):
        return replace(outputs, target=outputs.index(target))
    if target is not None:
        return replace(outputs, target=output_channel(target, len(outputs.names)))
    if outputs.lesion is None:
        assumptions.append(
            f"target: none, since the outputs {', '.join(outputs.names)} overlap; say with "
            "--target which one is the lesion, or each command will ask for it"
        )
    elif len(outputs.names) > 2:
        assumptions.append(
            f"target: {outputs.names[outputs.lesion]}, output {outputs.lesion} of "
            f"{len(outputs.names)}; if the lesion is another one, set it with --target"
        )
    return replace(outputs, target=outputs.lesion)


def _usual_names(count: int, target: int | str | None) -> tuple[str, ...]:
    if count == 1:
        return ("lesion",)
    if count == 2 and target in (None, 1, "background", "lesion"):
        return ("background", "lesion")
    return tuple(f"output{k}" for k in range(count))
