"""What computes: the devices of this machine, or the workers of a cluster."""
