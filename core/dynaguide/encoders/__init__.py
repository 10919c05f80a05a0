"""Frozen image encoders: what an outcome is compared in."""
