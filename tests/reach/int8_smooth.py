"""Inputs that reach every block of the smoothing kernels: see int8_activation.py."""

from tests.reach.int8_activation import inputs

__all__ = ["inputs"]
