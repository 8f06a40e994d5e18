"""What is right: contracts, NumPy oracles, hostile inputs and op declarations.

Importing this package registers every op. It imports nothing else of this project.
"""

from reference import (
    int8_gemm,
    int8_gemm_azp,
    int8_gemm_requantize,
    int8_linear,
    int8_quantize,
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
    "int8_gemm",
    "int8_gemm_azp",
    "int8_gemm_requantize",
    "int8_linear",
    "int8_quantize",
    "kernels",
    "recipe",
    "register",
]
