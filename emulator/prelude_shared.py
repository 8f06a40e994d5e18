"""LLVM IR functions that check one access of shared memory for races.

Contract: `shared_check(n, action)` is the text of `@shared_<action>_<n>(thread, context, site, me,
offset)`. It checks alignment and bounds, then compares the shadow words at `offset` with the
thread's own word `me`, all granules at once. It returns false and notes the access, or stores a
fault in THREAD and returns true. Without shadow (CONTEXT.writer_shadow is 0) only alignment and
bounds are checked. `granule_check(action)` is the text of `@shared_granule_<action>`, which does
one granule byte by byte: for accesses of less than a granule, and for mixed ones. layout.py says
what a shadow word holds; on top of that, bit 30 of a writer word says that the write was atomic or
strong.

action: read, write (plain), strong_read, strong_write (volatile, relaxed, acquire, release) and
atomic (reads and writes). A plain and a strong access of two unordered threads clash; two strong
ones do not. Strong reads leave no trace in the reader words, so a plain write after one is not
reported.
"""

from __future__ import annotations

from emulator.layout import CONTEXT, GRANULE, OLD_EPOCH, SHADOW_MIXED, Fault, offset

EPOCH, WARP_EPOCH, LANE, WARP_FIELD = 0x7FF, 0x1FF << 11, 0x1F << 20, 0x1F << 25
ATOMIC = 1 << 30  # in a writer word: the last write was atomic or strong
LANES, WARPS = 1 << 30, -(1 << 31)  # in a reader word


def constant(n: int, value: int) -> str:
    return "<" + ", ".join([f"i32 {value}"] * n) + ">"


