"""What is right: contracts, NumPy oracles, hostile inputs and op declarations.

Importing this package registers every op. It imports nothing else of this project.
"""

from reference import (
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
from reference.dialects import DIALECTS, Dialect, dialect
from reference.op import OPS, Arg, Kernel, Op, Recipe, get_op, implements, kernels, recipe, register

__all__ = [
    "DIALECTS",
    "OPS",
    "Arg",
    "Dialect",
    "Kernel",
    "Op",
    "Recipe",
    "dialect",
    "get_op",
    "implements",
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
    "kernels",
    "recipe",
    "register",
]
