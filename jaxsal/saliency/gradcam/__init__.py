"""Grad-CAM++ and Grad-CAM of lesions: heat maps from the derivatives at a layer.

`gradcam` asks, window by window, the network's `head` above the layer for derivatives, of several
domains at once where they lie apart (`sharing`); `diagonals` adds those of higher order, `weights`
makes heat maps of them (`window`), and `maps` brings these to the image's grid. `jobs` are what
each window has to do, `sizes` how much of it goes at once.
"""
