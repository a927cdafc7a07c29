"""Writes variants of patients to train on: lesions added to them, and what is none but looks alike.

``python -m bench.lesion_variants patients.tsv --masks FOLDER --out DIR``, from the repository's
root; used for nothing but the network of jaxsal/experiments/examples/README.md. Each variant is a
scan with

- *lesions* in the shapes and at the places of other patients' masks, where that is white matter:
  bright on FLAIR, dark on T1, labelled;
- *decoys*, as many of each kind, which are not labelled: lesions outside the head; lesions on the
  brain's rim that are no darker on T1; and four times as many single voxels;
- *one-channel* decoys in white matter, bright on FLAIR or dark on T1 alone, not labelled;
- *cut-outs*: all is zero around an added lesion, which is then not labelled.

The networks there were trained on ``lesions`` or ``decoys`` and asked by::

    variants="python -m bench.lesion_variants patients.tsv --masks masks"
    $variants --out lesions
    $variants --out decoys --decoys 20 --cut-outs 6
    jaxsal train bench/lesion_variants.toml --out retrained  # whose `cohort` is either
    maps="--field whole --samples 2 --voxels-per-lesion 8"
    asked="retrained/best patients.tsv --out moved"
    jaxsal experiment groups $asked $maps
    jaxsal experiment synthetic $asked $maps --volume 50:300 --lesions 3
    jaxsal experiment context $asked --volume 50:300

Masks lie on the scans' grid. Letters: X Y Z spatial axes, C channels (FLAIR, T1).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from jaxsal.box import Box
from jaxsal.demo.cohort import TABLE
from jaxsal.grid import Grid
from jaxsal.inputs.manifest import read_manifest
from jaxsal.lesions import components
from jaxsal.volumes import read_mask, read_volume, write_volume

CHANNELS = ("flair", "t1")
FILES = ("FLAIR.nii.gz", "T1.nii.gz", "lesions.nii.gz")
LARGEST = 600  # mm³, of the lesions whose shapes are taken
MARGIN = 3  # voxels around a shape, to which its soft border reaches
MASKS = 3  # patients whose lesions a variant has

Array = np.ndarray
Range = tuple[float, float]

CONTRAST: Range = (0.6, 1.9)  # of a lesion on FLAIR, in standard deviations of the head
DARKER: Range = (0.2, 0.7)  # its contrast on T1, as a share of that
NOT_DARKER: Range = (-0.4, 0.0)


class Kinds(NamedTuple):
    """How many of each a variant has, at most."""

    lesions: int = 40
    decoys: int = 0
    one_channel: int = 0
    cut_outs: int = 0


class Shape(NamedTuple):
    """A lesion of a mask: its box, and its voxels (x, y, z) bool in it, both with a margin."""

    box: Box
    voxels: Array

    def moved(self, centre: Array) -> Shape:
        """The same around another voxel (3,)."""
        return Shape(
            Box.at(centre - np.array(self.voxels.shape) // 2, self.voxels.shape), self.voxels
        )


def shapes_of(mask: Array, grid: Grid) -> list[Shape]:
    """The lesions of a mask (X, Y, Z) bool, but large ones and those at the scan's border."""
    labels = components(mask, grid.voxel_volume)
    found = []
    for label, place in enumerate(ndimage.find_objects(labels), start=1):
        inner = Box([p.start for p in place], [p.stop for p in place])
        box = Box([n - MARGIN for n in inner.start], [n + MARGIN for n in inner.stop])
        voxels = np.pad(inner.cut(labels) == label, MARGIN)
        if voxels.sum() * grid.voxel_volume <= LARGEST and box.lies_within(mask.shape):
            found.append(Shape(box, voxels))
    return found


