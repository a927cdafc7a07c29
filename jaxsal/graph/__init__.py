"""Networks as graphs of PyTorch's operations, computed in JAX."""
