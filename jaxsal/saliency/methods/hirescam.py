"""HiResCAM as a method (Draelos & Carin 2020): ReLU(Σ_k g^k[v] A^k[v]).

`jaxsal.saliency.heat_maps` computes it.
"""

from __future__ import annotations

from jaxsal.saliency.methods.gradcam import of_gradients

METHOD = of_gradients(
    "hirescam", "HiResCAM", "a heat map of what each position of a layer adds to the logits"
)
