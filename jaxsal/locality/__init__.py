"""Local networks: their structure read off the computation, and pull-backs on boxes.

A network made of convolutions, pointwise functions, sums and joins of channels has a finite
receptive field. The gradient of a single voxel's logit then lives, in every layer, in a small box
of cells, and pulling it back through just these boxes is exact: whatever is left out is zero.
"""

from jaxsal.locality.boxes import Boxes, receptive_field
from jaxsal.locality.linear import kernels_of, linearise, pull_back
from jaxsal.locality.places import Places, places_of
from jaxsal.locality.structure import Shapes, Structure, structure_of

__all__ = [
    "Boxes",
    "Places",
    "Shapes",
    "Structure",
    "kernels_of",
    "linearise",
    "places_of",
    "pull_back",
    "receptive_field",
    "structure_of",
]
