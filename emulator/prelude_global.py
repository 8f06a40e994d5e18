"""LLVM IR function that checks one access of global memory.

Contract: `global_check(n, action)` is the text of `@global_<action>_<n>(thread, site, cache,
buffers, count, address)`: alignment, bounds and, where the buffer has one, the shadow that says
which bytes were written. It returns false, or stores a fault in THREAD and returns true. The cache
entry of the site is a BUFFER whose `size` is the number of addresses at which this site's access
may start, and whose `shadow` is (address of the shadow) - start, or 0.
"""

from __future__ import annotations

from emulator.layout import BUFFER, Fault, offset


def global_check(n: int, action: str) -> str:
    """IR of `@global_<action>_<n>`. action: as in prelude_shared.shared_check."""
    writes = action not in ("read", "strong_read")
    reads = action not in ("write", "strong_write")
    ones = int.from_bytes(b"\x01" * n, "little")
    note = f"  store i{8 * n} {ones}, ptr %first, align 1\n  br label %good"
    check = f"""  %flags = load i{8 * n}, ptr %first, align 1
  %set = icmp eq i{8 * n} %flags, {ones}
  br i1 %set, label %good, label %bad"""
    unwritten = f", [ {int(Fault.UNINITIALISED)}, %tracked ]" if reads else ""
    return f"""
define internal i1 @global_{action}_{n}(ptr noalias %thread, i32 %site, ptr noalias %cache,
    ptr noalias readonly %buffers, i32 %count32, i64 %address) noinline nounwind {{
entry:
  %low = and i64 %address, {n - 1}
  %aligned = icmp eq i64 %low, 0
  br i1 %aligned, label %look, label %bad
look:
  %cs = getelementptr i8, ptr %cache, i64 {offset(BUFFER, "size")}
  %cw = getelementptr i8, ptr %cache, i64 {offset(BUFFER, "shadow")}
  %cached = load i64, ptr %cache
  %starts0 = load i64, ptr %cs
  %delta0 = load i64, ptr %cw
  %off0 = sub i64 %address, %cached
  %known = icmp ult i64 %off0, %starts0
  br i1 %known, label %inside, label %search
search:
  %count = zext i32 %count32 to i64
  br label %loop
loop:
  %i = phi i64 [ 0, %search ], [ %next, %step ]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %test, label %bad
test:
  %where = mul i64 %i, {BUFFER.itemsize}
  %buffer = getelementptr i8, ptr %buffers, i64 %where
  %start = load i64, ptr %buffer
  %ps = getelementptr i8, ptr %buffer, i64 {offset(BUFFER, "size")}
  %length = load i64, ptr %ps
  %off = sub i64 %address, %start
  %fits = icmp uge i64 %length, {n}
  %room = sub i64 %length, {n}
  %reached = icmp ule i64 %off, %room
  %hit = and i1 %fits, %reached
  br i1 %hit, label %found, label %step
step:
  %next = add i64 %i, 1
  br label %loop
found:
  %pw = getelementptr i8, ptr %buffer, i64 {offset(BUFFER, "shadow")}
  %shadow = load i64, ptr %pw
  %plain = icmp eq i64 %shadow, 0
  %moved = sub i64 %shadow, %start
  %delta1 = select i1 %plain, i64 0, i64 %moved
  %starts = add i64 %room, 1
  store i64 %start, ptr %cache
  store i64 %starts, ptr %cs
  store i64 %delta1, ptr %cw
  br label %inside
inside:
  %delta = phi i64 [ %delta0, %look ], [ %delta1, %found ]
  %untracked = icmp eq i64 %delta, 0
  br i1 %untracked, label %good, label %tracked
tracked:
  %first.i = add i64 %address, %delta
  %first = inttoptr i64 %first.i to ptr
{check if reads else note}
good:
  ret i1 false
bad:
  %fault = phi i32 [ {int(Fault.MISALIGNED)}, %entry ],
    [ {int(Fault.OUT_OF_BOUNDS)}, %loop ]{unwritten}
  call void @fault(ptr %thread, i32 %site, i32 %fault, i64 %address, i32 {n}, i32 {int(writes)})
  ret i1 true
}}
"""
