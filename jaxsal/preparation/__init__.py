"""Scans as scanners give them made ready for a network: registered and freed from bias fields."""
