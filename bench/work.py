"""Operations and bytes of a forward pass and of a single voxel's gradient, by hand count."""

from __future__ import annotations

from bench.architectures import operations_of
from bench.operations import Effort, total
from bench.receptive import pull_back_costs
from jaxsal.errors import InputError
from jaxsal.nets.registry import NetworkConfig
from jaxsal.types import Triple


def forward_work(config: NetworkConfig, window: Triple) -> Effort:
    """A forward pass of one window."""
    return total(operation.forward for operation in operations_of(config, window))


def dense_work(config: NetworkConfig, window: Triple) -> Effort:
    """A pull-back of one cotangent through the whole window."""
    return total(operation.back for operation in operations_of(config, window))


def local_work(config: NetworkConfig) -> Effort:
    """A pull-back of one voxel through the cells that it depends on, on average over voxels.

    Raises:
        InputError: they are counted for a UNet without residual units and with batch norm only.
    """
    costs = pull_back_costs(config)
    return total(Effort(2 * cost.macs, 0, cost.values, cost.weights) for cost in costs)


def pull_back_work(config: NetworkConfig, window: Triple) -> Effort:
    """The local one where voxels have neighbourhoods, else the dense one."""
    try:
        return local_work(config)
    except InputError:
        return dense_work(config, window)


def gradient_work(
    config: NetworkConfig, window: Triple, *, forwards: float, pull_backs: float = 1
) -> Effort | None:
    """A single voxel's gradient.

    Args:
        config: the architecture.
        window: size of the windows.
        forwards: its share of the windows' forward passes.
        pull_backs: one from each window that reaches the voxel, on average.

    Returns:
        None if the architecture is none that is counted.
    """
    try:
        forward, back = forward_work(config, window), pull_back_work(config, window)
    except InputError:
        return None
    return total([forward.times(forwards), back.times(pull_backs)])
