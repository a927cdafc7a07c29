"""Saliency of lesions: the methods, and the engine that differentiates single voxels' logits.

`smoothgrad` states Eqs. 1-3 of Spagnolo et al. 2026 and `heat_maps` Eqs. 4-10; both name the module
that computes each factor. `methods` declares what the rest of jaxsal knows of a method. Words such
as item, point, box, frame and wave are defined in `jaxsal/README.md`.
"""
