"""Kernels that this project did not write, run on the emulator against NumPy (docs/foreign.md)."""
