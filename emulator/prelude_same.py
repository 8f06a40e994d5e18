"""LLVM IR of the one race that is none: lanes of a warp that store the same value at one place.

Contract: `@same_warp(thread, context, me, offset, size)` is asked after a shared-memory store was
stopped. It returns true where the fault is a race whose other side, for every byte, is a plain
write by this warp since its latest synchronisation, with no reader in this epoch. If memory holds
the very bytes that are to be stored, the store changes nothing and the thread may go on.

Source: CUDA C++ Programming Guide, "SIMT Architecture": where lanes of a warp write to one
location, which of them does so last is undefined, not that one does.
"""

from __future__ import annotations

from emulator.layout import CONTEXT, SHADOW_MIXED, THREAD, Fault, offset
from emulator.prelude_shared import EPOCH, LANE


def _field(field: str) -> str:
    return (
        f"  %{field}.p = getelementptr i8, ptr %context, i64 {offset(CONTEXT, field)}\n"
        f"  %{field} = load ptr, ptr %{field}.p"
    )


SAME_WARP = f"""
define internal i1 @same_warp(ptr %thread, ptr %context, i32 %me, i64 %offset, i64 %size)
    cold noinline nounwind {{
entry:
{_field("writer_shadow")}
{_field("reader_shadow")}
{_field("byte_writers")}
{_field("byte_readers")}
  %kind.p = getelementptr i8, ptr %thread, i64 {offset(THREAD, "args")}
  %kind = load i32, ptr %kind.p
  %race = icmp eq i32 %kind, {int(Fault.RACE)}
  br i1 %race, label %loop, label %no
loop:
  %place = phi i64 [ 0, %entry ], [ %next, %step ]
  %at = add i64 %offset, %place
  %first = and i64 %at, -4
  %w.p = getelementptr i8, ptr %writer_shadow, i64 %first
  %r.p = getelementptr i8, ptr %reader_shadow, i64 %first
  %wb.p = getelementptr i32, ptr %byte_writers, i64 %at
  %rb.p = getelementptr i32, ptr %byte_readers, i64 %at
  %w.all = load i32, ptr %w.p
  %r.all = load i32, ptr %r.p
  %w.byte = load i32, ptr %wb.p
  %r.byte = load i32, ptr %rb.p
  %mixed = icmp eq i32 %w.all, {SHADOW_MIXED - (1 << 32)}
  %w = select i1 %mixed, i32 %w.byte, i32 %w.all
  %r = select i1 %mixed, i32 %r.byte, i32 %r.all
  %w.x = xor i32 %w, %me
  %w.other = and i32 %w.x, {~LANE}
  %ours = icmp eq i32 %w.other, 0
  %r.x = xor i32 %r, %me
  %r.epoch = and i32 %r.x, {EPOCH}
  %unread = icmp ne i32 %r.epoch, 0
  %fine = and i1 %ours, %unread
  br i1 %fine, label %step, label %no
step:
  %next = add i64 %place, 1
  %left = icmp ult i64 %next, %size
  br i1 %left, label %loop, label %yes
yes:
  ret i1 true
no:
  ret i1 false
}}
"""
