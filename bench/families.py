"""Do converted networks of many families have PyTorch's logits and maps, and how fast are they?

Every network is exported by torch.export and converted (`jaxsal_converters.from_torch`). Its
logits, the gradient of a voxel's logit, the signed maximum of a lesion with explicit noise, and
Grad-CAM++ at a layer are compared with PyTorch's autograd in float64; PyTorch's own float32 stands
beside it. Times are those of one thread each, in the same minute.
"""

from __future__ import annotations

import argparse
import copy
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxsal
from bench.networks import KINKS_NOTE
from bench.options import timed
from bench.record import Result, Row, shown
from jaxsal.compilation import compiled
from jaxsal.model import Model
from jaxsal.nets.registry import merge

TARGET = 1
NOISE = 0.1  # standard deviation
_TOLERANCE = {"float32": 1e-5, "float64": 1e-9}  # of the peak, where no unit lies at a kink
_LESION = 3  # voxels
_QUICK = ("UNet, 2D",)
_NATIVE = ("UNet", "DynUNet", "SwinUNETR")  # jaxsal has a network of its own for each
_IN_FLOAT64 = tuple(f"float64_{what}" for what in ("logits", "gradient", "maximum", "grad-cam++"))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    from bench.pytorch.families import FAMILIES

    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=[*FAMILIES])
    parser.add_argument(
        "--timed",
        nargs="*",
        choices=FAMILIES,
        default=[*FAMILIES],
        help="families whose speed is measured; default: all",
    )
    parser.add_argument("--rounds", type=int, default=3)


def run(options: argparse.Namespace) -> Result:
    """Compares and measures."""
    names = _QUICK if options.toy else options.families
    timed_names, rounds = (names, 1) if options.toy else (options.timed, options.rounds)
    rows = []
    for name in names:
        peers = make_peers(name)
        with compiled_soon():
            row = {"network": name, **agreement(peers)}
        if name in timed_names:
            with one_thread():
                row |= _speed(peers, rounds)
        if name in timed_names and name in _NATIVE:
            with one_thread():
                row |= _beside_native(peers, rounds)
        rows.append(row)
        jax.clear_caches()  # programs of all families together exhaust a process's mappings
        print({key: shown(value) for key, value in row.items()}, flush=True)
    faults = [
        f"{row['network']}: {column.replace('_', ' ')} is {row[column]:.2g}"
        for row in rows
        for column in _IN_FLOAT64
        if not row[column] <= _TOLERANCE["float64"]
    ]
    notes = [
        "logits, gradient (of a voxel's logit), maximum (signed, of a lesion of "
        f"{_LESION} voxels, two noise samples), grad-cam++: the largest difference from PyTorch's "
        "float64, relative to its peak; torch: PyTorch's own in float32; float64: jaxsal's.",
        KINKS_NOTE,
        "ratios: of PyTorch's time to jaxsal's, one thread each; forward: a pass without a graph; "
        "gradient: a voxel's in a batch of 8, from a graph that is kept. Random weights, small "
        "windows: of networks of useful width they say little.",
        "per native: the time of the network as a graph to that of jaxsal's own network of the "
        "same weights.",
    ]
    return Result("families", {"noise": NOISE, "rounds": rounds}, rows, notes, faults)


