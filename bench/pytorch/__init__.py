"""What jaxsal is compared with: the same network and the same maps by PyTorch's means."""
