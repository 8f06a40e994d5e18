"""Special registers.

Contract: `special(low, name)` gives (value, width). Clocks and timers count executed `step` calls'
fuel: they grow, and mean nothing else. %smid is 0, %nsmid 1. %warpid and %laneid follow the linear
thread index. Performance counters and environment registers are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.layout import CONTEXT, THREAD, offset

if TYPE_CHECKING:
    from emulator.lowering import Lowering

_CONSTANTS = {
    "WARP_SZ": ("32", 32),
    "%smid": ("0", 32),
    "%nsmid": ("1", 32),
    "%gridid": ("0", 64),
    "%clock_hi": ("0", 32),
    "%globaltimer_hi": ("0", 32),
}


def special(low: Lowering, name: str) -> tuple[str, int]:
    """The value of a special register and its width."""
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    stem, _, part = name.partition(".")
    if stem in ("%tid", "%ntid", "%ctaid", "%nctaid"):
        if part not in ("x", "y", "z"):
            raise low.now.unsupported(f"special register {name}")
        index = "xyz".index(part)
        if stem == "%tid":
            return low.thread("tid", index), 32
        return low.context(stem[1:], index), 32
    if name == "%laneid":
        return low.thread("lane"), 32
    if name == "%warpid":
        return low.thread("warp"), 32
    if name == "%nwarpid":
        threads = low.value(f"mul i32 {low.context('ntid', 0)}, {low.context('ntid', 1)}")
        threads = low.value(f"mul i32 {threads}, {low.context('ntid', 2)}")
        return low.value(f"lshr i32 {low.value(f'add i32 {threads}, 31')}, 5"), 32
    if name.startswith("%lanemask_"):
        return _lanemask(low, name[len("%lanemask_") :]), 32
    if name == "%dynamic_smem_size":
        return low.context("dynamic_shared_size"), 32
    if name == "%total_smem_size":
        return low.context("shared_size"), 32
    if name in ("%clock", "%clock64", "%globaltimer", "%globaltimer_lo"):
        return _clock(low, 64 if name in ("%clock64", "%globaltimer") else 32)
    raise low.now.unsupported(f"special register {name}")


def _lanemask(low: Lowering, kind: str) -> str:
    bit = low.value(f"shl i32 1, {low.thread('lane')}")
    if kind == "eq":
        return bit
    below = low.value(f"sub i32 {bit}, 1")
    if kind == "lt":
        return below
    up_to = low.value(f"or i32 {below}, {bit}")
    if kind == "le":
        return up_to
    above = low.value(f"xor i32 {up_to}, -1")
    return above if kind == "gt" else low.value(f"or i32 {above}, {bit}")


def _clock(low: Lowering, width: int) -> tuple[str, int]:
    fuel = low.load("i64", "%thread", offset(THREAD, "fuel"), "thread")
    epoch = low.load("i32", "%context", offset(CONTEXT, "epoch"), "context")
    ticks = low.value(f"sub i64 {1 << 40}, {fuel}")
    ticks = low.value(f"add i64 {ticks}, {low.resize(epoch, 32, 64)}")
    return low.resize(ticks, 64, width), width
