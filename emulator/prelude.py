"""LLVM IR functions that compiled kernels call: fault reports, slow paths of checks, conversions.

Contract: `text(names)` is the IR of the named functions. All are internal to the kernel's module.
Check functions return true when they stored a fault in THREAD: the caller must return at once.
Each is plain IR text, because this is code that a reader wants to see as it runs.
"""

from __future__ import annotations

import re

from emulator.layout import CONTEXT, THREAD, TRACE, Fault, Yield, offset
from emulator.prelude_global import global_check
from emulator.prelude_round import FUNCTIONS
from emulator.prelude_same import SAME_WARP
from emulator.prelude_shared import apart_check, granule_check, shared_check


def _thread(field: str, index: int = 0) -> int:
    return offset(THREAD, field) + 4 * index


def _context(field: str) -> int:
    return offset(CONTEXT, field)


FAULT = f"""
define internal void @fault(ptr %thread, i32 %site, i32 %kind, i64 %address, i32 %size, i32 %store)
    cold noinline nounwind memory(argmem: write) {{
  %low = trunc i64 %address to i32
  %shifted = lshr i64 %address, 32
  %high = trunc i64 %shifted to i32
  %p0 = getelementptr i8, ptr %thread, i64 {_thread("args", 0)}
  store i32 %kind, ptr %p0
  %p1 = getelementptr i8, ptr %thread, i64 {_thread("args", 1)}
  store i32 %low, ptr %p1
  %p2 = getelementptr i8, ptr %thread, i64 {_thread("args", 2)}
  store i32 %high, ptr %p2
  %p3 = getelementptr i8, ptr %thread, i64 {_thread("args", 3)}
  store i32 %size, ptr %p3
  %p4 = getelementptr i8, ptr %thread, i64 {_thread("args", 4)}
  store i32 %store, ptr %p4
  %ps = getelementptr i8, ptr %thread, i64 {_thread("site")}
  store i32 %site, ptr %ps
  %py = getelementptr i8, ptr %thread, i64 {_thread("yop")}
  store i32 {int(Yield.FAULT)}, ptr %py
  ret void
}}
"""

TRACE_FUNCTION = f"""
define internal void @trace(ptr %thread, ptr %context, i64 %address, i32 %site, i16 %size,
    i16 %kind) noinline {{
entry:
  %pn = getelementptr i8, ptr %context, i64 {_context("trace_count")}
  %count = load i64, ptr %pn
  %next = add i64 %count, 1
  store i64 %next, ptr %pn
  %pc = getelementptr i8, ptr %context, i64 {_context("trace_capacity")}
  %capacity = load i64, ptr %pc
  %room = icmp ult i64 %count, %capacity
  br i1 %room, label %write, label %done
write:
  %pt = getelementptr i8, ptr %context, i64 {_context("trace")}
  %base = load ptr, ptr %pt
  %skip = mul i64 %count, {TRACE.itemsize}
  %record = getelementptr i8, ptr %base, i64 %skip
  %pl = getelementptr i8, ptr %thread, i64 {_thread("linear")}
  %linear = load i32, ptr %pl
  %bx.p = getelementptr i8, ptr %context, i64 {_context("ctaid")}
  %bx = load i32, ptr %bx.p
  %by.p = getelementptr i8, ptr %context, i64 {_context("ctaid") + 4}
  %by = load i32, ptr %by.p
  %bz.p = getelementptr i8, ptr %context, i64 {_context("ctaid") + 8}
  %bz = load i32, ptr %bz.p
  %gx.p = getelementptr i8, ptr %context, i64 {_context("nctaid")}
  %gx = load i32, ptr %gx.p
  %gy.p = getelementptr i8, ptr %context, i64 {_context("nctaid") + 4}
  %gy = load i32, ptr %gy.p
  %zy = mul i32 %bz, %gy
  %yy = add i32 %zy, %by
  %yx = mul i32 %yy, %gx
  %block = add i32 %yx, %bx
  %f0 = getelementptr i8, ptr %record, i64 {offset(TRACE, "address")}
  store i64 %address, ptr %f0
  %f1 = getelementptr i8, ptr %record, i64 {offset(TRACE, "site")}
  store i32 %site, ptr %f1
  %f2 = getelementptr i8, ptr %record, i64 {offset(TRACE, "thread")}
  store i32 %linear, ptr %f2
  %f3 = getelementptr i8, ptr %record, i64 {offset(TRACE, "size")}
  store i16 %size, ptr %f3
  %f4 = getelementptr i8, ptr %record, i64 {offset(TRACE, "kind")}
  store i16 %kind, ptr %f4
  %f5 = getelementptr i8, ptr %record, i64 {offset(TRACE, "block")}
  store i32 %block, ptr %f5
  br label %done
done:
  ret void
}}
"""

