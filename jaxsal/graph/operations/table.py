"""The table of operations, which the other modules of this folder fill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

# Arguments of schemas that say nothing of the numbers at inference, and that no function takes.
LEFT_OUT = frozenset(
    {
        *("device", "layout", "memory_format", "pin_memory", "non_blocking", "generator", "copy"),
        *("cudnn_enable", "cudnn_enabled", "momentum", "implicit", "sparse_grad", "path"),
        *("padding_idx", "scale_grad_by_freq", "sparse"),
    }
)

# PyTorch's name -> function of the arguments of its schema, from values to a value or several.
OPERATIONS: dict[str, Callable[..., Any]] = {}


def operation(*names: str) -> Callable[[Function], Function]:
    """Adds a function to the table.

    Args:
        *names: of ATen's operations, "conv3d.padding"; an overload "default" need not be said.
    """

    def add(function: Function) -> Function:
        for name in names:
            full = name if "." in name else f"{name}.default"
            enter(f"aten.{full}", function)
        return function

    return add


def enter(name: str, function: Callable[..., Any]) -> None:
    """Adds a function by its full name; a name is given once."""
    assert name not in OPERATIONS, name
    OPERATIONS[name] = function
