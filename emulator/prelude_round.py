"""LLVM IR functions for directed rounding: toward zero (rz), down (rm) and up (rp).

Contract: each takes what round to nearest gave, or computes it, and steps one unit in the last
place where the exact value lies on the other side. A step is +-1 on the bits, so that subnormals
and overflow (rz of something too large is the largest finite number) need no case of their own.
NaN and infinite operands pass through. `f32_<r>_from_f64` and `f16_<r>_from_f32` give a value of
the narrower format; if their operand was itself rounded to odd, the result is that of one rounding.

`FUNCTIONS` maps names to IR text; lower_round.py calls them. rm of a sum is -rp of the negated sum,
which makes x - x the -0 that IEEE 754 asks for.
"""

from __future__ import annotations

DIRECTED = ("rz", "rm", "rp")


def _step(rounding: str, kind: str, above: str, below: str) -> str:
    """%stepped: `%bits` moved where the nearest value lies `above` or `below` the exact one."""
    wrong, there, back = {
        "rz": (f"select i1 %negative, i1 {below}, i1 {above}", -1, -1),
        "rm": (f"and i1 {above}, true", 1, -1),
        "rp": (f"and i1 {below}, true", -1, 1),
    }[rounding]
    return f"""  %negative = icmp slt {kind} %bits, 0
  %wrong = {wrong}
  %move = select i1 %negative, {kind} {there}, {kind} {back}
  %moved = add {kind} %bits, %move
  %stepped = select i1 %wrong, {kind} %moved, {kind} %bits"""


def _narrowing(rounding: str, wide: str, narrow: str, kind: str, result: str) -> str:
    """A value of type `wide` on the grid of type `narrow`, returned in type `result`."""
    name = {"float": f"f32_{rounding}_from_f64", "half": f"f16_{rounding}_from_f32"}[narrow]
    last = "%value" if result == narrow else "%widened"
    more = "" if result == narrow else f"\n  %widened = fpext {narrow} %value to {result}"
    return f"""
define internal {result} @{name}({wide} %x) alwaysinline {{
  %near = fptrunc {wide} %x to {narrow}
  %back = fpext {narrow} %near to {wide}
  %above = fcmp ogt {wide} %back, %x
  %below = fcmp olt {wide} %back, %x
  %bits = bitcast {narrow} %near to {kind}
{_step(rounding, kind, "%above", "%below")}
  %value = bitcast {kind} %stepped to {narrow}{more}
  ret {result} {last}
}}
"""


def _bf16(rounding: str) -> str:
    """bf16 is the upper half of f32: cut, and go one up in size where the rounding leads away."""
    away = {"rz": "false", "rm": "%negative", "rp": "%positive"}[rounding]
    return f"""
define internal float @bf16_{rounding}_from_f32(float %x) alwaysinline {{
  %bits = bitcast float %x to i32
  %cut = and i32 %bits, -65536
  %inexact = icmp ne i32 %cut, %bits
  %negative = icmp slt i32 %bits, 0
  %positive = xor i1 %negative, true
  %up = and i1 %inexact, {away}
  %more = add i32 %cut, 65536
  %rounded = select i1 %up, i32 %more, i32 %cut
  %value = bitcast i32 %rounded to float
  %nan = fcmp uno float %x, %x
  %result = select i1 %nan, float %x, float %value
  ret float %result
}}
"""


def _from_u64(rounding: str) -> str:
    """An unsigned integer as a double: toward zero, away from it, or to odd."""
    last = {"rz": "add i64 %bits, 0", "away": "add i64 %bits, %lost", "odd": "or i64 %bits, %lost"}
    return f"""
define internal double @f64_{rounding}_from_u64(i64 %x) alwaysinline {{
  %zeros = call i64 @llvm.ctlz.i64(i64 %x, i1 false)
  %shift = call i64 @llvm.usub.sat.i64(i64 11, i64 %zeros)
  %small = lshr i64 %x, %shift
  %kept = shl i64 %small, %shift
  %inexact = icmp ne i64 %kept, %x
  %lost = zext i1 %inexact to i64
  %cut = uitofp i64 %kept to double
  %bits = bitcast double %cut to i64
  %rounded = {last[rounding]}
  %result = bitcast i64 %rounded to double
  ret double %result
}}
"""


def _f64(name: str, rounding: str, body: str) -> str:
    """`body` defines %near and %error, whose sign is that of (exact - near)."""
    return f"""
define internal double @f64_{rounding}_{name}(double %a, double %b) alwaysinline {{
{body}
  %above = fcmp olt double %error, 0.0
  %below = fcmp ogt double %error, 0.0
  %bits = bitcast double %near to i64
{_step(rounding, "i64", "%above", "%below")}
  %result = bitcast i64 %stepped to double
  ret double %result
}}
"""


# Dekker's fast two-sum: exact, and free of overflow unless the sum itself overflows; then the
# error comes out infinite, with the right sign.
_ADD = """  %near = fadd double %a, %b
  %size.a = call double @llvm.fabs.f64(double %a)
  %size.b = call double @llvm.fabs.f64(double %b)
  %ordered = fcmp oge double %size.a, %size.b
  %large = select i1 %ordered, double %a, double %b
  %small = select i1 %ordered, double %b, double %a
  %part = fsub double %near, %large
  %error = fsub double %small, %part"""

# The error of a product is exact in an FMA, unless it underflows: a tiny product (below 2^-500) is
# scaled by 2^600 through its smaller factor; one that became zero has the sign of its error.
_MUL = """  %near = fmul double %a, %b
  %size = call double @llvm.fabs.f64(double %near)
  %tiny = fcmp olt double %size, 0x20B0000000000000
  %scale = select i1 %tiny, double 0x6570000000000000, double 1.0
  %size.a = call double @llvm.fabs.f64(double %a)
  %size.b = call double @llvm.fabs.f64(double %b)
  %ordered = fcmp oge double %size.a, %size.b
  %large = select i1 %ordered, double %a, double %b
  %small = select i1 %ordered, double %b, double %a
  %scaled = fmul double %small, %scale
  %product = fmul double %near, %scale
  %minus = fneg double %product
  %rest = call double @llvm.fma.f64(double %scaled, double %large, double %minus)
  %zero = fcmp oeq double %near, 0.0
  %operand = fcmp oeq double %small, 0.0
  %one = call double @llvm.copysign.f64(double 1.0, double %near)
  %vanished = select i1 %operand, double 0.0, double %one
  %error = select i1 %zero, double %vanished, double %rest"""


FUNCTIONS = {f"f64_{rounding}_from_u64": _from_u64(rounding) for rounding in ("rz", "away", "odd")}
for _rounding in DIRECTED:
    FUNCTIONS |= {
        f"f32_{_rounding}_from_f64": _narrowing(_rounding, "double", "float", "i32", "float"),
        f"f16_{_rounding}_from_f32": _narrowing(_rounding, "float", "half", "i16", "float"),
        f"bf16_{_rounding}_from_f32": _bf16(_rounding),
        f"f64_{_rounding}_add": _f64("add", _rounding, _ADD),
        f"f64_{_rounding}_mul": _f64("mul", _rounding, _MUL),
    }
