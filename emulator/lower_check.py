"""Checks and traces around memory accesses, inlined into the kernel.

Contract: `guard(low, space, address, size, action)` emits the checks of one access of `size` bytes
(vector accesses count whole) and returns the host address as i64. For shared memory `address` is
the offset in the window, elsewhere it is a host address. action: read, write, strong_read,
strong_write, atomic.

Global and constant memory: natural alignment, inside one BUFFER, and initialised where the buffer
has a shadow. The range that a site hit last is cached per site. Shared memory: alignment, bounds,
then the race shadow (prelude_shared.py), unless CONTEXT.writer_shadow is 0. Local memory and
parameters: alignment and bounds. Generic addresses: whichever window holds them. Local memory is
not checked for uninitialised reads.
"""

from __future__ import annotations

from collections.abc import Sequence

from emulator.flow import effects
from emulator.layout import BUFFER, CONTEXT, GRANULE, Fault, offset
from emulator.lowering import Lowering
from emulator.prelude_shared import EPOCH, LANE, LANES, WARPS, constant, splat
from emulator.race_records import ACTIONS

STORES = ("write", "strong_write", "atomic")
Values = Sequence[tuple[int, str]]  # (bits, value)


def guard(
    low: Lowering, space: str, address: str, size: int, action: str, values: Values = ()
) -> str:
    """Check and trace; returns the host address. values: what a store writes, in order."""
    if space == "shared":
        host = low.value(f"add i64 {low.entry_load('shared', 'i64')}, {address}")
        if low.checks:
            _shared(low, address, size, action, values)
        _trace(low, host, size, action, shared=True)
        return host
    if space == "generic":
        _generic(low, address, size, action, values)
        return address
    if space in ("global", "const"):
        if low.checks:
            _global(low, address, size, action)
        if low.races and space == "global":
            _race(low, address, size, action)
        _trace(low, address, size, action, shared=False)
    elif low.checks:
        _window(low, space, address, size, action)
    return address


def trace_value(low: Lowering, host: str, size: str, kind: int) -> None:
    """Append a TRACE record with a size (i16) known only at run time."""
    if low.trace:
        low.helper(
            "void", "trace", ("ptr", "%thread"), ("ptr", "%context"), ("i64", host),
            ("i32", str(low.now.site)), ("i16", size), ("i16", str(kind)),
        )  # fmt: skip


def _trace(low: Lowering, host: str, size: int, action: str, shared: bool) -> None:
    trace_value(low, host, str(size), (action in STORES) | shared << 1)


def in_shared(low: Lowering, host: str) -> tuple[str, str]:
    """(offset, i1): the place of a host address in the shared window, and whether it lies there."""
    place = low.value(f"sub i64 {host}, {low.entry_load('shared', 'i64')}")
    return place, low.value(f"icmp ult i64 {place}, {_shared_size(low)}")


def _shared_size(low: Lowering) -> str:
    return low.resize(low.entry_load("shared_size", "i32"), 32, 64)


def _slots(low: Lowering) -> tuple[str, int]:
    """(address, length) of the thread's own memory: local variables and call parameters."""
    return low.value("ptrtoint ptr %frame to i64"), low.slots_size


def _params(low: Lowering) -> tuple[str, int]:
    """(address, length) of the kernel's parameters."""
    params = low.program.entry.params
    return low.context("params", kind="i64"), params[-1].offset + params[-1].size if params else 0


def _aligned(low: Lowering, address: str, size: int) -> str:
    if size == 1:
        return "true"
    return low.value(f"icmp eq i64 {low.value(f'and i64 {address}, {size - 1}')}, 0")


def _require(low: Lowering, inside: str, aligned: str, host: str, size: int, action: str) -> None:
    """Go on if both hold, else fault."""
    bad, good = low.fresh("bad"), low.fresh("good")
    low.branch(low.value(f"and i1 {inside}, {aligned}"), good, bad)
    low.label(bad)
    kinds = f"i32 {int(Fault.OUT_OF_BOUNDS)}, i32 {int(Fault.MISALIGNED)}"
    low.fail(low.value(f"select i1 {aligned}, {kinds}"), host, size, action in STORES)
    low.label(good)


def _within(low: Lowering, window: tuple[str, int], address: str, size: int) -> str:
    """i1: an access of `size` bytes lies inside (address, length)."""
    base, length = window
    place = low.value(f"sub i64 {address}, {base}")
    return low.value(f"icmp ult i64 {place}, {max(0, length - size + 1)}")


def _window(low: Lowering, space: str, address: str, size: int, action: str) -> None:
    """Local memory; or parameters, of the kernel or of an inlined call."""
    inside = _within(low, _slots(low), address, size)
    if space == "param":
        inside = low.value(f"or i1 {inside}, {_within(low, _params(low), address, size)}")
    _require(low, inside, _aligned(low, address, size), address, size, action)