class Peers(NamedTuple):
    """A network in PyTorch, its conversion, and what both are asked of.

    Attributes:
        network: float32, at inference.
        model: the conversion.
        image: (X, Y, Z, C); of slices Z is 1.
        noise: (N, X, Y, Z, C).
        voxels: (V, 3) of a lesion.
        layer: path of a module.
    """

    network: Any
    model: Model
    image: np.ndarray
    noise: np.ndarray
    voxels: np.ndarray
    layer: str

    @property
    def labels(self) -> np.ndarray:
        """(X, Y, Z), 1 in the lesion."""
        labels = np.zeros(self.image.shape[:3], np.int32)
        labels[tuple(self.voxels.T)] = 1
        return labels

    def as_torch(self, image: np.ndarray, dtype: Any) -> Any:
        """(1, C, X, Y, Z), or (1, C, X, Y) of a slice, that derivatives are taken of."""
        return self.to_torch(image)[None].to(dtype).requires_grad_(True)

    def to_torch(self, array: np.ndarray) -> Any:
        """(X, Y, Z, C) as (C, X, Y, Z), or (C, X, Y) of a slice."""
        import torch

        array = np.moveaxis(array, -1, 0)
        return torch.from_numpy((array[..., 0] if self._is_flat else array).copy())

    def from_torch(self, tensor: Any) -> np.ndarray:
        """(1, C, …) as (X, Y, Z, C)."""
        array = np.moveaxis(tensor.detach()[0].double().numpy(), 0, -1)
        return array[:, :, None] if self._is_flat else array

    @property
    def _is_flat(self) -> bool:
        return self.image.shape[2] == 1


