"""The Numba CUDA wing. Importing it registers its kernels; nothing is compiled until a launch."""

from kernels_numba import int8_gemm, int8_linear, int8_quantize

__all__ = ["int8_gemm", "int8_linear", "int8_quantize"]
