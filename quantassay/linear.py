"""Quantized linear layers as a small API: dynamic W8A8, static W8A8, weight-only INT8.

Contract: a layer is weights in codes plus the ops that it composes; its output equals the oracle's
composition of those ops bit for bit, on every wing and in every dialect:

    DynamicQuantLinear   scales of x found at run time: per-token (default), per-tensor, per-group,
                         symmetric or asymmetric; then the INT8 GEMM with its epilogue
    StaticQuantLinear    one scale of x (and zero point) fixed beforehand; then the same GEMM
    WeightOnlyLinear     x stays as it is; weights are dequantized on the fly

Weights: s8 (N, K), K-major, per-channel (default), per-tensor or per-group along K. `wing` is
"oracle" (NumPy), "cupy" or "numba"; NumPy arrays run in the emulator there, CUDA arrays on the GPU.
x: fp32, fp16 or bf16 (..., K); the output has x's leading axes, N last, and x's dtype unless
`out_dtype` says otherwise. Wrong arguments are a TypeError or ValueError that names them.

Source: the seed article on dynamic and static quantization, whose classes have these names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

from quantassay.loading import load_wings
from reference.arguments import check_int, check_kind, check_text
from reference.numerics import dtype_name
from reference.op import as_tuple, get_op, kernels
from reference.validate import (
    FLOATS,
    check_array,
    check_out_dtype,
    check_positive,
    check_vector,
)

ORACLE = "oracle"
GRANULARITIES = ("per-tensor", "per-channel", "per-group")  # of weights
DYNAMIC = ("per-tensor", "per-token", "per-group")  # of activations
# Of an op's variants in a wing the first that it has.
PREFERRED = ("fused", "pipeline", "two_pass", "dp4a", "")


def implementation(op: str, wing: str) -> Callable[..., Any]:
    """The function that computes `op` on a wing: the oracle, or the wing's best variant.

    Raises ValueError for a wing without this op.
    """
    check_text("op", op)
    if check_text("wing", wing) == ORACLE:
        return get_op(op).oracle
    load_wings([wing] if wing in ("cupy", "numba") else ())
    found = {kernel.variant: kernel.function for kernel in kernels(op=op, wing=wing)}
    if not found:
        known = sorted({kernel.wing for kernel in kernels(op=op)})
        raise ValueError(f"wing: got {wing!r}; allowed for {op}: {', '.join([ORACLE, *known])}")
    return next((found[name] for name in PREFERRED if name in found), next(iter(found.values())))


def quantize_weight(
    weight: Any, granularity: str, dialect: str, wing: str, group_size: int | None = None
) -> tuple[Any, Any]:
    """Symmetric codes s8 (N, K) and scales of a float weight (N, K).

    Scales are fp32 (N,) per-channel, (1,) per-tensor, (N, K / group_size) per-group.
    """
    check_text("wing", wing)
    _choice("granularity", granularity, GRANULARITIES)
    _group_size(group_size, granularity == "per-group", "granularity")
    check_array("weight", weight, FLOATS, 2)
    if granularity == "per-group":
        made = implementation("int8.quantize_per_group", wing)(weight, group_size, dialect=dialect)
    else:
        name = {"per-channel": "per_channel", "per-tensor": "per_tensor"}[granularity]
        made = implementation(f"int8.quantize_{name}", wing)(weight, dialect=dialect)
    codes, scales = as_tuple(made)
    return codes, scales


def _choice(name: str, got: Any, allowed: tuple[str, ...]) -> None:
    if got not in allowed:
        raise ValueError(f"{name}: got {got!r}; allowed: {', '.join(allowed)}")


def _group_size(group_size: int | None, wanted: bool, where: str) -> None:
    if group_size is not None:
        check_int("group_size", group_size, 1)
    if wanted and group_size is None:
        raise ValueError(f"group_size: got None; allowed with {where} per-group: an integer >= 1")
    if not wanted and group_size is not None:
        raise ValueError(f"group_size: got {group_size}; allowed only with {where} per-group")


class _Layer(ABC):
    """What the three layers share: weights, bias, and how a call is framed."""

    def __init__(
        self,
        w_codes: Any,
        w_scales: Any,
        bias: Any,
        *,
        dialect: str,
        wing: str,
        out_dtype: str | None,
    ) -> None:
        """w_codes: s8 (N, K); w_scales: fp32 (1,), (N,) or (N, Q); bias: fp32 (N,) or None."""
        check_array("w_codes", w_codes, ("s8",), 2)
        if out_dtype is not None:
            check_out_dtype(out_dtype)
        rank = len(getattr(w_scales, "shape", ()))
        check_array("w_scales", w_scales, ("fp32",), 2 if rank == 2 else 1)
        if rank < 2:
            rows = int(w_codes.shape[0])
            check_vector("w_scales", w_scales, {1: "per-tensor", rows: "one per row of w_codes"})
        check_text("wing", wing)
        if bias is not None:
            check_vector("bias", bias, {int(w_codes.shape[0]): "N, one per row of w_codes"})
        self.w_codes, self.w_scales, self.bias = w_codes, w_scales, bias
        self.dialect, self.wing, self.out_dtype = dialect, wing, out_dtype

    @property
    def groups(self) -> int:
        """Groups along K of the weights' scales; 0 if they are per-channel or per-tensor."""
        return int(self.w_scales.shape[1]) if len(self.w_scales.shape) == 2 else 0

    def __call__(self, x: Any) -> Any:
        """x: fp32, fp16 or bf16 (..., K). Returns (..., N) in `out_dtype`, or x's dtype."""
        shape = tuple(getattr(x, "shape", ()))
        if len(shape) < 1:
            raise ValueError("x: got no axis; allowed: an array (..., K)")
        check_array("x", x, FLOATS, len(shape))
        if shape[-1] != self.w_codes.shape[1]:
            raise ValueError(
                f"x: got K = {shape[-1]} (its last axis); allowed: {self.w_codes.shape[1]}, the K "
                "of w_codes"
            )
        lead = shape[:-1]
        out = self._apply(x.reshape(-1, x.shape[-1]))
        return out.reshape(*lead, out.shape[-1])

    @abstractmethod
    def _apply(self, x: Any) -> Any:
        """x: (M, K). Returns (M, N)."""

    def _run(self, op: str, *args: Any, **options: Any) -> Any:
        return implementation(op, self.wing)(*args, dialect=self.dialect, **options)

    def _out(self, x: Any) -> str:
        return self.out_dtype or dtype_name(x.dtype) or ""

    def _product(self, codes: Any, scales: Any, zero_points: Any, out_dtype: str) -> Any:
        """The GEMM and its epilogue; zero_points: s32 or None."""
        op = "int8.gemm_group" if self.groups else "int8.gemm_dequant"
        operands: list[Any] = [codes, self.w_codes, scales, self.w_scales]
        if zero_points is not None:
            op = "int8.gemm_azp"
            operands += [zero_points, self._column_sums()]
        return self._run(op, *operands, self.bias, out_dtype=out_dtype)

    def _column_sums(self) -> Any:
        """The weights' column sums, found once."""
        if not hasattr(self, "_sums"):
            self._sums = self._run("int8.column_sums", self.w_codes)
        return self._sums


