"""Saliency of lesions: the methods, and the engine that differentiates single voxels' logits.

`smoothgrad` states Eqs. 1-3 of Spagnolo et al. 2026 and `heat_maps` Eqs. 4-10; each says which
module computes which factor. `methods` declares what the rest of jaxsal knows of a method.

Words:

- *lesion domain* Ω: the voxels of a lesion; at class level, all segmented voxels.
- *noisy image*, or *sample*: the image with the n-th noise added.
- *window*: the part of the zero-padded image that the network runs on at once.
- *point*: a voxel's position within a window.
- *item*: what is pulled back at once, a weighted sum of logits of some voxels of one lesion.
- *pull-back*: from a cotangent, an item's weights on the logits, to the gradient of the input; a
  window is *linearised* once, and many items are pulled back through it.
- *box*: where in a window an item's gradient can be non-zero; *frame*: where in the image the
  boxes of an item's windows, or of a lesion's items, lie; *corner*: the first position of either.
- *footprint*: where in the image a lesion's map can be non-zero.
- *wave*: lesions that are computed together.
- *cell*: a position of an inner layer; *unit vector*: one channel of one cell.
"""
