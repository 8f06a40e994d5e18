"""LLVM IR functions that check one access of shared memory for races.

Contract: `shared_check(n, action)` is the text of `@shared_<action>_<n>(thread, site, base, length,
writers, readers, me, offset)`. It checks alignment and bounds, then compares the n shadow words at
`offset` with the thread's own word `me`, all bytes at once. It returns false and notes the access,
or stores a fault in THREAD, leaves the words alone and returns true. Without shadow (`writers` is
null) only alignment and bounds are checked. layout.py says what a shadow word holds; on top of
that, bit 30 of a writer word says that the write was atomic or strong.
"""

from __future__ import annotations

from emulator.layout import Fault

EPOCH, WARP_EPOCH, LANE, WARP_FIELD = 0x7FF, 0x1FF << 11, 0x1F << 20, 0x1F << 25
ATOMIC = 1 << 30  # in a writer word: the last write was atomic or strong
LANES, WARPS = 1 << 30, -(1 << 31)  # in a reader word


def _constant(n: int, value: int) -> str:
    return "<" + ", ".join([f"i32 {value}"] * n) + ">"


def _clash(n: int, word: str, me: str, name: str, reader: bool) -> str:
    """IR for `%name`: <n x i1>, the byte was touched by another thread and nothing orders us."""
    vector = f"<{n} x i32>"
    lines = [
        f"%{name}.x = xor {vector} {word}, {me}",
        f"%{name}.e = and {vector} %{name}.x, {_constant(n, EPOCH)}",
        f"%{name}.same = icmp eq {vector} %{name}.e, {_constant(n, 0)}",
        f"%{name}.w = and {vector} %{name}.x, {_constant(n, WARP_FIELD)}",
        f"%{name}.otherwarp = icmp ne {vector} %{name}.w, {_constant(n, 0)}",
        f"%{name}.we = and {vector} %{name}.x, {_constant(n, WARP_EPOCH)}",
        f"%{name}.samewe = icmp eq {vector} %{name}.we, {_constant(n, 0)}",
        f"%{name}.l = and {vector} %{name}.x, {_constant(n, LANE)}",
        f"%{name}.otherlane = icmp ne {vector} %{name}.l, {_constant(n, 0)}",
    ]
    lane, warp = f"%{name}.otherlane", f"%{name}.otherwarp"
    if reader:
        lines += [
            f"%{name}.ls = and {vector} {word}, {_constant(n, LANES)}",
            f"%{name}.lanes = icmp ne {vector} %{name}.ls, {_constant(n, 0)}",
            f"%{name}.warps = icmp slt {vector} {word}, {_constant(n, 0)}",
            f"%{name}.lane = or <{n} x i1> {lane}, %{name}.lanes",
            f"%{name}.warp = or <{n} x i1> {warp}, %{name}.warps",
        ]
        lane, warp = f"%{name}.lane", f"%{name}.warp"
    lines += [
        f"%{name}.inwarp = and <{n} x i1> %{name}.samewe, {lane}",
        f"%{name}.any = or <{n} x i1> {warp}, %{name}.inwarp",
        f"%{name} = and <{n} x i1> %{name}.same, %{name}.any",
    ]
    return "\n".join("  " + line for line in lines)


def _any(n: int, vector: str, name: str) -> str:
    """IR for `%name`: i1, whether any lane of <n x i1> is set."""
    return (
        f"  %{name}.i = bitcast <{n} x i1> {vector} to i{n}\n  %{name} = icmp ne i{n} %{name}.i, 0"
    )


