"""h and t of Eq. 7: second and third derivatives of y' along every unit vector of a layer.

"exact" takes them along one unit vector after the other. "stochastic" estimates all at once from
random probes z with independent entries of mean 0, variance 1 and third moment 1: with H the
Hessian and T the third derivatives,

    E[z_i (H z)_i] = H_ii,    E[z_i T(z, z)_i] = T_iii,

since every other term has a factor whose mean is 0 (for H: Bekas et al. 2007). Entries are the
golden ratio φ with probability (5 - √5) / 10 and -1/φ otherwise, the two numbers for which
z² = z + 1; a symmetric distribution would lose the third derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.saliency.aggregate import standard_error, welford_add

if TYPE_CHECKING:
    from jaxsal.saliency.gradcam.upper_network import UpperNetwork

Report = Callable[[int], None]

_GOLDEN = (1 + math.sqrt(5)) / 2
_SHARE_OF_GOLDEN = (5 - math.sqrt(5)) / 10


class Diagonals(NamedTuple):
    """Of one domain: (x, y, z, K) float32 each.

    Attributes:
        second: h.
        third: t.
        second_error: standard error of h; None where it is exact.
        third_error: standard error of t; None where it is exact.
    """

    second: np.ndarray
    third: np.ndarray
    second_error: np.ndarray | None = None
    third_error: np.ndarray | None = None

    def trusted(self) -> tuple[np.ndarray, np.ndarray]:
        """H and t with their noise damped, for a quotient of them.

        Estimates are multiplied by 1 - (standard error / estimate)², 0 if that is negative: what
        is below its standard error is taken for zero, as in the closed form, and what is certain
        is kept.
        """
        if self.second_error is None or self.third_error is None:
            return self.second, self.third
        return _shrunken(self.second, self.second_error), _shrunken(self.third, self.third_error)

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> Diagonals:
        """The results of a function for each of the arrays."""
        return Diagonals(*(None if a is None else function(a) for a in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class UpperAtWindow:
    """The network above a layer, at one window.

    Attributes:
        upper: the network above the layer.
        parameters: of the network, on the device to compute on.
        window: (X, Y, Z, C), on that device.
    """

    upper: UpperNetwork
    parameters: Any
    window: jax.Array


def exact(
    at: UpperAtWindow,
    domains: np.ndarray,
    wanted: np.ndarray,
    batch: int,
    report: Report = lambda count: None,
) -> list[Diagonals]:
    """Derivatives along one unit vector after the other, of all domains; zero where not wanted.

    Args:
        at: what to differentiate.
        domains: (B, X, Y, Z) weights of the logits in each sum.
        wanted: (B, x, y, z, K) bool; a unit vector that one domain wants is computed for all.
        batch: unit vectors at once.
        report: called with the number that is done, after each batch.
    """
    count = len(domains)
    rows = np.minimum(np.arange(1 << (count - 1).bit_length()), count - 1)
    sums = jnp.asarray(domains[rows])  # a power of two, so that windows share compiled programs
    entries = np.flatnonzero(wanted.any(0))
    found = np.zeros((2, count, wanted[0].size), np.float32)
    for first in range(0, len(entries), batch):
        chosen = entries[first : first + batch]
        filled = np.resize(chosen, batch)  # the last batch repeats its first ones
        derivatives = at.upper.along_units(
            at.parameters, at.window, sums, jnp.asarray(filled, jnp.int32)
        )
        values = np.asarray(derivatives)[:, : len(chosen), :count]
        found[:, :, chosen] = values.swapaxes(1, 2)
        report(len(chosen))
    second, third = found.reshape(2, *wanted.shape) * wanted
    return [Diagonals(h, t) for h, t in zip(second, third, strict=True)]


def stochastic(
    at: UpperAtWindow,
    domain: np.ndarray,
    shape: tuple[int, ...],
    probes: int,
    seed: int,
    batch: int,
    report: Report = lambda count: None,
) -> Diagonals:
    """Unbiased estimates of the derivatives: means over random probes, with standard errors.

    Args:
        at: what to differentiate.
        domain: (X, Y, Z) weights of the logits in the sum.
        shape: (x, y, z, K) of the layer.
        probes: number of probes, 2 or more.
        seed: of the probes.
        batch: probes at once; results depend on it by rounding only.
        report: called with the number that is done, after each batch.
    """
    sums, weights = _Sums(), jnp.asarray(domain)
    batch = min(batch, probes)
    for first in range(0, probes, batch):
        count = min(batch, probes - first)
        drawn = draw_probes(shape, seed, jnp.arange(first, first + batch))  # the last are left out
        products = at.upper.along_probes(at.parameters, at.window, weights, drawn)
        for probe, *of_probe in list(zip(drawn, *products, strict=True))[:count]:
            sums.add(probe, *of_probe)
        report(count)
    return Diagonals(*(np.asarray(array) for array in sums.means_and_errors()))


def draw_probes(shape: tuple[int, ...], seed: int, numbers: jax.Array) -> jax.Array:
    """The probes of these numbers (D,), each the same in any batch: (D, *shape) float32."""

    def draw(number: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed), number)
        golden = jax.random.bernoulli(key, _SHARE_OF_GOLDEN, shape)
        return jnp.where(golden, _GOLDEN, -1 / _GOLDEN)

    return jax.vmap(draw)(numbers)


def _shrunken(estimate: np.ndarray, error: np.ndarray) -> np.ndarray:
    certain = np.abs(estimate) > error
    noise = np.divide(error, estimate, out=np.ones_like(error), where=certain)
    return estimate * (1 - noise**2)


class _Sums:
    """Running sums of z · Hz and z · T(z, z), with their squared deviations."""

    def __init__(self) -> None:
        self._count = 0
        self._states: tuple[tuple[jax.Array, jax.Array], ...] = ()

    def add(self, probe: jax.Array, *products: jax.Array) -> None:
        """Takes a probe and its products, (x, y, z, K) each."""
        states = self._states or ((jnp.zeros_like(products[0]),) * 2,) * len(products)
        self._states = tuple(
            _add(*state, probe * product, self._count)
            for state, product in zip(states, products, strict=True)
        )
        self._count += 1

    def means_and_errors(self) -> tuple[jax.Array, ...]:
        """Means, then their standard errors."""
        means = [total / self._count for total, _ in self._states]
        errors = [standard_error(squares, self._count) for _, squares in self._states]
        return (*means, *errors)


_add = jax.jit(welford_add)