def make_peers(name: str) -> Peers:
    """The networks of a family with random weights, and a random image with a lesion."""
    from bench.pytorch.families import CHANNELS, FAMILIES, random_network
    from jaxsal_converters import from_torch

    family = FAMILIES[name]
    network = random_network(family)
    random = np.random.default_rng(1)
    size = (*family.size, 1)[:3]
    image = random.standard_normal((*size, CHANNELS), np.float32)
    noise = NOISE * random.standard_normal((2, *image.shape), np.float32)
    middle = [n // 2 for n in size]
    voxels = np.array([[x + step, y, z] for step, (x, y, z) in enumerate([middle] * _LESION)])
    blank = Peers(network, None, image, noise, voxels, family.layer)  # type: ignore[arg-type]
    example = blank.as_torch(image, next(network.parameters()).dtype).detach()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = from_torch(network, example, channels=("flair", "t1"), verify=False)
    return blank._replace(model=model)


def agreement(peers: Peers) -> Row:
    """How far jaxsal and PyTorch's float32 are from PyTorch's float64."""
    import torch

    exact = _by_torch(peers, torch.float64)
    rounded = _by_torch(peers, torch.float32)
    ours = _by_jaxsal(peers)
    row: Row = {"size": " × ".join(map(str, peers.image.shape[:3]))}
    for what, expected in exact.items():
        row[what] = _difference(ours[what], expected)
        row[f"torch_{what}"] = _difference(rounded[what], expected)
    with jax.enable_x64(True):
        for what, found in _in_float64(peers).items():
            row[f"float64_{what}"] = _difference(found, exact[what])
    return row


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _by_jaxsal(peers: Peers) -> dict[str, np.ndarray]:
    field = jaxsal.whole_volume(peers.model)
    maps: dict[str, Any] = {}
    single = np.zeros_like(peers.labels)
    single[tuple(peers.voxels[0])] = 1
    asked = {
        "gradient": (single, np.zeros_like(peers.noise[:1])),
        "maximum": (peers.labels, peers.noise),
    }
    for what, (labels, noise) in asked.items():
        found = jaxsal.smoothgrad(
            field, peers.image, labels, target=TARGET, aggregate="max", noise_samples=noise
        )
        maps[what] = found.dense(1)
    heat = jaxsal.gradcam_plus_plus(
        peers.model,
        peers.image,
        peers.labels,
        layer=peers.layer,
        target=TARGET,
        alignment="half-pixel",
    )
    logits = np.asarray(peers.model(peers.image[None])[0])
    return {"logits": logits, **maps, "grad-cam++": heat.dense(1)}


def _in_float64(peers: Peers) -> dict[str, np.ndarray]:
    """The same of the network itself, without the engine, whose maps are float32."""
    parameters = {
        k: jnp.asarray(np.asarray(v, np.float64)) for k, v in peers.model.parameters.items()
    }
    network = merge(peers.model.config, parameters)
    layer = peers.model.resolve_layer(peers.layer)
    _, shapes = jax.eval_shape(network, jnp.asarray(peers.image[None], jnp.float64), {})
    nothing = jnp.zeros(shapes[layer].shape)

    @jax.jit
    def at(image: jax.Array, weights: jax.Array) -> tuple[jax.Array, ...]:
        """Logits, activations, and the gradients of weighted logits by image and layer."""

        def asked(image: jax.Array, change: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits, activations = network(image, {layer: change})
            return logits[..., TARGET], activations[layer]

        found, pull_back = jax.vjp(asked, image, nothing)
        return network(image, {})[0], found[1], *pull_back((weights, jnp.zeros_like(nothing)))

    def of(image: np.ndarray, voxels: np.ndarray) -> list[np.ndarray]:
        weights = jnp.zeros((1, *image.shape[:-1])).at[(0, *voxels.T)].set(1)
        return [np.asarray(one[0]) for one in at(jnp.asarray(image[None], jnp.float64), weights)]

    singles = [peers.voxels[i : i + 1] for i in range(len(peers.voxels))]
    logits, _, gradient, _ = of(peers.image, singles[0])
    noisy = [[of(peers.image + noise, voxel)[2] for voxel in singles] for noise in peers.noise]
    _, activations, _, by_layer = of(peers.image, peers.voxels)
    return {
        "logits": logits,
        "gradient": gradient,
        "maximum": np.mean([_signed_maximum(np.stack(rows)) for rows in noisy], 0),
        "grad-cam++": _weighted(peers, *(peers.to_torch(a) for a in (activations, by_layer))),
    }


def _signed_maximum(rows: np.ndarray) -> np.ndarray:
    """(V, …) -> (…): what is largest in magnitude."""
    largest: np.ndarray = np.take_along_axis(rows, np.abs(rows).argmax(0)[None], 0)[0]
    return largest


def _by_torch(peers: Peers, dtype: Any) -> dict[str, np.ndarray]:
    """The same by autograd: (X, Y, Z, K), (X, Y, Z, C) twice, (X, Y, Z)."""
    network = copy.deepcopy(peers.network).to(dtype)
    (gradient,) = _gradients(peers, network, peers.image, peers.voxels[:1], dtype)
    maps = []
    for noise in peers.noise:
        rows = _gradients(peers, network, peers.image + noise, peers.voxels, dtype)
        maps.append(_signed_maximum(rows))
    logits = _logits(network, peers.as_torch(peers.image, dtype))
    return {
        "logits": peers.from_torch(logits),
        "gradient": gradient,
        "maximum": np.mean(maps, 0),
        "grad-cam++": _heat_map(peers, network, dtype),
    }


def _logits(network: Any, image: Any) -> Any:
    """The first tensor that a network returns."""
    import torch

    return torch.utils._pytree.tree_leaves(network(image))[0]


def _gradients(
    peers: Peers, network: Any, image: np.ndarray, voxels: np.ndarray, dtype: Any
) -> np.ndarray:
    """(V, X, Y, Z, C), one backward pass each."""
    import torch

    x = peers.as_torch(image, dtype)
    logits = _logits(network, x)[0, TARGET]
    rows = [
        torch.autograd.grad(logits[tuple(voxel[: logits.ndim])], x, retain_graph=True)[0]
        for voxel in voxels.tolist()
    ]
    return np.stack([peers.from_torch(row) for row in rows])


def _heat_map(peers: Peers, network: Any, dtype: Any) -> np.ndarray:
    """Grad-CAM++ of the lesion."""
    import torch

    kept: list[Any] = []

    def keep(module: object, inputs: object, output: Any) -> None:
        kept.append(output)

    handle = network.get_submodule(peers.layer).register_forward_hook(keep)
    logits = _logits(network, peers.as_torch(peers.image, dtype))[0, TARGET]
    handle.remove()
    score = sum(logits[tuple(voxel[: logits.ndim])] for voxel in peers.voxels.tolist())
    (gradient,) = torch.autograd.grad(score, kept[-1])
    return _weighted(peers, kept[-1].detach()[0], gradient[0])


def _weighted(peers: Peers, a: Any, g: Any) -> np.ndarray:
    """Eqs. 7-10 of activations and gradients (C, …), on the image's grid by interpolation."""
    import torch

    first, second = 2 * g**2, a.sum(tuple(range(1, a.ndim)), keepdim=True) * g**3
    sound = (first + second).abs() > 1e-3 * (first + second.abs())
    alpha = torch.where(sound, g**2 / torch.where(sound, first + second, 1), 0)
    small = torch.relu((alpha * torch.relu(g) * a).sum(0))
    mode = "trilinear" if small.ndim == 3 else "bilinear"
    size = peers.image.shape[: small.ndim]
    whole = torch.nn.functional.interpolate(small[None, None], size, mode=mode)
    return peers.from_torch(whole)[..., 0]


@contextmanager
def compiled_soon() -> Iterator[None]:
    """Within the block XLA optimises little, which changes no number."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@contextmanager
def one_thread() -> Iterator[None]:
    """All threads of this process on one core within the block."""
    import torch

    threads, tasks = torch.get_num_threads(), Path("/proc/self/task")
    pinned = tasks.is_dir() and hasattr(os, "sched_setaffinity")
    cores = os.sched_getaffinity(0) if pinned else set()
    torch.set_num_threads(1)
    _pin(tasks, {max(cores)} if cores else set())
    try:
        yield
    finally:
        _pin(tasks, cores)
        torch.set_num_threads(threads)


def _pin(tasks: Path, cores: set[int]) -> None:
    for task in tasks.iterdir() if cores else ():
        os.sched_setaffinity(int(task.name), cores)


def _speed(peers: Peers, rounds: int, voxels: int = 8) -> Row:
    """Ratios of PyTorch's times to jaxsal's, one after the other in each round."""
    import torch

    network = peers.network
    x = peers.as_torch(peers.image, torch.float32)
    logit = _logits(network, x)[0, TARGET][tuple(peers.voxels[0][: x.ndim - 2].tolist())]

    def their_forward() -> None:
        with torch.inference_mode():
            network(x)

    def their_gradients() -> None:
        for _ in range(voxels):
            torch.autograd.grad(logit, x, retain_graph=True)

    forward, gradients = _asked_of(peers, peers.model, voxels)
    return {
        "forward_ratio": _ratio(their_forward, forward, rounds),
        "gradient_ratio": _ratio(their_gradients, gradients, rounds),
    }


def _beside_native(peers: Peers, rounds: int, voxels: int = 8) -> Row:
    """Ratios of the graph's times to those of jaxsal's own network."""
    from jaxsal_converters.modules import model_from_module

    native = _asked_of(peers, model_from_module(peers.network, verify=False), voxels)
    pairs = zip(_asked_of(peers, peers.model, voxels), native, strict=True)
    forward, gradients = (_ratio(graph, own, rounds) for graph, own in pairs)
    return {"forward_per_native": forward, "gradient_per_native": gradients}


def _asked_of(peers: Peers, model: Model, voxels: int) -> tuple[Callable[[], Any], ...]:
    """A forward pass, and the gradients of a voxel's logit, that many times in one batch."""
    batch = jnp.asarray(peers.image[None])
    _, pull_back = jax.vjp(lambda x: model.function(model.parameters, x), batch)
    pull_backs = compiled(jax.vmap(pull_back))
    shape = (voxels, 1, *peers.image.shape[:3], model.config.out_channels)
    cotangents = jnp.zeros(shape).at[:, 0, *peers.voxels[0], TARGET].set(1.0)
    forward = compiled(model.function)
    return lambda: forward(model.parameters, batch), lambda: pull_backs(cotangents)


def _ratio(theirs: Callable[[], Any], ours: Callable[[], Any], rounds: int) -> float:
    """Of the least times; the first run of each does not count."""
    theirs(), ours()
    times = [(timed(theirs)[1], timed(ours)[1]) for _ in range(rounds + 1)]
    return min(t for t, _ in times) / min(o for _, o in times)