class DynamicQuantLinear(_Layer):
    """W8A8 with scales of x from x itself; per-token x per-channel unless asked otherwise."""

    def __init__(
        self,
        w_codes: Any,
        w_scales: Any,
        bias: Any = None,
        *,
        activations: str = "per-token",
        symmetric: bool = True,
        dialect: str = "ieee",
        wing: str = ORACLE,
        out_dtype: str | None = None,
    ) -> None:
        """w_codes: s8 (N, K); w_scales: fp32 (N,), (1,), or (N, Q) with activations "per-group";
        bias: fp32 (N,) or None. symmetric=False: s8 codes with a zero point per row or tensor.
        """
        super().__init__(w_codes, w_scales, bias, dialect=dialect, wing=wing, out_dtype=out_dtype)
        _choice("activations", activations, DYNAMIC)
        if (activations == "per-group") != bool(self.groups):
            raise ValueError(
                f"activations: got {activations!r} with w_scales of shape {w_scales.shape}; "
                "allowed: per-group exactly where w_scales is (N, Q), a scale per group"
            )
        if activations == "per-group" and not symmetric:
            raise ValueError("symmetric: got False; allowed with activations per-group: True")
        check_kind("symmetric", symmetric, bool, "True or False")
        self.activations, self.symmetric = activations, symmetric

    @classmethod
    def from_float(
        cls,
        weight: Any,
        bias: Any = None,
        *,
        granularity: str = "per-channel",
        group_size: int | None = None,
        dialect: str = "ieee",
        wing: str = ORACLE,
        **options: Any,
    ) -> Self:
        """Quantizes a float weight (N, K) first. granularity: per-channel, per-tensor, per-group
        (with group_size; activations are then per-group too).
        """
        codes, scales = quantize_weight(weight, granularity, dialect, wing, group_size)
        if granularity == "per-group":
            options.setdefault("activations", "per-group")
        return cls(codes, scales, bias, dialect=dialect, wing=wing, **options)

    def _apply(self, x: Any) -> Any:
        out_dtype = self._out(x)
        if self.activations == "per-group":
            size = self.w_codes.shape[1] // self.groups
            codes, scales = self._run("int8.quantize_per_group", x, size)
            return self._product(codes, scales, None, out_dtype)
        name = self.activations.replace("-", "_")
        if not self.symmetric:
            made = self._run(f"int8.asymmetric_{name}", x, code_dtype="s8")
            codes, scales, zero_points = made
            return self._product(codes, scales, zero_points, out_dtype)
        if name == "per_token":
            operands = x, self.w_codes, self.w_scales, self.bias
            return self._run("int8.linear", *operands, out_dtype=out_dtype)
        codes, scales = self._run("int8.quantize_per_tensor", x)
        return self._product(codes, scales, None, out_dtype)


