"""The Numba CUDA wing. Importing it registers its kernels; nothing is compiled until one runs.

NumPy arrays run in the emulator, CUDA arrays (CuPy's) on the GPU.
"""

from kernels_numba import (
    int8_activation,
    int8_asymmetric,
    int8_gemm,
    int8_gemm_azp,
    int8_gemm_group,
    int8_gemm_packed,
    int8_gemm_requantize,
    int8_group,
    int8_linear,
    int8_norm,
    int8_pack,
    int8_quantize,
    int8_smooth,
    int8_weight_only,
)
from kernels_numba.launch import recording

__all__ = [
    "int8_activation",
    "int8_asymmetric",
    "int8_gemm",
    "int8_gemm_azp",
    "int8_gemm_group",
    "int8_gemm_packed",
    "int8_gemm_requantize",
    "int8_group",
    "int8_linear",
    "int8_norm",
    "int8_pack",
    "int8_quantize",
    "int8_smooth",
    "int8_weight_only",
    "recording",
]
