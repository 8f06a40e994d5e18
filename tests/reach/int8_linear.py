"""Inputs that reach every block of the linear layer: see products.py."""

from tests.reach.products import inputs

__all__ = ["inputs"]
