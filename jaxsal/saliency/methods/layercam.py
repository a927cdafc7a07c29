"""LayerCAM as a method (Jiang et al. 2021): ReLU(Σ_k ReLU(g^k[v]) A^k[v]).

`jaxsal.saliency.heat_maps` computes it.
"""

from __future__ import annotations

from jaxsal.saliency.methods.gradcam import of_gradients

METHOD = of_gradients(
    "layercam", "LayerCAM", "a heat map whose weights are each position's positive gradients"
)
