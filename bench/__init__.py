"""Benchmarks, one script per question: ``python -m bench`` from the repository lists them."""
