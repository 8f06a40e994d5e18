"""Inputs that reach every block of INT8 GEMMs: see products.py."""

from tests.reach.products import inputs

__all__ = ["inputs"]
