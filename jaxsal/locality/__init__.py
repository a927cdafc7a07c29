"""Local networks: their structure read off the computation, and pull-backs on boxes.

A network made of convolutions, pointwise functions, sums and joins of channels has a finite
receptive field. The gradient of a single voxel's logit then lives, in every layer, in a small box
of cells, and pulling it back through just these boxes is exact: whatever is left out is zero.
"""