def shared_check(n: int, action: str) -> str:
    """IR of `@shared_<action>_<n>`: check and note an access of n bytes of shared memory.

    action: read, write (plain), strong_read, strong_write (volatile, relaxed, acquire, release) and
    atomic (reads and writes). A plain and a strong access of two unordered threads clash; two
    strong ones do not. Strong reads leave no trace in the reader words, so a plain write after one
    is not reported.
    """
    vector = f"<{n} x i32>"
    reads = action not in ("write", "strong_write")
    strong = action not in ("read", "write")
    writes = action not in ("read", "strong_read")
    lines = [
        f"define internal i1 @shared_{action}_{n}(ptr noalias %thread, i32 %site, i64 %base, "
        "i64 %length, ptr noalias %writers, ptr noalias %readers, i32 %me, i64 %offset) "
        "noinline nounwind {",
        "entry:",
        f"  %room = sub i64 %length, {n - 1}",
        f"  %fits = icmp uge i64 %length, {n}",
        "  %starts = icmp ult i64 %offset, %room",
        "  %inside = and i1 %fits, %starts",
        f"  %low = and i64 %offset, {n - 1}",
        "  %aligned = icmp eq i64 %low, 0",
        "  %allowed = and i1 %inside, %aligned",
        "  br i1 %allowed, label %allowed.yes, label %allowed.no",
        "allowed.no:",
        f"  %which = select i1 %aligned, i32 {int(Fault.OUT_OF_BOUNDS)}, "
        f"i32 {int(Fault.MISALIGNED)}",
        "  br label %bad",
        "allowed.yes:",
        "  %unwatched = icmp eq ptr %writers, null",
        "  br i1 %unwatched, label %good, label %watched",
        "watched:",
        "  %wq = getelementptr i32, ptr %writers, i64 %offset",
        "  %rq = getelementptr i32, ptr %readers, i64 %offset",
        f"  %w = load {vector}, ptr %wq, align 4",
        f"  %r = load {vector}, ptr %rq, align 4",
        f"  %one = insertelement {vector} poison, i32 %me, i32 0",
        f"  %mine = shufflevector {vector} %one, {vector} poison, <{n} x i32> zeroinitializer",
        f"  %pending.v = icmp eq {vector} %w, {_constant(n, -1)}",
        _any(n, "%pending.v", "pending"),
        "  br i1 %pending, label %bad, label %landed",
        "landed:",
    ]
    if reads:
        lines += [
            f"  %never.v = icmp eq {vector} %w, {_constant(n, 0)}",
            _any(n, "%never.v", "never"),
            "  br i1 %never, label %bad, label %written",
            "written:",
        ]
    lines.append(_clash(n, "%w", "%mine", "wc", reader=False))
    clash = "%wc"
    if strong:
        lines += [
            f"  %aw = and {vector} %w, {_constant(n, ATOMIC)}",
            f"  %plain = icmp eq {vector} %aw, {_constant(n, 0)}",
            f"  %wcp = and <{n} x i1> %wc, %plain",
        ]
        clash = "%wcp"
    if writes:
        lines.append(_clash(n, "%r", "%mine", "rc", reader=True))
        lines.append(f"  %both = or <{n} x i1> {clash}, %rc")
        clash = "%both"
    lines += [
        _any(n, clash, "race"),
        "  br i1 %race, label %bad, label %ordered",
        "ordered:",
    ]
    if writes:
        word = "%mine"
        if strong:
            lines.append(f"  %marked = or {vector} %mine, {_constant(n, ATOMIC)}")
            word = "%marked"
        lines.append(f"  store {vector} {word}, ptr %wq, align 4")
    elif not strong:
        lines.append(_note_reader(n))
    last = "written" if reads else "landed"
    faults = [
        "[ %which, %allowed.no ]",
        f"[ {int(Fault.PENDING_COPY)}, %watched ]",
        f"[ {int(Fault.RACE)}, %{last} ]",
    ]
    if reads:
        faults.append(f"[ {int(Fault.UNINITIALISED)}, %landed ]")
    lines += [
        "  br label %good",
        "good:",
        "  ret i1 false",
        "bad:",
        f"  %fault = phi i32 {', '.join(faults)}",
        "  %address = add i64 %base, %offset",
        "  call void @fault(ptr %thread, i32 %site, i32 %fault, i64 %address, "
        f"i32 {n}, i32 {int(writes)})",
        "  ret i1 true",
        "}",
    ]
    return "\n".join(lines)


def _note_reader(n: int) -> str:
    """IR that merges `%mine` into the reader words `%r`, keeping that others read too."""
    vector, bits = f"<{n} x i32>", f"<{n} x i1>"
    lines = [
        f"%n.x = xor {vector} %r, %mine",
        f"%n.e = and {vector} %n.x, {_constant(n, EPOCH)}",
        f"%n.same = icmp eq {vector} %n.e, {_constant(n, 0)}",
        f"%n.w = and {vector} %n.x, {_constant(n, WARP_FIELD)}",
        f"%n.otherwarp = icmp ne {vector} %n.w, {_constant(n, 0)}",
        f"%n.warps = icmp slt {vector} %r, {_constant(n, 0)}",
        f"%n.anywarp = or {bits} %n.otherwarp, %n.warps",
        f"%n.setwarps = and {bits} %n.same, %n.anywarp",
        f"%n.we = and {vector} %n.x, {_constant(n, WARP_FIELD | WARP_EPOCH)}",
        f"%n.samewe = icmp eq {vector} %n.we, {_constant(n, 0)}",
        f"%n.l = and {vector} %n.x, {_constant(n, LANE)}",
        f"%n.otherlane = icmp ne {vector} %n.l, {_constant(n, 0)}",
        f"%n.ls = and {vector} %r, {_constant(n, LANES)}",
        f"%n.lanes = icmp ne {vector} %n.ls, {_constant(n, 0)}",
        f"%n.anylane = or {bits} %n.otherlane, %n.lanes",
        f"%n.here = and {bits} %n.same, %n.samewe",
        f"%n.setlanes = and {bits} %n.here, %n.anylane",
        f"%n.b31 = select {bits} %n.setwarps, {vector} {_constant(n, WARPS)}, "
        f"{vector} {_constant(n, 0)}",
        f"%n.b30 = select {bits} %n.setlanes, {vector} {_constant(n, LANES)}, "
        f"{vector} {_constant(n, 0)}",
        f"%n.marks = or {vector} %n.b31, %n.b30",
        f"%n.new = or {vector} %mine, %n.marks",
        f"store {vector} %n.new, ptr %rq, align 4",
    ]
    return "\n".join("  " + line for line in lines)
