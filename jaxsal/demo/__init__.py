"""A synthetic head, the network trained on it, and the run that shows what jaxsal does."""
