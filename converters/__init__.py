"""PyTorch's networks -> jaxsal's, and saliency with the interfaces of PyTorch's libraries.

The only place that imports torch.
"""
