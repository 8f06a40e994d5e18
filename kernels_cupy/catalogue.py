"""Every way in which this wing's kernels are compiled: for the audit and for carried CUBINs.

Contract: `catalogue(full=True)` holds every (source, defines) that a launcher can ask for, so that
a folder exported from it serves any call; `catalogue()` is a representative choice. Each launcher
lists its own (configuration.py).
"""

from __future__ import annotations

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
from kernels_cupy.configuration import Configuration

LAUNCHERS = (
    int8_quantize,
    int8_gemm,
    int8_gemm_azp,
    int8_gemm_requantize,
    int8_group,
    int8_linear,
    int8_asymmetric,
    int8_activation,
    int8_smooth,
    int8_norm,
    int8_gemm_group,
    int8_weight_only,
    int8_pack,
    int8_gemm_packed,
)


def catalogue(full: bool = False) -> list[Configuration]:
    """The configurations; see the head of this file."""
    return [one for launcher in LAUNCHERS for one in launcher.configurations(full)]
