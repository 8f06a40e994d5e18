"""Bad input: each a clear error that names the argument, what was got and what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reference import get_op, implements, op
from reference.int8_gemm import epilogue, gemm, gemm_dequant
from reference.int8_linear import linear
from reference.int8_quantize import dequantize, quantize_per_token, quantize_static
from reference.numerics import dtype_name

X = np.ones((4, 8), np.float32)
Q = np.ones((4, 8), np.int8)
ACC = np.ones((4, 6), np.int32)


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


BAD = {
    "list": (quantize_per_token, ([[1.0]],), {}, TypeError, "x: got list; allowed: a NumPy"),
    "dtype": (quantize_per_token, (X.astype(float),), {}, TypeError, "x: got dtype float64"),
    "rank": (quantize_per_token, (X[0],), {}, ValueError, "x: got 1 dimensions, shape (8,)"),
    "empty": (quantize_per_token, (X[:0],), {}, ValueError, "x: got the empty shape (0, 8)"),
    "strided": (quantize_per_token, (X[:, ::2],), {}, ValueError, "x: got strides (32, 8)"),
    "order": (quantize_per_token, (np.asfortranarray(X),), {}, ValueError, "x: got strides"),
    "dialect": (quantize_per_token, (X,), {"dialect": "x"}, ValueError, "dialect: got 'x'"),
    "torch": (
        quantize_per_token,
        (X,),
        {"dialect": "article_torch"},
        TypeError,
        "x: got dtype float32; allowed in dialect article_torch: fp16",
    ),
    "negative": (quantize_static, (X, -ones(1)), {}, ValueError, "scales: got -1.0 at index 0"),
    "nan": (quantize_static, (X, ones(1) * np.nan), {}, ValueError, "scales: got nan at index 0"),
    "zero": (quantize_static, (X, ones(4) * 0), {}, ValueError, "allowed: finite and > 0"),
    "length": (quantize_static, (X, ones(3)), {}, ValueError, "scales: got 3 elements; allowed: 1"),
    "inexact": (
        quantize_static,
        (X.astype(np.float16), ones(1) * 0.1),
        {"dialect": "article_torch"},
        ValueError,
        "values of fp16",
    ),
    "codes": (dequantize, (X, ones(1)), {}, TypeError, "codes: got dtype float32; allowed: s8"),
    "out": (dequantize, (Q, ones(1)), {"out_dtype": "fp8"}, ValueError, "out_dtype: got 'fp8'"),
    "depth": (gemm, (Q, Q[:, :7].copy()), {}, ValueError, "b: got K = 7 (its last axis); allowed"),
    "a_scales": (epilogue, (ACC, ones(3), ones(6)), {}, ValueError, "a_scales: got 3 elements"),
    "b_scales": (epilogue, (ACC, ones(4), ones(4)), {}, ValueError, "b_scales: got 4 elements"),
    "bias": (epilogue, (ACC, ones(4), ones(6), ones(1)), {}, ValueError, "bias: got 1 elements"),
    "scale dtype": (
        gemm_dequant,
        (Q, Q, ones(4).astype(np.float16), ones(4)),
        {},
        TypeError,
        "a_scales: got dtype float16; allowed: fp32",
    ),
    "linear": (linear, (X, Q[:, :4].copy(), ones(4)), {}, ValueError, "w_codes: got K = 4"),
    "w_scales": (
        linear,
        (X, Q, ones(9)),
        {},
        ValueError,
        "w_scales: got 9 elements; allowed: 1 (per-tensor) or 4 (N",
    ),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_named(case: str) -> None:
    function, arguments, options, error, words = BAD[case]
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    assert words in str(caught.value)


def test_k_beyond_the_guard() -> None:
    deep = np.zeros((1, 131_072), np.int8)
    with pytest.raises(ValueError, match=r"a: got K = 131072; allowed in dialect ieee: at most"):
        gemm(deep, deep)
    assert gemm(deep, deep, dialect="vllm").tolist() == [[0]]
    assert gemm(deep[:, 1:].copy(), deep[:, 1:].copy()).tolist() == [[0]]


def test_unknown_names_in_the_registry() -> None:
    with pytest.raises(ValueError, match=r"op: got 'int8.gem'; known: .*int8.dequantize, "):
        get_op("int8.gem")
    with pytest.raises(ValueError, match=r"dialects: got 'vlm'; allowed for int8.gemm: ieee"):
        implements("int8.gemm", wing="x", dialects=("vlm",))


def test_a_kernel_name_belongs_to_one_place() -> None:
    def first(a: Any, b: Any) -> Any:
        return a, b

    def second(a: Any, b: Any) -> Any:
        return b, a

    join = implements("int8.gemm", wing="test_registry", variant="v", dialects=("ieee",))
    try:
        assert join(first) is first
        join(first)
        with pytest.raises(ValueError, match=r"is already registered by .*first"):
            join(second)
        assert [k.label for k in op.kernels(wing="test_registry")] == ["test_registry/v"]
    finally:
        op.forget("test_registry")
    assert op.kernels(wing="test_registry") == []


SIDES = {"M": 5, "N": 7, "K": 11, "Q": 3, "G": 4, "B": 2, "P": 2}


def test_traffic_is_the_arrays_own_bytes() -> None:
    from reference import OPS, recipe

    for declared in OPS.values():
        for dtype in declared.dtypes:
            dims = {symbol: SIDES[symbol] for symbol in declared.dims}
            made = recipe("normal", seed=1, dtype=dtype, **dims)
            inputs = declared.build(made)
            options = {k: v[0] for k, v in declared.options.items()}
            if not declared.allows(dtype, options["dialect"]):
                continue
            outputs = declared.expected(inputs, **options)
            arrays = {arg.name: inputs[arg.name] for arg in declared.arrays()}
            arrays |= dict(zip(declared.output_names(), outputs, strict=True))
            chosen = {
                name: str(dtype_name(array.dtype))
                for name, array in arrays.items()
                if array is not None
            }
            sizes = {**dims, "S": len(inputs["scales"]) if "scales" in inputs else 1}
            traffic = declared.traffic(sizes, chosen)
            for arg in declared.arrays():
                array = inputs[arg.name]
                if array is not None and not (arg.broadcast and array.size == 1):
                    assert traffic.read[arg.name] == array.nbytes, (declared.name, arg.name)
            for arg, array in zip(declared.outputs, outputs, strict=True):
                assert traffic.written[arg.name] == array.nbytes, (declared.name, arg.name)


def test_formulas_allow_only_arithmetic() -> None:
    assert op.evaluate("M*(K//2)+3-1", {"M": 3, "K": 5}) == 8
    with pytest.raises(ValueError, match="needs Q"):
        op.evaluate("Q", {"M": 1})
    with pytest.raises(ValueError, match="only integers"):
        op.evaluate("M**2", {"M": 3})
