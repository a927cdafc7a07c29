"""Training of networks: scans, patches and their augmentation, the step, the run."""