class Canvas:
    """A scan that is being changed.

    Attributes:
        images: (X, Y, Z, C) float32.
        lesions: (X, Y, Z) bool.
        head: (X, Y, Z) bool, what was not zero.
        taken: (X, Y, Z) bool, where no lesion is added.
    """

    def __init__(self, images: Array, lesions: Array, rng: np.random.Generator) -> None:
        self.images, self.lesions, self._rng = images.copy(), lesions.copy(), rng
        self.head: Array = np.any(images, axis=-1)
        self._mean, self._deviation = images[self.head].mean(0), images[self.head].std(0)
        dark: Array = images[..., 1] < self._mean[1] - 0.5 * self._deviation[1]
        self.taken: Array = ndimage.binary_dilation(lesions, iterations=3) | dark
        self.taken |= ~ndimage.binary_erosion(self.head, iterations=2)

    def shapes_in_white_matter(self, shapes: Sequence[Shape], most: int) -> Iterator[Shape]:
        """Those, in random order, that lie where nothing lies yet."""
        for index in self._rng.permutation(len(shapes)).tolist():
            if most <= 0:
                return
            shape = shapes[index]
            if self.taken[shape.box.slices][shape.voxels].mean() <= 0.1:
                yield shape
                self.taken[shape.box.slices] |= ndimage.binary_dilation(shape.voxels, iterations=3)
                most -= 1

    def paint(self, shape: Shape, flair: float, t1: float, within: Array | None = None) -> None:
        """Adds contrasts, in standard deviations of the head, to a lesion with soft borders.

        Args:
            shape: of the lesion.
            flair: contrast on FLAIR.
            t1: contrast on T1.
            within: which voxels of the shape's box may change; by default those of the head.
        """
        within = self.head[shape.box.slices] if within is None else within
        soft = ndimage.gaussian_filter(shape.voxels.astype(np.float32), self._between(0.4, 0.9))
        noise = ndimage.gaussian_filter(self._rng.standard_normal(soft.shape, np.float32), 1)
        weights = np.minimum(1.15 * soft, 1) * (1 + 0.6 * noise) * within
        change = np.array([flair, t1], np.float32) * self._deviation
        self.images[shape.box.slices] += weights[..., None] * change

    def add_lesion(self, shape: Shape) -> None:
        """Bright on FLAIR, dark on T1."""
        contrast = self._between(*CONTRAST)
        self.paint(shape, contrast, -contrast * self._between(*DARKER))
        self.lesions[shape.box.slices] |= shape.voxels

    def add_in_one_channel(self, shape: Shape) -> None:
        """Bright on FLAIR or dark on T1."""
        contrast = self._between(*CONTRAST)
        self.paint(shape, *((contrast, 0.0) if self._rng.random() < 0.5 else (0.0, -contrast)))

    def add_outside(self, shape: Shape) -> None:
        """A lesion with 0 to 2 voxels of white matter around it, where nothing of the head is."""
        width = int(self._rng.integers(3))
        part = ndimage.binary_dilation(shape.voxels, iterations=width) if width else shape.voxels
        around = self._mean + np.array([0.1, 0.6]) * self._deviation
        self.images[shape.box.slices][part] = around
        contrast = self._between(*CONTRAST)
        self.paint(shape, contrast, -contrast * self._between(*DARKER), within=part)

    def add_on_rim(self, shape: Shape) -> None:
        """Bright on FLAIR, and no darker on T1."""
        contrast = self._between(*CONTRAST)
        self.paint(shape, contrast, -contrast * self._between(*NOT_DARKER))

    def add_voxels(self, count: int) -> None:
        """Single bright voxels in the head, away from lesions."""
        free = np.argwhere(self.head & ~ndimage.binary_dilation(self.lesions, iterations=3))
        chosen = free[self._rng.integers(len(free), size=count)]
        change = self._rng.uniform((1, -1), (3, 0.5), (count, 2)) * self._deviation
        self.images[tuple(chosen.T)] += change.astype(np.float32)

    def cut_out(self, shape: Shape) -> None:
        """Sets all within 8 to 24 voxels to zero but the lesion and 0 to 3 voxels around it."""
        radius, width = int(self._rng.integers(8, 25)), int(self._rng.integers(4))
        part = ndimage.binary_dilation(shape.voxels, iterations=width) if width else shape.voxels
        centre = [(a + b) // 2 for a, b in zip(shape.box.start, shape.box.stop, strict=True)]
        x, y, z = np.ogrid[tuple(slice(n) for n in self.lesions.shape)]
        squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        ball = squared <= radius**2
        self.images[ball & ~shape.box.place(part, ball.shape)] = 0
        self.lesions[ball] = False

    def free_places(self, allowed: Array, shapes: Sequence[Shape], most: int) -> Iterator[Shape]:
        """Random shapes at random voxels of a region, where no lesion is."""
        voxels = np.argwhere(allowed)
        for _ in range(most if len(voxels) else 0):
            shape = shapes[int(self._rng.integers(len(shapes)))]
            shape = shape.moved(voxels[self._rng.integers(len(voxels))])
            if shape.box.lies_within(allowed.shape) and not self.lesions[shape.box.slices].any():
                yield shape

    def _between(self, low: float, high: float) -> float:
        return float(self._rng.uniform(low, high))


def make_variant(
    rng: np.random.Generator,
    images: Array,
    lesions: Array,
    masks: Sequence[Sequence[Shape]],
    kinds: Kinds,
) -> tuple[Array, Array]:
    """A changed scan.

    Args:
        rng: of all that is drawn.
        images: (X, Y, Z, C) float32, zero outside the head.
        lesions: (X, Y, Z) bool.
        masks: the lesions of each of the other patients.
        kinds: how many of each are added.

    Returns:
        Images and lesions as above.
    """
    canvas = Canvas(images, lesions, rng)
    chosen = rng.permutation(len(masks))[:MASKS].tolist()
    added = []
    for shape in canvas.shapes_in_white_matter(
        [s for m in chosen for s in masks[m]], kinds.lesions
    ):
        canvas.add_lesion(shape)
        added.append(shape)
    every = [shape for mask in masks for shape in mask]
    for shape in canvas.shapes_in_white_matter(every, kinds.one_channel):
        canvas.add_in_one_channel(shape)
    if kinds.decoys:
        near = ndimage.binary_dilation(canvas.head, iterations=30)
        air = near & ~ndimage.binary_dilation(canvas.head, iterations=8)
        for shape in canvas.free_places(air, every, kinds.decoys):
            if not canvas.head[shape.box.slices].any():
                canvas.add_outside(shape)
        rim = canvas.head & ~ndimage.binary_erosion(canvas.head, iterations=6)
        for shape in canvas.free_places(rim, every, kinds.decoys):
            canvas.add_on_rim(shape)
        canvas.add_voxels(4 * kinds.decoys)
    for shape in added[: kinds.cut_outs]:
        canvas.cut_out(shape)
    return canvas.images, canvas.lesions


def run(patients: Path, masks: Path, out: Path, variants: int, seed: int, kinds: Kinds) -> None:
    """Writes the variants of all patients, and a table of them and of the patients themselves."""
    entries = read_manifest(patients, CHANNELS)
    if not any(masks.glob("*.nii.gz")):
        raise SystemExit(f"{masks} must hold masks (.nii.gz) of other patients, and has none")
    if out.exists():
        raise SystemExit(f"{out} exists already: name a new folder")
    out.mkdir(parents=True)
    lines = ["\t".join(("scan", "subject", *CHANNELS, "reference"))]
    for number, entry in enumerate(entries):
        if entry.scan.reference is None:
            raise SystemExit(f"{patients}: {entry.id} has no reference")
        volumes = [read_volume(path) for path in entry.scan.images]
        grid = volumes[0].grid
        images = np.stack([volume.data for volume in volumes], axis=-1).astype(np.float32)
        lesions = read_mask(entry.scan.reference, grid)
        others = [read_mask(path, grid) for path in sorted(masks.glob("*.nii.gz"))]
        shapes = [shapes_of(mask, grid) for mask in others if not np.array_equal(mask, lesions)]
        paths = (*entry.scan.images, entry.scan.reference)
        lines.append("\t".join((entry.id, entry.id, *map(str, paths))))
        for variant in range(variants):
            rng = np.random.default_rng([seed, number, variant])
            made = make_variant(rng, images, lesions, shapes, kinds)
            name = f"{entry.id}v{variant}"
            (out / name).mkdir()
            arrays = (*np.moveaxis(made[0], -1, 0), made[1].astype(np.uint8))
            for file, array in zip(FILES, arrays, strict=True):
                write_volume(out / name / file, array, grid)
            lines.append("\t".join((name, name, *(f"{name}/{file}" for file in FILES))))
            print(f"{name}: {made[1].sum()} voxels of lesion", flush=True)
    (out / TABLE).write_text("\n".join(lines) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write variants of patients.", allow_abbrev=False)
    parser.add_argument("patients", type=Path, help="table of scans with references")
    parser.add_argument("--masks", type=Path, required=True, help="folder of other patients' masks")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--variants", type=int, default=8, help="of each patient")
    parser.add_argument("--seed", type=int, default=0)
    for kind, default in Kinds()._asdict().items():
        name = kind.replace("_", "-")
        parser.add_argument(f"--{name}", type=int, default=default, help="of each variant")
    options = vars(parser.parse_args())
    kinds = Kinds(**{kind: options.pop(kind) for kind in Kinds._fields})
    run(**options, kinds=kinds)


if __name__ == "__main__":
    main()