class StaticQuantLinear(_Layer):
    """W8A8 with the scale of x fixed beforehand, by calibration."""

    def __init__(
        self,
        w_codes: Any,
        w_scales: Any,
        x_scale: Any,
        bias: Any = None,
        *,
        zero_point: Any = None,
        dialect: str = "ieee",
        wing: str = ORACLE,
        out_dtype: str | None = None,
    ) -> None:
        """w_codes: s8 (N, K); w_scales: fp32 (N,) or (1,); x_scale: fp32 (1,), finite and > 0;
        bias: fp32 (N,) or None; zero_point: s32 (1,) for asymmetric s8 codes, or None.
        """
        super().__init__(w_codes, w_scales, bias, dialect=dialect, wing=wing, out_dtype=out_dtype)
        if self.groups:
            raise ValueError(
                f"w_scales: got shape {w_scales.shape}; allowed with a static scale of x: (N,) "
                "or (1,)"
            )
        check_vector("x_scale", x_scale, {1: "per-tensor"})
        check_positive("x_scale", x_scale)
        if zero_point is not None and check_array("zero_point", zero_point, ("s32",), 1) != (1,):
            raise ValueError(
                f"zero_point: got {zero_point.shape[0]} elements; allowed: 1 (per-tensor)"
            )
        self.x_scale, self.zero_point = x_scale, zero_point

    @classmethod
    def from_float(
        cls,
        weight: Any,
        x_scale: Any,
        bias: Any = None,
        *,
        granularity: str = "per-channel",
        dialect: str = "ieee",
        wing: str = ORACLE,
        **options: Any,
    ) -> Self:
        """Quantizes a float weight (N, K) first. granularity: per-channel or per-tensor."""
        _choice("granularity", granularity, GRANULARITIES[:2])
        codes, scales = quantize_weight(weight, granularity, dialect, wing)
        return cls(codes, scales, x_scale, bias, dialect=dialect, wing=wing, **options)

    def _apply(self, x: Any) -> Any:
        if self.zero_point is None:
            codes = self._run("int8.quantize_static", x, self.x_scale)
        else:
            point = self.x_scale, self.zero_point
            codes = self._run("int8.asymmetric_static", x, *point, code_dtype="s8")
        return self._product(codes, self.x_scale, self.zero_point, self._out(x))


class WeightOnlyLinear(_Layer):
    """INT8 weights, floating-point activations (W8A16): for decoding, where weights are the
    traffic.
    """

    def __init__(
        self,
        w_codes: Any,
        w_scales: Any,
        bias: Any = None,
        *,
        dialect: str = "ieee",
        wing: str = ORACLE,
        out_dtype: str | None = None,
    ) -> None:
        """w_codes: s8 (N, K); w_scales: fp32 (N,), or (N, Q) per group; bias: fp32 (N,) or None."""
        super().__init__(w_codes, w_scales, bias, dialect=dialect, wing=wing, out_dtype=out_dtype)

    @classmethod
    def from_float(
        cls,
        weight: Any,
        bias: Any = None,
        *,
        granularity: str = "per-channel",
        group_size: int | None = None,
        dialect: str = "ieee",
        wing: str = ORACLE,
        **options: Any,
    ) -> Self:
        """Quantizes a float weight (N, K) first. granularity: per-channel or per-group."""
        _choice("granularity", granularity, GRANULARITIES[1:])
        codes, scales = quantize_weight(weight, granularity, dialect, wing, group_size)
        return cls(codes, scales, bias, dialect=dialect, wing=wing, **options)

    def _apply(self, x: Any) -> Any:
        scales = self.w_scales if self.groups else self.w_scales.reshape(-1, 1)
        operands = x, self.w_codes, scales, self.bias
        return self._run("int8.weight_only_linear", *operands, out_dtype=self._out(x))