# One access of global memory, or a fence (size 0), told to global_races.py.
RACE = f"""
define internal i1 @race(ptr %thread, ptr %context, i32 %site, i64 %address, i64 %size,
    i64 %action, i64 %fences) noinline nounwind {{
entry:
  %ps = getelementptr i8, ptr %context, i64 {_context("races")}
  %state = load i64, ptr %ps
  %pf = getelementptr i8, ptr %context, i64 {_context("race_check")}
  %check = load ptr, ptr %pf
  %me = ptrtoint ptr %thread to i64
  %found = call i64 %check(i64 %state, i64 %me, i64 %address, i64 %size, i64 %action, i64 %fences)
  %fine = icmp eq i64 %found, 0
  br i1 %fine, label %good, label %bad
good:
  ret i1 false
bad:
  %bytes = trunc i64 %size to i32
  %odd = icmp ne i64 %action, 0
  %strong = icmp ne i64 %action, 2
  %writes = and i1 %odd, %strong
  %store = zext i1 %writes to i32
  call void @fault(ptr %thread, i32 %site, i32 {int(Fault.GLOBAL_RACE)}, i64 %address, i32 %bytes,
    i32 %store)
  ret i1 true
}}
"""

# f32 -> bf16 in integers: LLVM's own lowering may flush subnormals.
BF16_FROM_F32 = """
define internal i16 @bf16_from_f32(float %x) alwaysinline {
  %bits = bitcast float %x to i32
  %lsb.s = lshr i32 %bits, 16
  %lsb = and i32 %lsb.s, 1
  %half = add i32 %lsb, 32767
  %sum = add i32 %bits, %half
  %high = lshr i32 %sum, 16
  %rounded = trunc i32 %high to i16
  %nan = fcmp uno float %x, %x
  %result = select i1 %nan, i16 32767, i16 %rounded
  ret i16 %result
}
"""

# f64 -> f32 rounded to odd: a second rounding to <= 22 bits then gives the correct result.
F32_ODD_FROM_F64 = """
define internal float @f32_odd_from_f64(double %x) alwaysinline {
  %near = fptrunc double %x to float
  %back = fpext float %near to double
  %xa = call double @llvm.fabs.f64(double %x)
  %ba = call double @llvm.fabs.f64(double %back)
  %above = fcmp ogt double %ba, %xa
  %exact = fcmp ueq double %ba, %xa
  %bits = bitcast float %near to i32
  %less = sub i32 %bits, 1
  %down = select i1 %above, i32 %less, i32 %bits
  %odd = or i32 %down, 1
  %result = select i1 %exact, i32 %bits, i32 %odd
  %float = bitcast i32 %result to float
  ret float %float
}
"""

# a * b (exact in f64 for 11-bit operands) + c, rounded to odd in f64 by Knuth's two-sum.
FMA_ODD = """
define internal double @fma_odd(double %a, double %b, double %c) alwaysinline {
  %p = fmul double %a, %b
  %s = fadd double %p, %c
  %bv = fsub double %s, %p
  %av = fsub double %s, %bv
  %br = fsub double %c, %bv
  %ar = fsub double %p, %av
  %e = fadd double %ar, %br
  %bits = bitcast double %s to i64
  %inexact = fcmp one double %e, 0.0
  %s.negative = icmp slt i64 %bits, 0
  %e.negative = fcmp olt double %e, 0.0
  %away = icmp ne i1 %s.negative, %e.negative
  %less = sub i64 %bits, 1
  %down = select i1 %away, i64 %less, i64 %bits
  %odd = or i64 %down, 1
  %result = select i1 %inexact, i64 %odd, i64 %bits
  %double = bitcast i64 %result to double
  ret double %double
}
"""


_FIXED = {
    "fault": FAULT,
    "race": RACE,
    "trace": TRACE_FUNCTION,
    "bf16_from_f32": BF16_FROM_F32,
    "f32_odd_from_f64": F32_ODD_FROM_F64,
    "fma_odd": FMA_ODD,
    "same_warp": SAME_WARP,
    **FUNCTIONS,
}
_INTRINSICS = (
    "double @llvm.copysign.f64(double, double)",
    "double @llvm.fabs.f64(double)",
    "double @llvm.fma.f64(double, double, double)",
    "i64 @llvm.ctlz.i64(i64, i1)",
    "i64 @llvm.usub.sat.i64(i64, i64)",
)


def touches(name: str) -> str:
    """The alias class (lowering.TBAA) of the memory that a function touches; "" for all or none.

    Checks also write THREAD when they find something, but then `step` returns at once.
    """
    if name.startswith("shared_"):
        return "shadow"
    if name.startswith("global_"):
        return "cache"
    return "thread" if name == "fault" else ""


def text(names: set[str]) -> tuple[str, set[str]]:
    """IR of the named functions, and the intrinsic declarations that they need."""
    parts: list[str] = []
    declares: set[str] = set()
    checks = {name for name in names if name.startswith(("global_", "shared_"))}
    granules = {re.sub(r"_(\w+)_\d+", r"_granule_\1", n) for n in checks if n.startswith("shared_")}
    for name in sorted(names | granules | ({"fault"} if checks or "race" in names else set())):
        check = re.fullmatch(r"(shared|global)_(\w+)_(\d+)", name)
        if check:
            build = shared_check if check[1] == "shared" else global_check
            part = build(int(check[3]), check[2])
        elif name in granules:
            action = name.removeprefix("shared_granule_")
            part = granule_check(action) + apart_check(action)
        else:
            part = _FIXED[name]
        parts.append(part)
        declares |= {f"declare {known}" for known in _INTRINSICS if known.split("(")[0] in part}
    return "\n".join(parts), declares