def _me(low: Lowering) -> str:
    """This thread's shadow word."""
    epoch, warps = offset(CONTEXT, "epoch"), offset(CONTEXT, "warp_epoch")
    low.at_entry("lane", _entry_field("lane", "%thread", low.thread_offset("lane")))
    low.at_entry("warp", _entry_field("warp", "%thread", low.thread_offset("warp")))
    return low.at_entry(
        "me",
        [
            *_entry_field("epoch", "%context", epoch),
            "%warp.64 = zext i32 %warp to i64",
            f"%warp.base = getelementptr i8, ptr %context, i64 {warps}",
            "%warp.p2 = getelementptr i32, ptr %warp.base, i64 %warp.64",
            "%warp_epoch = load i32, ptr %warp.p2",
            "%me.e = and i32 %epoch, 2047",
            "%me.we = and i32 %warp_epoch, 511",
            "%me.we.s = shl i32 %me.we, 11",
            "%me.l = shl i32 %lane, 20",
            "%me.w = shl i32 %warp, 25",
            "%me.1 = or i32 %me.e, %me.we.s",
            "%me.2 = or i32 %me.l, %me.w",
            "%me = or i32 %me.1, %me.2",
        ],
    )


def _entry_field(name: str, base: str, where: int) -> list[str]:
    return [
        f"%{name}.p = getelementptr i8, ptr {base}, i64 {where}",
        f"%{name} = load i32, ptr %{name}.p",
    ]


def _shared(low: Lowering, place: str, size: int, action: str, values: Values) -> None:
    """Inline: one more read where several read already. The rest is a call."""
    good = low.fresh("good")
    if action == "read":
        check = low.fresh("check")
        _look(low, place, size, good, check)
        low.label(check)
    failed = low.helper(
        "i1", f"shared_{action}_{size}", ("ptr", "%thread"), ("ptr", "%context"),
        ("i32", str(low.now.site)), ("i32", _me(low)), ("i64", place),
    )  # fmt: skip
    if values:
        same = low.fresh("same")
        low.branch(failed, same, good)
        low.label(same)
        _same_value(low, place, values, good)
    elif low.now.site in low.taints.sites:
        low.taints.unwritten(failed, place, size, good)
    else:
        low.branch(failed, "return", good)
    low.label(good)


def _same_value(low: Lowering, place: str, values: Values, good: str) -> None:
    """Go to `good` if another lane of this warp has just stored these values (prelude_same.py)."""
    size = sum(bits for bits, _ in values) // 8
    ordered = low.helper(
        "i1", "same_warp", ("ptr", "%thread"), ("ptr", "%context"), ("i32", _me(low)),
        ("i64", place), ("i64", str(size)),
    )  # fmt: skip
    compare = low.fresh("compare")
    low.branch(ordered, compare, "return")
    low.label(compare)
    host = low.value(f"add i64 {low.entry_load('shared', 'i64')}, {place}")
    pointer, at, same = low.value(f"inttoptr i64 {host} to ptr"), 0, "true"
    for bits, value in values:
        there = low.load(f"i{bits}", pointer, at, "memory")
        same = low.value(f"and i1 {same}, {low.value(f'icmp eq i{bits} {there}, {value}')}")
        at += bits // 8
    low.branch(same, good, "return")


