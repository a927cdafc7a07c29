"""PyTorch checkpoints -> jaxsal models; the only place that imports torch."""
