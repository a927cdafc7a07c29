"""A PyTorch module in memory -> `jaxsal.Model`, by exporting it; and a program beside its model."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.errors import InputError
from jaxsal.graph.config import GraphConfig
from jaxsal.graph.program import Graph
from jaxsal_converters.comparison import library, random_batch, relative_difference
from jaxsal_converters.program_file import read_program
from jaxsal_converters.program_model import Wanted, model_of
from jaxsal_converters.program_outputs import outputs_of

if TYPE_CHECKING:
    import torch

    from jaxsal.model import Model

TOLERANCE = 1e-2  # of logits, relative to their peak; a wrong graph is off by far more
_STEPS: dict[str | None, Callable[[jax.Array], jax.Array]] = {
    None: lambda logits: logits,
    "softmax": jax.nn.softmax,
    "sigmoid": jax.nn.sigmoid,
}
_DIVISORS = (1, 2, 4, 8, 16, 32, 64)


def from_torch(
    module: torch.nn.Module,
    example: torch.Tensor,
    *,
    channels: Sequence[str] | None = None,
    threshold: float = 0.5,
    outputs: Sequence[str] | None = None,
    target: int | str | None = None,
    output: str | None = None,
    axis: str | None = None,
    dynamic: bool = False,
    verify: bool = True,
) -> Model:
    """Converts any PyTorch network that ``torch.export`` can export, as it is in memory now.

    It is exported in evaluation mode and left as it was. Training it further does not change the
    model.

    Args:
        module: from an image (B, C, X, Y, Z), or (B, C, X, Y) for slices, to logits (B, K, …) of
            the same spatial sizes, alone or among others.
        example: an image as the network takes it, on the network's device; its numbers do not
            matter, its size does unless ``dynamic``.
        channels: a name per input channel; by default channel0, channel1, ….
        threshold: lesion probability at and above which a voxel is lesion.
        outputs: a name per output channel.
        target: number or name of the lesion's output channel.
        output: name of the output that is the logits, where there are several of the image's size:
            keys and places in what the module returns, such as "logits" or "1".
        axis: "x", "y" or "z", along which the slices of a volume follow each other for a network
            of two dimensions; by default "z".
        dynamic: also take images of other sizes, multiples of a power of two that is found; the
            example must be at least twice that large.
        verify: compare the logits of both on the example.

    Raises:
        InputError: torch cannot export the network, it cannot be explained, or its logits are
            others than those of the conversion.
    """
    import torch

    network = _unwrapped(module)
    if not isinstance(example, torch.Tensor) or example.ndim not in (4, 5):
        found = tuple(example.shape) if isinstance(example, torch.Tensor) else type(example)
        raise InputError(
            "the example must be one tensor (B, C, X, Y, Z), or (B, C, X, Y) for slices; got "
            f"{found}"
        )
    with _evaluating(network):
        program = read_program(_saved(network, example[:1], dynamic))
        wanted = Wanted(threshold, channels, outputs, target, output, None, axis)
        model, _ = model_of(program, wanted, {"module": type(network).__name__})
        fixed = [size for size in _graph(model).size if size is not None]
        if dynamic and fixed:
            raise InputError(
                f"the {type(network).__name__} takes {' and '.join(map(str, fixed))} voxels along "
                "an axis only: leave dynamic out"
            )
        if verify:
            _verify(network, model, example[:1], list(outputs_of(program)))
    return replace(model, aliases=_aliases(network, model.layers))


def verify_program(model: Model, path: str | Path) -> float:
    """The largest difference of logits between a program and its model on random input.

    torch loads the program, which can run code that is in the file.

    Args:
        model: the conversion.
        path: of the ``.pt2``.

    Returns:
        The difference as a fraction of the largest magnitude of the program's logits.

    Raises:
        InputError: torch is not installed, or cannot load or run the program.
    """
    torch = require_torch()
    outputs = list(outputs_of(read_program(path)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = torch.export.load(str(path)).module()
        image = torch.from_numpy(_theirs(model, random_batch(model)))
        return _difference(network, model, image, outputs)
    except InputError:
        raise
    except Exception as error:  # torch raises many kinds
        raise InputError(f"torch cannot run {path}: {_reason(error)}") from error


def require_torch() -> Any:
    """The module torch.

    Raises:
        InputError: it is not installed.
    """
    return library("torch", "torch")


def _aliases(network: torch.nn.Module, layers: Sequence[str]) -> dict[str, str]:
    """Further paths of modules that the network holds in several places -> the layers."""
    paths: dict[torch.nn.Module, list[str]] = {}
    for path, module in network.named_modules(remove_duplicate=False):
        paths.setdefault(module, []).append(path)
    known = set(layers)
    aliases = {}
    for same in paths.values():
        for layer in known & set(same):
            aliases.update({path: layer for path in same if path not in known})
    return aliases


def _unwrapped(module: Any) -> torch.nn.Module:
    import torch

    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    inner = module.module if isinstance(module, parallel) else module
    if not isinstance(inner, torch.nn.Module):
        raise InputError(f"the network must be a torch.nn.Module, got {type(inner)}")
    return inner


@contextmanager
def _evaluating(network: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode within the block, and each part's own mode again after it."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _saved(network: torch.nn.Module, example: torch.Tensor, dynamic: bool) -> io.BytesIO:
    """The network as `torch.export.save` writes it, without operations in place."""
    import torch

    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = _exported(network, example, dynamic)
        torch.export.save(exported.run_decompositions({}), content)
    return content


def _exported(network: torch.nn.Module, example: torch.Tensor, dynamic: bool) -> Any:
    """The program of any number of images where that can be had, else of one.

    Raises:
        InputError: torch can export neither, or not with free sizes where these are asked for.
    """
    import torch

    reasons = []
    for batched, divisor in product((True, False), _DIVISORS if dynamic else (0,)):
        sizes: dict[int, Any] = {0: torch.export.Dim("batch")} if batched else {}
        if divisor:
            if any(n % divisor or n < 2 * divisor for n in example.shape[2:]):
                continue
            free = (divisor * torch.export.Dim(f"size{axis}") for axis in range(2, example.ndim))
            sizes |= dict(enumerate(free, 2))
        image = example.repeat(2, *[1] * (example.ndim - 1)) if batched else example
        try:
            return torch.export.export(
                network, (image,), dynamic_shapes=(sizes,) if sizes else None, strict=False
            )
        except Exception as error:  # torch raises many kinds
            reasons.append(_reason(error))
    advice = (
        f"leave dynamic out, or give a larger example than {tuple(example.shape)}"
        if dynamic
        else "write that part in another way"
    )
    reason = reasons[-1] if reasons else "the example is too small for free sizes"
    raise InputError(f"torch.export cannot export the {type(network).__name__}: {reason}; {advice}")


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else repr(error)


def _verify(
    network: torch.nn.Module, model: Model, example: torch.Tensor, outputs: list[str]
) -> None:
    relative = _difference(network, model, example, outputs)
    if not relative <= TOLERANCE:
        raise InputError(
            f"the {type(network).__name__}'s logits differ from the conversion's by {relative:.2g} "
            "of their peak on the example: it does not compute the same each time, or an operation "
            "is converted wrongly, which is an error of jaxsal's"
        )


def _difference(network: Any, model: Model, image: torch.Tensor, outputs: list[str]) -> float:
    """The largest difference of logits on an image, relative to their peak.

    Args:
        network: PyTorch's.
        model: the conversion.
        image: as PyTorch's takes it.
        outputs: names of all tensors that it returns, in their order.
    """
    import torch

    taken = model.source["output"]
    with torch.no_grad():
        leaves = torch.utils._pytree.tree_leaves(network(image))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    expected = _ours(model, tensors[outputs.index(taken)])
    step = _STEPS[model.source.get("last_step")]
    return relative_difference(
        lambda batch: step(jnp.asarray(model(batch))), _ours(model, image), expected
    )


def _ours(model: Model, tensor: torch.Tensor) -> np.ndarray:
    """(B, C, X, Y, Z), or (B, C, X, Y) for slices, as (B, X, Y, Z, C)."""
    array = np.moveaxis(tensor.detach().float().cpu().numpy(), 1, -1)
    return np.expand_dims(array, 1 + _slice_axis(model)) if array.ndim == 4 else array


def _theirs(model: Model, batch: np.ndarray) -> np.ndarray:
    """The inverse of `_ours`."""
    array = np.moveaxis(batch, -1, 1)
    is_flat = _graph(model).rank == 2
    return np.ascontiguousarray(array.squeeze(2 + _slice_axis(model)) if is_flat else array)


def _slice_axis(model: Model) -> int:
    return _graph(model).slice_axis


def _graph(model: Model) -> Graph:
    assert isinstance(model.config, GraphConfig)
    return model.config.graph
