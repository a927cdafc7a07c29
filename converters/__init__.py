"""PyTorch's networks -> jaxsal's, and saliency with the interfaces of PyTorch's libraries.

The only place that imports torch. `from_torch` is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsal_converters.torch_module import from_torch

__all__ = ["from_torch"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("jaxsal_converters.torch_module"), name)
