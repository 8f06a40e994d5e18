"""Wrong CUDA kernels of the dialects of other systems: SGLang, torchao, bitsandbytes and so on.

Contract: as planted.py: dialects.cu with one define; without a define it is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels_cupy.launch import empty, run
from reference.numerics import dtype_name
from reference.validate import FLOATS
from tests.wrong.planted import FOLDER, STATIC, TOKEN, Planted

SOURCE = str(FOLDER / "dialects.cu")
GROUP = "int8.quantize_per_group"


def _defines(define: str) -> dict[str, int]:
    return {define: 1} if define else {}


def _rows(define: str, name: str, x: Any, size: int) -> tuple[Any, Any]:
    """Codes and scales of x (M, K) in groups of `size`."""
    (M, K), form = x.shape, np.int32(FLOATS.index(str(dtype_name(x.dtype))))
    codes, scales = empty(x, (M, K), "s8"), empty(x, (M, K // size), "fp32")
    args = x, codes, scales, form, np.int32(size)
    run(SOURCE, name, _defines(define), (M * K // size,), (32,), args)
    return codes, scales


def _token(define: str, name: str) -> Callable[..., Any]:
    def quantize_per_token(x: Any) -> tuple[Any, Any]:
        codes, scales = _rows(define, name, x, x.shape[1])
        return codes, scales.reshape(-1)

    return quantize_per_token


def _group(define: str, name: str) -> Callable[..., Any]:
    def quantize_per_group(x: Any, group_size: int) -> tuple[Any, Any]:
        return _rows(define, name, x, group_size)

    return quantize_per_group


def _static(define: str, name: str) -> Callable[..., Any]:
    def quantize_static(x: Any, scales: Any) -> Any:
        (M, K), codes = x.shape, empty(x, x.shape, "s8")
        args = x, scales, codes, np.int32(K), np.int32(scales.size)
        run(SOURCE, name, _defines(define), (M,), (32,), args)
        return codes

    return quantize_static


MAKERS = {TOKEN: _token, GROUP: _group, STATIC: _static}
OPS = {
    "sglang": TOKEN,
    "torchao": TOKEN,
    "bitsandbytes": TOKEN,
    "modelopt": TOKEN,
    "gguf": GROUP,
    "onnx": STATIC,
}
# Classes of tests/wrong/kinds.py that the words alone do not tell.
KINDS = {
    **dict.fromkeys(("LEVELS_127", "STORES_SCALE", "STORES_FP32"), "levels of the scale"),
    **dict.fromkeys(("FLOOR_ON_SCALE", "FLOOR_1E_8", "NO_LEAST_SCALE", "NO_EPSILON"), "zero row"),
    "SCALE_IN_FP32": "levels of the scale",
    "CODES_BY_FP16": "levels of the scale",
    "HALF_ADDED": "rounding",
}


def _planted(dialect: str, define: str, *words: str) -> Planted:
    op = OPS[dialect]
    name = f"{dialect}-{define.lower()}" if define else dialect
    kind = KINDS.get(define, "")
    return Planted(name, op, MAKERS[op](define, dialect), words, dialect, kind=kind)


DIALECTS_RIGHT = tuple(_planted(dialect, "") for dialect in OPS)

# Of SGLang only what its approximate division does not allow as well: a tie may fall either way.
DIALECTS = (
    _planted("sglang", "FLOOR_ON_SCALE", "floors the scale at 1e-10"),
    _planted("sglang", "FLOOR_1E_8", "floors amax at 1e-08"),
    _planted("torchao", "LEVELS_127", "takes amax/127 as the scale"),
    _planted("torchao", "SCALE_IN_FP32", "computes scale and quotient in fp32"),
    _planted("torchao", "INVERSE_IN_INPUT", "rounds the factor", "to x's own dtype"),
    _planted("torchao", "NO_LEAST_SCALE", "takes the scale as it is, however small"),
    _planted("torchao", "NO_CLAMP_DIALECT", "does not clamp"),
    _planted("bitsandbytes", "STORES_SCALE", "stores the scale as codes were made with it"),
    _planted("modelopt", "NO_EPSILON", "gives code 0 where the divisor is 0"),
    _planted("gguf", "CODES_BY_FP16", "by the scale rounded to fp16"),
    _planted("gguf", "HALF_ADDED", "trunc(v +- 0.5)", "just below a half"),
    _planted("gguf", "STORES_FP32", "stores the scale as codes were made with it"),
    _planted("gguf", "TIES_TO_EVEN", "rounds to the nearest even"),
    _planted("onnx", "NAN_AS_ZERO", "gives a NaN quotient code 0"),
)
