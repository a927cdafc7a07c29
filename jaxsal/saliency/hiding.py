"""Logits of lesions in images of which parts are hidden: infilled with something else.

Forward passes only. A window that does not see what is hidden gives the logits that it gives
anyway, so it is not run again. All passes of a scan go through one compiled program, whichever
lesions they are of and whatever they hide.

Letters: X Y Z the image's grid, x y z a part of it, C channels, K outputs, V voxels of a lesion,
B windows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.box import Box
from jaxsal.compilation import compiled
from jaxsal.errors import InputError
from jaxsal.field.plan import LogitField, WindowPlan
from jaxsal.saliency.batches import in_batches
from jaxsal.saliency.memory import GIB, working_bytes
from jaxsal.saliency.memory_plan import power_of_two_within
from jaxsal.shapes import Shapes
from jaxsal.types import LogitFunction, Triple

_FEWEST_VOXELS = 128  # so that small lesions share what is compiled
_MOST_ON_CPU, _MOST_ELSEWHERE = 1, 16  # windows at once that pay

Read = Callable[[np.ndarray], np.ndarray]


class Hiding(NamedTuple):
    """What is hidden of an image.

    Attributes:
        box: the part of the image that holds it.
        where: (x, y, z) bool, which voxels of the box.
        channels: (C,) bool, in which channels.
    """

    box: Box
    where: np.ndarray
    channels: np.ndarray


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of one lesion.

    Attributes:
        voxels: (V, 3) of the lesion, in the image.
        infill: (X, Y, Z, C), what takes the place of what is hidden.
        hidings: what is hidden, one after the other.
    """

    voxels: np.ndarray
    infill: np.ndarray
    hidings: Sequence[Hiding]


class _Pass(NamedTuple):
    question: int
    window: int
    hiding: int  # -1: none
    image: jax.Array  # (x, y, z, C)
    infill: jax.Array  # the same
    hidden: np.ndarray  # (x, y, z) bool
    channels: np.ndarray  # (C,) bool
    voxels: np.ndarray  # (room, 3) in the window


def answers(
    field: LogitField,
    image: np.ndarray,
    questions: Iterable[Question],
    read: Read,
    *,
    most_voxels: int,
    batch: int,
    on_passes: Callable[[int], None] = lambda count: None,
) -> Iterator[np.ndarray]:
    """What is read off the logits of lesions as they are, and with parts of the image hidden.

    Args:
        field: logits as a function of the image; those of its windows are blended as it does.
        image: (X, Y, Z, C), as the network takes it.
        questions: made when they are needed.
        read: from a lesion's logits (V, K) to what is wanted of them, (...); linear.
        most_voxels: of any of the lesions.
        batch: windows at once.
        on_passes: called with how many more windows are done.

    Yields:
        Of each question (1 + H, ...): of the image as it is, and with each of H parts hidden.

    Raises:
        InputError: there is no memory for a single window.
    """
    asked: dict[int, tuple[Question, WindowPlan]] = {}
    room = room_for(most_voxels)

    def compute(part: Sequence[_Pass]) -> jax.Array:
        logits = infilled_logits(field.function, field.parameters, *_stacked(part))
        return at_voxels(logits, np.stack([each.voxels for each in part]))

    current, plain, found = -1, np.zeros(0), np.zeros(0)
    for part, logits in in_batches(_passes(field, image, questions, room, asked), batch, compute):
        for each, own in zip(part, logits, strict=True):
            question, plan = asked[each.question]
            weights = plan.weights[:, each.window, None].astype(np.float64)
            used = own[: len(question.voxels)]
            reading = np.asarray(read(np.where(weights > 0, weights * used, 0)))
            if each.question > current:
                if current >= 0:
                    del asked[current]
                    yield found
                current = each.question
                found = np.zeros((1 + len(question.hidings), *reading.shape))
            if each.hiding < 0:
                plain = reading
                found += plain  # of windows that do not see what is hidden
            else:
                found[1 + each.hiding] += reading - plain
        on_passes(len(part))
    if current >= 0:
        yield found