def _look(low: Lowering, place: str, size: int, good: str, check: str) -> None:
    """Go to `good` if the reader words say that this read is right and leaves no trace."""
    log, count = size.bit_length() - 1, max(1, size // GRANULE)
    look, readers = low.fresh("look"), low.entry_load("reader_shadow", "ptr")
    turned = place  # misaligned: a number beyond every room
    if log:
        turned = low.call("i64", "llvm.fshr.i64", *[("i64", x) for x in (place, place, str(log))])
    low.branch(low.value(f"icmp ult i64 {turned}, {_room(low, readers, log)}"), look, check)
    low.label(look)
    first = low.value(f"and i64 {place}, {-GRANULE}") if size < GRANULE else place
    word = low.value(f"getelementptr i8, ptr {readers}, i64 {first}")
    words = low.value(f"load <{count} x i32>, ptr {word}, align 4{low.tag('shadow')}")
    warps = _alike(low, words, count, WARPS | EPOCH, WARPS, "several_warps")
    lanes = _alike(low, words, count, ~LANE, LANES, "several_lanes")
    several = low.value(f"or <{count} x i1> {warps}, {lanes}")
    several = low.value(f"bitcast <{count} x i1> {several} to i{count}")
    low.branch(low.value(f"icmp eq i{count} {several}, -1"), good, check)


def _room(low: Lowering, readers: str, log: int) -> str:
    """How many aligned places of 2**log bytes shared memory has; 0 if nobody watches it."""
    size = low.entry_load("shared_size", "i32")
    low.at_entry(
        "room",
        [
            f"%unwatched = icmp eq ptr {readers}, null",
            f"%watched = select i1 %unwatched, i32 0, i32 {size}",
            "%room = zext i32 %watched to i64",
        ],
    )
    return low.at_entry(f"room{log}", [f"%room{log} = lshr i64 %room, {log}"])


def _alike(low: Lowering, words: str, count: int, mask: int, flag: int, name: str) -> str:
    """<count x i1>: a word says, in the bits of `mask`, that several threads read there."""
    me, kind = _me(low), f"<{count} x i32>"
    wanted = low.at_entry(
        f"{name}{count}",
        [
            f"%{name}{count}.m = and i32 {me}, {mask}",
            f"%{name}{count}.w = or i32 %{name}{count}.m, {flag}",
            splat(count, f"%{name}{count}.w", f"{name}{count}").strip(),
        ],
    )
    kept = low.value(f"and {kind} {words}, {constant(count, mask)}")
    return low.value(f"icmp eq {kind} {kept}, {wanted}")


def _global(low: Lowering, address: str, size: int, action: str) -> None:
    """Inline: aligned, in the range of last time, and written where that matters. Else a call."""
    table = low.entry_load("site_cache", "ptr")
    cache = low.value(f"getelementptr i8, ptr {table}, i64 {low.now.site * BUFFER.itemsize}")
    start = low.load("i64", cache, 0, "cache")
    starts = low.load("i64", cache, offset(BUFFER, "size"), "cache")
    delta = low.load("i64", cache, offset(BUFFER, "shadow"), "cache")
    inside = low.value(f"icmp ult i64 {low.value(f'sub i64 {address}, {start}')}, {starts}")
    usual = low.value(f"and i1 {inside}, {_aligned(low, address, size)}")
    call, near, tracked, good = (low.fresh(n) for n in ("check", "near", "tracked", "good"))
    low.branch(usual, near, call)
    low.label(near)
    low.branch(low.value(f"icmp eq i64 {delta}, 0"), good, tracked)
    low.label(tracked)
    flags = low.value(f"inttoptr i64 {low.value(f'add i64 {address}, {delta}')} to ptr")
    kind, ones = f"i{8 * size}", str(int.from_bytes(b"\x01" * size, "little"))
    if action in ("write", "strong_write"):
        low.store(kind, ones, flags, 0, "cache")
        low.jump(good)
    else:
        written = low.load(kind, flags, 0, "cache")
        low.branch(low.value(f"icmp eq {kind} {written}, {ones}"), good, call)
    low.label(call)
    failed = low.helper(
        "i1", f"global_{action}_{size}", ("ptr", "%thread"), ("i32", str(low.now.site)),
        ("ptr", cache), ("ptr", low.entry_load("buffers", "ptr")),
        ("i32", low.entry_load("buffer_count", "i32")), ("i64", address),
    )  # fmt: skip
    low.branch(failed, "return", good)
    low.label(good)


def _race(low: Lowering, address: str, size: int, action: str) -> None:
    """Tell global_races.py of an access, or with size 0 of a fence."""
    modifiers = low.now.modifiers
    releases = not {"release", "acq_rel"}.isdisjoint(modifiers) and "cta" not in modifiers
    good = low.fresh("unraced")
    failed = low.helper(
        "i1", "race", ("ptr", "%thread"), ("ptr", "%context"), ("i32", str(low.now.site)),
        ("i64", address), ("i64", str(size)), ("i64", str(ACTIONS.index(_watched(low, action)))),
        ("i64", str(int(releases and action != "read"))),
    )  # fmt: skip
    low.branch(failed, "return", good)
    low.label(good)


def _watched(low: Lowering, action: str) -> str:
    """The action's name in global_races.py: an atomic whose result nobody reads is "reduce"."""
    if action != "atomic":
        return action
    if low.now.root == "red":
        return "reduce"
    result, _ = effects(low.now, 0)
    used = any(effects(instruction, 0)[1] & result for instruction in low.program.instructions)
    return action if used else "reduce"


def note_fence(low: Lowering) -> None:
    """A fence that reaches other blocks."""
    if low.races and "cta" not in low.now.modifiers:
        _race(low, "0", 0, "read")


def _generic(low: Lowering, address: str, size: int, action: str, values: Values) -> None:
    """Find the window of a generic address, then check as there."""
    done = low.fresh("generic")
    if low.program.shared:
        place, yes = in_shared(low, address)
        shared, other = low.fresh("shared"), low.fresh("other")
        low.branch(yes, shared, other)
        low.label(shared)
        guard(low, "shared", place, size, action, values)
        low.jump(done)
        low.label(other)
    private = _within(low, _slots(low), address, 1)
    private = low.value(f"or i1 {private}, {_within(low, _params(low), address, 1)}")
    window, other = low.fresh("window"), low.fresh("other")
    low.branch(private, window, other)
    low.label(window)
    guard(low, "param", address, size, action)
    low.jump(done)
    low.label(other)
    guard(low, "global", address, size, action)
    low.jump(done)
    low.label(done)
