"""Training of networks: patches of scans, their augmentation, steps, validation, and the run."""
