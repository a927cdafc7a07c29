"""The arrays of the public functions as types: axes, by the letters of `jaxsal.types`, and dtypes.

One letter is one size within a call: the labels of an image (X, Y, Z, C) have its X, Y and Z. Only
annotations name these types. Nothing imports this module while jaxsal runs, so that jaxtyping is
needed by type checkers alone, and by the tests, which check every call of a public function by it.
Where jaxtyping is not installed, a type checker takes every one of these arrays for ``Any``.
"""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Integer, Real

Array = np.ndarray | jax.Array

Image = Real[Array, "X Y Z C"]
Images = Real[Array, "B X Y Z C"]
Noise = Real[Array, "N X Y Z C"]
Labels = Real[Array, "X Y Z"] | Bool[Array, "X Y Z"]  # whole numbers, 0 = background
Voxels = Real[Array, "X Y Z"] | Bool[Array, "X Y Z"]
Logits = Float[Array, "X Y Z K"]
BatchLogits = Float[Array, "B X Y Z K"]

# What is returned is exactly this.
ReadImage = Float32[np.ndarray, "X Y Z C"]
ReadLabels = Int32[np.ndarray, "X Y Z"]
SaliencyMap = Float32[np.ndarray, "X Y Z C"]
SaliencyCrop = Float32[np.ndarray, "x y z C"]
HeatMap = Float32[np.ndarray, "X Y Z"]
LayerMap = Float32[np.ndarray, "x y z"]

# PyTorch's order, in which Quantus gives images and takes maps.
ChannelsFirst = Real[Array, "B C X Y Z"]
Maps = Float32[np.ndarray, "B C X Y Z"]
Targets = Integer[Array, "B"]