def _passes(
    field: LogitField,
    image: np.ndarray,
    questions: Iterable[Question],
    room: int,
    asked: dict[int, tuple[Question, WindowPlan]],
) -> Iterator[_Pass]:
    """Window by window: without anything hidden, then with all that the window sees of it."""
    everywhere = np.ones(image.shape[-1], bool)
    for number, question in enumerate(questions):
        plan = field.plan(_shape(image), question.voxels)
        asked[number] = question, plan  # until it is answered: masks take memory
        for window, start in enumerate(plan.starts - plan.before):
            place = Box.at(start, plan.size)
            seen = jnp.asarray(place.cut(image, beyond=0))
            infill = jnp.asarray(place.cut(question.infill, beyond=0))
            voxels = np.zeros((room, 3), np.int32)  # those beyond the window have no weight in it
            inside = np.clip(question.voxels - start, 0, np.array(plan.size) - 1)
            voxels[: len(inside)] = inside
            make = partial(_Pass, number, window, image=seen, infill=infill, voxels=voxels)
            yield make(-1, hidden=np.zeros(plan.size, bool), channels=everywhere)
            for at in _seen(plan, question, window):
                hiding = question.hidings[at]
                hidden = _in_window(hiding, place)
                yield make(at, hidden=hidden, channels=hiding.channels)


def passes_of(plan: WindowPlan, question: Question) -> int:
    """How many windows a question takes; infills do not matter."""
    windows = range(len(plan.starts))
    return sum(1 + len(_seen(plan, question, window)) for window in windows)


def _seen(plan: WindowPlan, question: Question, window: int) -> list[int]:
    """What of the hidings changes the lesion's logits on a window."""
    sight = plan.sight(question.voxels, np.arange(len(question.voxels)), window)
    return [at for at, hiding in enumerate(question.hidings) if not (hiding.box & sight).is_empty]


def _in_window(hiding: Hiding, place: Box) -> np.ndarray:
    part = hiding.box & place
    where: np.ndarray = part.seen_from(hiding.box.start).cut(hiding.where)
    return part.seen_from(place.start).place(where, place.shape)


def _stacked(part: Sequence[_Pass]) -> tuple[Any, ...]:
    return (
        tuple(each.image for each in part),
        tuple(each.infill for each in part),
        np.stack([each.hidden for each in part]),
        np.stack([each.channels for each in part]),
    )


def _shape(image: np.ndarray) -> Triple:
    x, y, z = image.shape[:3]
    return x, y, z


@partial(compiled, static_argnames="function")
def infilled_logits(
    function: LogitFunction,
    parameters: Any,
    images: tuple[jax.Array, ...],
    infills: tuple[jax.Array, ...],
    hidden: jax.Array,
    channels: jax.Array,
) -> jax.Array:
    """Logits (B, x, y, z, K) of B windows, infilled where they are hidden.

    Args:
        function: the network.
        parameters: its first argument.
        images: B windows (x, y, z, C).
        infills: the same.
        hidden: (B, x, y, z) bool.
        channels: (B, C) bool, in which channels.
    """
    where = hidden[..., None] & channels[:, None, None, None]
    return function(parameters, jnp.where(where, jnp.stack(infills), jnp.stack(images)))


def room_for(most_voxels: int) -> int:
    """For how many voxels reading is compiled, so that lesions of up to so many share it."""
    return max(_FEWEST_VOXELS, 1 << (most_voxels - 1).bit_length())


@jax.jit
def at_voxels(logits: jax.Array, voxels: jax.Array) -> jax.Array:
    """Logits (B, V, K) of (B, x, y, z, K) at voxels (B, V, 3)."""
    x, y, z = jnp.moveaxis(voxels, -1, 0)
    return logits[jnp.arange(len(voxels))[:, None], x, y, z]


def batch_within(field: LogitField, window: Triple, channels: int, budget: int) -> int:
    """How many windows go through at once within so many bytes.

    Args:
        field: whose network.
        window: size of a window.
        channels: of the image.
        budget: in bytes, on the current device.

    Raises:
        InputError: a single window takes more.
    """
    one, two = (_bytes(field, (size, *window, channels)) for size in (1, 2))
    if one > budget:
        raise InputError(
            f"{budget / GIB:.2f} GiB are too little for one window of {window}, which takes about "
            f"{one / GIB:.2f} GiB: give more (--memory), or a smaller window (--roi)"
        )
    on_cpu = jax.local_devices()[0].platform == "cpu"
    fitting = 1 + (budget - one) // max(two - one, 1)
    return min(power_of_two_within(fitting), _MOST_ON_CPU if on_cpu else _MOST_ELSEWHERE)


def _bytes(field: LogitField, windows: tuple[int, ...]) -> int:
    batch, *shape = windows
    parts = batch * (jax.ShapeDtypeStruct(tuple(shape), jnp.float32),)
    hidden = jax.ShapeDtypeStruct(windows[:-1], bool)
    channels = jax.ShapeDtypeStruct((batch, shape[-1]), bool)
    parameters = Shapes.of(field.parameters).structs()
    run = partial(infilled_logits, field.function)
    return working_bytes(run, parameters, parts, parts, hidden, channels)
