"""Scans prepared for a network: registered, and corrected for bias fields."""
