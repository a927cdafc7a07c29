"""What a program may hold that cannot be explained, found before anything else is looked at."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from jaxsal.errors import InputError
from jaxsal_converters.checkpoint_file import some_of
from jaxsal_converters.program_file import DTYPES
from jaxsal_converters.program_nodes import module_of, operation_of, plain_name, results_of

_RUN = ("torch.ops.aten.", "torch.ops.prims.", "_operator.", "math.", "torch.sym_")
_QUANTISED = ("torch.ops.quantized", "torch.ops.quantized_decomposed", "torch.ops._quantized")
_ON_VALUES = {  # operations whose results depend on numbers in a way that no derivative shows
    "item",
    "_local_scalar_dense",
    "nonzero",
    "nonzero_static",
    "masked_select",
    "unique",
    "unique_dim",
    "_unique2",
    "unique_consecutive",
    "bincount",
}
_RANDOM = {
    "rand",
    "rand_like",
    "randn",
    "randn_like",
    "randint",
    "randint_like",
    "randperm",
    "bernoulli",
    "multinomial",
    "normal",
    "normal_functional",
    "uniform",
    "exponential",
}
_TRAINING = {  # the argument that says so, by operation
    "dropout": "train",
    "feature_dropout": "train",
    "alpha_dropout": "train",
    "feature_alpha_dropout": "train",
    "native_dropout": "train",
    "batch_norm": "training",
    "cudnn_batch_norm": "training",
    "native_batch_norm": "training",
    "_native_batch_norm_legit": "training",
    "instance_norm": "use_input_stats",
    "rrelu": "training",
    "rrelu_with_noise": "training",
    "scaled_dot_product_attention": "dropout_p",
}


class _Rule(NamedTuple):
    """What is refused, and why.

    Attributes:
        found: says of a node whether it is.
        what: begins the message.
        advice: ends it.
    """

    found: Callable[[Mapping[str, Any]], bool]
    what: str
    advice: str


def _name(node: Mapping[str, Any]) -> str:
    """An operation's bare name, "conv3d", also of the one that works in place."""
    parts = operation_of(node["target"]).split(".")
    name = parts[1] if parts[0] in ("aten", "prims") and len(parts) > 1 else ""
    return name.removesuffix("_")


def _trains(node: Mapping[str, Any]) -> bool:
    flag = _TRAINING.get(_name(node))
    given = {entry["name"]: entry["arg"] for entry in node["inputs"]}
    if flag not in given or "as_none" in given[flag]:
        return False
    idle = given.get("p", {}).get("as_float") == 0
    without_statistics = "as_none" in given.get("running_mean", {})  # those of its input, always
    if idle or without_statistics or node["target"].endswith(".no_stats"):
        return False
    return bool(next(iter(given[flag].values())))


def _is_higher_order(node: Mapping[str, Any]) -> bool:
    holds_graph = any("as_graph" in entry["arg"] for entry in node["inputs"])
    return holds_graph or ".higher_order." in node["target"]


def _is_custom(node: Mapping[str, Any]) -> bool:
    return not node["target"].startswith(_RUN)


_RULES = (
    _Rule(
        _trains,
        "the network was exported in training mode, in which its logits are random or depend on "
        "the batch",
        "call network.eval() before torch.export.export",
    ),
    _Rule(
        lambda node: node["target"].startswith(_QUANTISED),
        "the network is quantised, and rounding has no derivative",
        "export the network as it was before it was quantised",
    ),
    _Rule(
        _is_higher_order,
        "the network decides or repeats by what it computes (cond, while_loop, …), or computes a "
        "part apart (no_grad, autocast, checkpointing)",
        "write that part without it, and export again",
    ),
    _Rule(
        lambda node: _name(node) in _ON_VALUES,
        "what the network computes next depends on numbers that it computed, such as .item(), "
        "nonzero or x[mask]",
        "write that part with torch.where or fixed sizes, and export again",
    ),
    _Rule(
        lambda node: _name(node) in _RANDOM,
        "the network draws random numbers, also in evaluation mode",
        "make it compute the same each time, and export again",
    ),
    _Rule(
        _is_custom,
        "the network has operations of its own, outside of PyTorch",
        "write them with PyTorch's operations, and export again",
    ),
)


def refuse(name: str, nodes: Sequence[Mapping[str, Any]], tensors: Mapping[str, Any]) -> None:
    """Raises InputError if the nodes hold what cannot be explained.

    Args:
        name: of the program, for messages.
        nodes: PyTorch's, those that the logits need.
        tensors: what the program says of each of its tensors.
    """
    for rule in _RULES:
        found = [node for node in nodes if rule.found(node)]
        if found:
            raise InputError(f"{name}: {rule.what}: {_places(found)}; {rule.advice}")
    found = [node for node in nodes if any(_is_complex(tensors, v) for v in results_of(node))]
    if found:
        raise InputError(
            f"{name}: the network computes with complex numbers, as in Fourier transforms, for "
            f"which there are no operations here: {_places(found)}"
        )


def refuse_unknown(name: str, nodes: Sequence[Mapping[str, Any]], known: Collection[str]) -> None:
    """Raises InputError that names all operations which are not known, and their modules.

    Args:
        name: of the program, for messages.
        nodes: PyTorch's, those that the logits need.
        known: names of operations, as graphs have them.
    """
    unknown = [node for node in nodes if plain_name(node) not in known]
    if unknown:
        count = len({plain_name(node) for node in unknown})
        raise InputError(
            f"{name}: {count} of the network's operations {'is' if count == 1 else 'are'} not "
            f"known here: {_places(unknown, limit=None)}; exporting "
            "exported.run_decompositions() in place of exported may put others in their place"
        )


def _is_complex(tensors: Mapping[str, Any], value: str) -> bool:
    meta = tensors.get(value)
    return meta is not None and DTYPES.get(meta["dtype"], "").startswith("complex")


def _places(nodes: Sequence[Mapping[str, Any]], limit: int | None = 4) -> str:
    """Operations with the modules that hold them."""
    where: dict[str, list[str]] = {}
    for node in nodes:
        modules = where.setdefault(plain_name(node), [])
        module = module_of(node) or "the network itself"
        if module not in modules:
            modules.append(module)
    shown = [f"{operation} in {some_of(modules)}" for operation, modules in where.items()]
    return "; ".join(shown[:limit]) + "; …" * (limit is not None and len(shown) > limit)
