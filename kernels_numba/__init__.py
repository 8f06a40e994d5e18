"""The Numba CUDA wing. Importing it registers its kernels; nothing is compiled until one runs.

NumPy arrays run in the emulator, CUDA arrays (CuPy's) on the GPU.
"""

from kernels_numba import int8_gemm, int8_linear, int8_quantize
from kernels_numba.launch import recording

__all__ = ["int8_gemm", "int8_linear", "int8_quantize", "recording"]
