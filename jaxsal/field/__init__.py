"""Logit fields: functions from an image to logits over its whole grid, by way of a network.

A field runs the network once over the whole volume, or over overlapping windows whose logits are
blended. It also knows which windows a voxel's logit comes from, and with which weight: its plan.
That is all that saliency needs in order to differentiate a single voxel's logit exactly without
running the network on anything else.
"""
