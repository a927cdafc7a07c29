"""Whole files, staged folders, who owns a folder, locks, and what identifies a run."""
