"""MONAI's network with the weights of a `jaxsal.Model`, and where PyTorch runs it."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import torch

from bench.record import available_cores
from jaxsal.errors import InputError
from jaxsal.model import Model
from jaxsal.nets.unet_config import UNetConfig
from jaxsal_converters.unet_keys import parameter_rules


def torch_network(model: Model) -> torch.nn.Module:
    """MONAI's ``UNet`` that computes what the model does, float32, in evaluation mode, on CPU.

    Its parameters require gradients, as a freshly built network's do.
    """
    if not isinstance(model.config, UNetConfig):
        raise InputError("the peers are built for MONAI's UNet only")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.networks.nets import UNet
    network = UNet(**model.config.to_arguments()).eval()
    state = {}
    for name, rule in parameter_rules(model.config).items():
        array = np.asarray(model.parameters[name]).transpose(np.argsort(rule.axes))
        state[rule.key] = torch.from_numpy(array.reshape(rule.shape).copy())
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    return network


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
