"""Saliency of lesions: the derivative engine, its aggregation, and the methods built on it."""
