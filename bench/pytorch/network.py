"""MONAI's network with the weights of a `jaxsal.Model`, and where PyTorch runs it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from jaxsal.devices import available_cores
from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.nets.dynunet_config import DynUNetConfig
from jaxsal.nets.swin_unetr_config import SwinUNETRConfig
from jaxsal.nets.unet_config import UNetConfig
from jaxsal_converters import dynunet, swin_unetr, unet
from jaxsal_converters.rules import Rule

_SOURCES: dict[str, tuple[str, Callable[[Any], dict[str, Rule]]]] = {
    UNetConfig.kind: ("UNet", unet.parameter_rules),
    DynUNetConfig.kind: ("DynUNet", dynunet.parameter_rules),
    SwinUNETRConfig.kind: ("SwinUNETR", swin_unetr.parameter_rules),
}
_REBUILT = ("num_batches_tracked", "relative_position_index")


def torch_network(model: Model) -> torch.nn.Module:
    """MONAI's network that computes what the model does, float32, in evaluation mode, on CPU.

    Its parameters require gradients, as a freshly built network's do.
    """
    if model.config.kind not in _SOURCES:
        raise InputError(f"there is no peer for {model.config.kind!r}, only for {list(_SOURCES)}")
    class_name, rules = _SOURCES[model.config.kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.networks import nets
    network: torch.nn.Module = getattr(nets, class_name)(**model.config.to_arguments())
    state = {}
    for name, rule in rules(model.config).items():
        array = np.asarray(model.parameters[name]).transpose(np.argsort(rule.axes))
        state[rule.key] = torch.from_numpy(array.reshape(rule.shape).copy())
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    entries = network.state_dict()  # some of them several times
    loaded = {entries[key].data_ptr() for key in state}
    absent = [key for key in missing if entries[key].data_ptr() not in loaded]
    assert all(key.endswith(_REBUILT) for key in absent), absent
    return network.eval()


def frozen(
    network: torch.nn.Module,
    memory_format: torch.memory_format = torch.contiguous_format,
    dtype: torch.dtype = torch.float32,
) -> torch.nn.Module:
    """A copy whose parameters require no gradients, on the device."""
    copied = copy.deepcopy(network).requires_grad_(False)
    copied = copied.to(torch_device(), dtype)
    return copied.to(memory_format=memory_format)  # type: ignore[call-overload]


def torch_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise() -> None:
    """Waits for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def prepare(precision: str) -> None:
    """All cores, and the arithmetic that jaxsal uses under this name."""
    torch.set_num_threads(available_cores())
    tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True


def describe() -> str:
    """The device that PyTorch runs on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"