def _clash(n: int, word: str, me: str, name: str, reader: bool) -> str:
    """IR for `%name`: <n x i1>, the byte was touched by another thread and nothing orders us."""
    vector = f"<{n} x i32>"
    lines = [
        f"%{name}.x = xor {vector} {word}, {me}",
        f"%{name}.e = and {vector} %{name}.x, {constant(n, EPOCH)}",
        f"%{name}.same = icmp eq {vector} %{name}.e, {constant(n, 0)}",
        f"%{name}.w = and {vector} %{name}.x, {constant(n, WARP_FIELD)}",
        f"%{name}.otherwarp = icmp ne {vector} %{name}.w, {constant(n, 0)}",
        f"%{name}.we = and {vector} %{name}.x, {constant(n, WARP_EPOCH)}",
        f"%{name}.samewe = icmp eq {vector} %{name}.we, {constant(n, 0)}",
        f"%{name}.l = and {vector} %{name}.x, {constant(n, LANE)}",
        f"%{name}.otherlane = icmp ne {vector} %{name}.l, {constant(n, 0)}",
    ]
    lane, warp = f"%{name}.otherlane", f"%{name}.otherwarp"
    if reader:
        lines += [
            f"%{name}.ls = and {vector} {word}, {constant(n, LANES)}",
            f"%{name}.lanes = icmp ne {vector} %{name}.ls, {constant(n, 0)}",
            f"%{name}.warps = icmp slt {vector} {word}, {constant(n, 0)}",
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


def splat(n: int, word: str, name: str) -> str:
    """IR for `%name`: the i32 `word` n times."""
    vector = f"<{n} x i32>"
    return (
        f"  %{name}.1 = insertelement {vector} poison, i32 {word}, i32 0\n"
        f"  %{name} = shufflevector {vector} %{name}.1, {vector} poison, "
        f"<{n} x i32> zeroinitializer"
    )


def _race(n: int, action: str) -> str:
    """IR for `%race.v`: <n x i1>, the access clashes with the words `%w` or `%r`."""
    strong, bits = action not in ("read", "write"), f"<{n} x i1>"
    lines = [_clash(n, "%w", "%mine", "wc", reader=False)]
    clash = "%wc"
    if strong:
        lines += [
            f"  %aw = and <{n} x i32> %w, {constant(n, ATOMIC)}",
            f"  %plain = icmp eq <{n} x i32> %aw, {constant(n, 0)}",
            f"  %wcp = and {bits} %wc, %plain",
        ]
        clash = "%wcp"
    other = clash
    if _writes(action):
        lines.append(_clash(n, "%r", "%mine", "rc", reader=True))
        other = "%rc"
    lines.append(f"  %race.v = or {bits} {clash}, {other}")
    return "\n".join(lines)


def _writes(action: str) -> bool:
    return action not in ("read", "strong_read")


def _reads(action: str) -> bool:
    return action not in ("write", "strong_write")


def _marked(n: int, action: str) -> str:
    """IR for `%marked`: the writer word that this access leaves."""
    bit = 0 if action == "write" else ATOMIC
    return f"  %marked = or <{n} x i32> %mine, {constant(n, bit)}"


def shared_check(n: int, action: str) -> str:
    """IR of `@shared_<action>_<n>`: check and note an access of n bytes of shared memory."""
    head = f"""
define internal i1 @shared_{action}_{n}(ptr noalias %thread, ptr noalias readonly %context,
    i32 %site, i32 %me, i64 %offset) cold noinline nounwind {{
entry:
{_field("shared", "i64")}
{_field("shared_size", "i32")}
{_field("writer_shadow", "ptr")}
{_field("reader_shadow", "ptr")}
  %length = zext i32 %shared_size to i64
  %room = sub i64 %length, {n - 1}
  %fits = icmp uge i64 %length, {n}
  %starts = icmp ult i64 %offset, %room
  %inside = and i1 %fits, %starts
  %low = and i64 %offset, {n - 1}
  %aligned = icmp eq i64 %low, 0
  %allowed = and i1 %inside, %aligned
  br i1 %allowed, label %allowed.yes, label %allowed.no
allowed.no:
  %which = select i1 %aligned, i32 {int(Fault.OUT_OF_BOUNDS)}, i32 {int(Fault.MISALIGNED)}
  br label %bad
allowed.yes:
  %unwatched = icmp eq ptr %writer_shadow, null
  br i1 %unwatched, label %good, label %watched
watched:"""
    faults = "[ %which, %allowed.no ]"
    body = "  br label %apart"
    if n >= GRANULE:
        faults += f", [ {int(Fault.RACE)}, %later ]"
        if _reads(action):
            faults += f", [ {int(Fault.UNINITIALISED)}, %landed ]"
        body = _together(n // GRANULE, action)
    tail = f"""good:
  ret i1 false
bad:
  %fault = phi i32 {faults}
  %address = add i64 %shared, %offset
  call void @fault(ptr %thread, i32 %site, i32 %fault, i64 %address, i32 {n},
    i32 {int(_writes(action))})
  ret i1 true
apart:
  %failed = tail call i1 @shared_apart_{action}(ptr %thread, ptr %context, i32 %site, i32 %me,
    i64 %offset, i64 {n})
  ret i1 %failed
}}
"""
    return "\n".join([head, body, tail])


def _field(field: str, kind: str) -> str:
    return (
        f"  %{field}.p = getelementptr i8, ptr %context, i64 {offset(CONTEXT, field)}\n"
        f"  %{field} = load {kind}, ptr %{field}.p"
    )


def _together(n: int, action: str) -> str:
    """IR behind `watched:` for n granules none of which is mixed or pending."""
    vector = f"<{n} x i32>"
    lines = [
        "  %wq = getelementptr i8, ptr %writer_shadow, i64 %offset",
        "  %rq = getelementptr i8, ptr %reader_shadow, i64 %offset",
        f"  %w = load {vector}, ptr %wq, align 4",
        f"  %r = load {vector}, ptr %rq, align 4",
        splat(n, "%me", "mine"),
        f"  %special.v = icmp slt {vector} %w, {constant(n, 0)}",
        _any(n, "%special.v", "special"),
        "  br i1 %special, label %apart, label %landed",
        "landed:",
    ]
    if _reads(action):
        lines += [
            f"  %never.v = icmp eq {vector} %w, {constant(n, 0)}",
            _any(n, "%never.v", "never"),
            "  br i1 %never, label %bad, label %written",
            "written:",
        ]
    if _writes(action):
        lines.append(_marked(n, action))
        first = later = f"  store {vector} %marked, ptr %wq, align 4"
    elif action == "read":
        first = f"  store {vector} %mine, ptr %rq, align 4"
        later = f"{_note_reader(n)}\n  store {vector} %n.new, ptr %rq, align 4"
    else:
        first = later = ""
    lines += [
        _this_epoch(n, "w"),
        _this_epoch(n, "r"),
        f"  %now.v = or <{n} x i1> %w.now, %r.now",
        _any(n, "%now.v", "now"),
        "  br i1 %now, label %later, label %first",
        "first:",
        first,
        "  br label %good",
        "later:",
        _race(n, action),
        _any(n, "%race.v", "race"),
        "  br i1 %race, label %bad, label %ordered",
        "ordered:",
        later,
        "  br label %good",
    ]
    return "\n".join(line for line in lines if line)


def _this_epoch(n: int, word: str) -> str:
    """IR for `%<word>.now`: <n x i1>, the words are of the running epoch."""
    vector = f"<{n} x i32>"
    return (
        f"  %{word}.x = xor {vector} %{word}, %mine\n"
        f"  %{word}.e = and {vector} %{word}.x, {constant(n, EPOCH)}\n"
        f"  %{word}.now = icmp eq {vector} %{word}.e, {constant(n, 0)}"
    )


def apart_check(action: str) -> str:
    """IR of `@shared_apart_<action>(..., size)`: shared_check's work, granule by granule."""
    return f"""
define internal i1 @shared_apart_{action}(ptr noalias %thread, ptr noalias readonly %context,
    i32 %site, i32 %me, i64 %offset, i64 %size) cold noinline nounwind {{
entry:
  %size.32 = trunc i64 %size to i32
  %shift = and i32 %size.32, 31
  %shape = shl i32 -1, %shift
  %touched = xor i32 %shape, -1
  %byte = trunc i64 %offset to i32
  %skipped = and i32 %byte, {GRANULE - 1}
  %part = shl i32 %touched, %skipped
  %small = icmp ult i64 %size, {GRANULE}
  %lanes = select i1 %small, i32 %part, i32 15
  br label %loop
loop:
  %place = phi i64 [ 0, %entry ], [ %next, %step ]
  %at = add i64 %offset, %place
  %code = call i32 @shared_granule_{action}(ptr %context, i32 %me, i64 %at, i32 %lanes)
  %ok = icmp eq i32 %code, 0
  br i1 %ok, label %step, label %bad
step:
  %next = add i64 %place, {GRANULE}
  %left = icmp ult i64 %next, %size
  br i1 %left, label %loop, label %good
good:
  ret i1 false
bad:
  %fault = sub i32 %code, 1
{_field("shared", "i64")}
  %address = add i64 %shared, %offset
  call void @fault(ptr %thread, i32 %site, i32 %fault, i64 %address, i32 %size.32,
    i32 {int(_writes(action))})
  ret i1 true
}}
"""


def granule_check(action: str) -> str:
    """IR of `@shared_granule_<action>(context, me, offset, lanes)`: one granule, byte by byte.

    lanes: bit mask of the bytes that are touched. Returns 0, or the Fault's number plus 1. Words of
    earlier epochs become alike (written long ago, read by nobody), so that granules do not stay
    mixed for the sake of words that order nothing any more.
    """
    body = [_race(4, action), "  %hit.v = and <4 x i1> %race.v, %active", _any(4, "%hit.v", "hit")]
    new_w, new_r = "%w", "%r"
    if _writes(action):
        body.append(_marked(4, action))
        new_w = "%marked"
    elif action == "read":
        body.append(_note_reader(4))
        new_r = "%n.new"
    never = "%never.v" if _reads(action) else "zeroinitializer"
    body_text = "\n".join(body)
    return f"""
define internal i32 @shared_granule_{action}(ptr noalias readonly %context, i32 %me, i64 %offset,
    i32 %lanes) noinline nounwind {{
entry:
{_field("writer_shadow", "ptr")}
{_field("reader_shadow", "ptr")}
{_field("byte_writers", "ptr")}
{_field("byte_readers", "ptr")}
  %first = and i64 %offset, -{GRANULE}
  %wq = getelementptr i8, ptr %writer_shadow, i64 %first
  %rq = getelementptr i8, ptr %reader_shadow, i64 %first
  %wbq = getelementptr i32, ptr %byte_writers, i64 %first
  %rbq = getelementptr i32, ptr %byte_readers, i64 %first
  %w.all = load i32, ptr %wq
  %r.all = load i32, ptr %rq
{splat(4, "%lanes", "lanes.v")}
  %lane = and <4 x i32> %lanes.v, <i32 1, i32 2, i32 4, i32 8>
  %active = icmp ne <4 x i32> %lane, zeroinitializer
{splat(4, "%me", "mine")}
{splat(4, "%w.all", "w.alike")}
{splat(4, "%r.all", "r.alike")}
  %mixed = icmp eq i32 %w.all, {SHADOW_MIXED - (1 << 32)}
  br i1 %mixed, label %bytes, label %look
bytes:
  %w.bytes = load <4 x i32>, ptr %wbq, align 4
  %r.bytes = load <4 x i32>, ptr %rbq, align 4
  br label %look
look:
  %w = phi <4 x i32> [ %w.alike, %entry ], [ %w.bytes, %bytes ]
  %r = phi <4 x i32> [ %r.alike, %entry ], [ %r.bytes, %bytes ]
  %pending.all = icmp eq <4 x i32> %w, {constant(4, -1)}
  %pending.v = and <4 x i1> %pending.all, %active
{_any(4, "%pending.v", "pending")}
  br i1 %pending, label %bad, label %landed
landed:
  %never.all = icmp eq <4 x i32> %w, zeroinitializer
  %never.v = and <4 x i1> %never.all, %active
{_any(4, never, "never")}
  br i1 %never, label %bad, label %written
written:
{body_text}
  br i1 %hit, label %bad, label %ordered
bad:
  %found = phi i32 [ {int(Fault.PENDING_COPY) + 1}, %look ],
    [ {int(Fault.UNINITIALISED) + 1}, %landed ], [ {int(Fault.RACE) + 1}, %written ]
  ret i32 %found
ordered:
  %w.new = select <4 x i1> %active, <4 x i32> {new_w}, <4 x i32> %w
  %r.new = select <4 x i1> %active, <4 x i32> {new_r}, <4 x i32> %r
  %epoch.w.x = xor <4 x i32> %w.new, %mine
  %epoch.r.x = xor <4 x i32> %r.new, %mine
  %epoch.w = and <4 x i32> %epoch.w.x, {constant(4, EPOCH)}
  %epoch.r = and <4 x i32> %epoch.r.x, {constant(4, EPOCH)}
  %past.w = icmp ne <4 x i32> %epoch.w, zeroinitializer
  %past.r = icmp ne <4 x i32> %epoch.r, zeroinitializer
  %some.w = icmp sgt <4 x i32> %w.new, zeroinitializer
  %old.w = and <4 x i1> %past.w, %some.w
  %w.kept = select <4 x i1> %old.w, <4 x i32> {constant(4, OLD_EPOCH)}, <4 x i32> %w.new
  %r.kept = select <4 x i1> %past.r, <4 x i32> zeroinitializer, <4 x i32> %r.new
  %w.one = extractelement <4 x i32> %w.kept, i32 0
  %r.one = extractelement <4 x i32> %r.kept, i32 0
{splat(4, "%w.one", "w.ones")}
{splat(4, "%r.one", "r.ones")}
  %w.differs = icmp ne <4 x i32> %w.kept, %w.ones
  %r.differs = icmp ne <4 x i32> %r.kept, %r.ones
  %differ.v = or <4 x i1> %w.differs, %r.differs
{_any(4, "%differ.v", "differ")}
  br i1 %differ, label %apart, label %alike
apart:
  store <4 x i32> %w.kept, ptr %wbq, align 4
  store <4 x i32> %r.kept, ptr %rbq, align 4
  store i32 {SHADOW_MIXED - (1 << 32)}, ptr %wq
  store i32 0, ptr %rq
  ret i32 0
alike:
  store i32 %w.one, ptr %wq
  store i32 %r.one, ptr %rq
  ret i32 0
}}
"""


def _note_reader(n: int) -> str:
    """IR for `%n.new`: `%mine` merged into the reader words `%r`: others read too."""
    vector, bits = f"<{n} x i32>", f"<{n} x i1>"
    lines = [
        f"%n.x = xor {vector} %r, %mine",
        f"%n.e = and {vector} %n.x, {constant(n, EPOCH)}",
        f"%n.same = icmp eq {vector} %n.e, {constant(n, 0)}",
        f"%n.w = and {vector} %n.x, {constant(n, WARP_FIELD)}",
        f"%n.otherwarp = icmp ne {vector} %n.w, {constant(n, 0)}",
        f"%n.warps = icmp slt {vector} %r, {constant(n, 0)}",
        f"%n.anywarp = or {bits} %n.otherwarp, %n.warps",
        f"%n.setwarps = and {bits} %n.same, %n.anywarp",
        f"%n.we = and {vector} %n.x, {constant(n, WARP_FIELD | WARP_EPOCH)}",
        f"%n.samewe = icmp eq {vector} %n.we, {constant(n, 0)}",
        f"%n.l = and {vector} %n.x, {constant(n, LANE)}",
        f"%n.otherlane = icmp ne {vector} %n.l, {constant(n, 0)}",
        f"%n.ls = and {vector} %r, {constant(n, LANES)}",
        f"%n.lanes = icmp ne {vector} %n.ls, {constant(n, 0)}",
        f"%n.anylane = or {bits} %n.otherlane, %n.lanes",
        f"%n.here = and {bits} %n.same, %n.samewe",
        f"%n.setlanes = and {bits} %n.here, %n.anylane",
        f"%n.b31 = select {bits} %n.setwarps, {vector} {constant(n, WARPS)}, "
        f"{vector} {constant(n, 0)}",
        f"%n.b30 = select {bits} %n.setlanes, {vector} {constant(n, LANES)}, "
        f"{vector} {constant(n, 0)}",
        f"%n.marks = or {vector} %n.b31, %n.b30",
        f"%n.new = or {vector} %mine, %n.marks",
    ]
    return "\n".join("  " + line for line in lines)
