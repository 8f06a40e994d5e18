"""The CuPy wing: CUDA C++ kernels, a launcher beside each.

Importing this package registers its kernels; nothing is compiled and CuPy is not imported until a
kernel runs. NumPy arrays run in the emulator, CuPy arrays on the GPU.
"""

from kernels_cupy import (
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
from kernels_cupy.catalogue import catalogue
from kernels_cupy.configuration import Configuration
from kernels_cupy.launch import recording

__all__ = [
    "Configuration",
    "catalogue",
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
