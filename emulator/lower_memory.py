"""Memory: ld, st, atom, red, cvta, isspacep, cp.async, fences, prefetch.

What PTX leaves open, and the choice made here:
- Threads run one at a time between suspensions, so every access is sequentially consistent; atomics
  are plain read-modify-writes. Races are found by the shadow, not by interleaving. Fences, cache
  operators, eviction hints and scopes have no effect; the shadow does not take a fence for an
  ordering.
- A strong load (volatile, relaxed, acquire) and atom first let other threads run (PAUSE), so a
  thread that waits for another thread of its block, or of a cooperative launch, ends.
- Addresses of global, local, constant and parameter memory are host addresses; the shared window
  starts at 0, its generic address is CONTEXT.shared. A 32-bit shared address wraps at 2^32.
- atom.add.f32 on global memory flushes subnormal inputs and results, on shared memory not (PTX ISA,
  atom).
- cp.async: the scheduler checks and moves; `step` only traces, and yields.
"""

from __future__ import annotations

from emulator.layout import Yield
from emulator.lower_check import Values, guard, in_shared, note_fence, trace_value
from emulator.lower_float import FLOATS, flush, scalar
from emulator.lowering import Lowering, Modifiers, lowers
from emulator.operands import Address, Imm, Operand, Reg, Symbol
from emulator.program import Instruction
from emulator.ptx import BITS

SPACES = {
    "global": "global", "shared": "shared", "shared::cta": "shared", "local": "local",
    "const": "const", "param": "param", "param::entry": "param", "param::func": "param",
}  # fmt: skip
STRONG = ("volatile", "relaxed", "acquire", "release")
HINTS = (
    "weak", "cta", "gpu", "sys", "cluster", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc",
    "L1::evict_normal", "L1::evict_unchanged", "L1::evict_first", "L1::evict_last",
    "L1::no_allocate", "L2::evict_normal", "L2::evict_first", "L2::evict_last",
    "L2::64B", "L2::128B", "L2::256B", "L2::cache_hint",
)  # fmt: skip
DATA = (
    "b8", "b16", "b32", "b64", "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64",
    "f16", "bf16", "f16x2", "bf16x2", "f32", "f64",
)  # fmt: skip
_ATOMICS = {
    "add": ("u32", "s32", "u64", "f32", "f64", "f16", "f16x2", "bf16", "bf16x2"),
    "min": ("u32", "s32", "u64", "s64"),
    "max": ("u32", "s32", "u64", "s64"),
    "and": ("b32", "b64"),
    "or": ("b32", "b64"),
    "xor": ("b32", "b64"),
    "exch": ("b32", "b64"),
    "cas": ("b16", "b32", "b64"),
    "inc": ("u32",),
    "dec": ("u32",),
}


def effective(low: Lowering, operand: Operand, space: str) -> str:
    """The address as i64: an offset for shared memory, else a host address."""
    if not isinstance(operand, Address):
        raise low.now.unsupported("expected an address in [ ]")
    base, offset = operand.base, operand.offset
    if space == "shared" and isinstance(base, Reg) and low.bits(base) == 32:
        value = low.read(base, 32)
        if offset:
            value = low.value(f"add i32 {value}, {offset}")
        return low.resize(value, 32, 64)
    if isinstance(base, Symbol) and (base.kind == "shared") != (space == "shared"):
        raise low.now.unsupported(f"{base.name} is not in .{space} memory")
    value = low.read(base, 64)
    return low.value(f"add i64 {value}, {offset}") if offset else value


def _fixed(low: Lowering, address: Operand, size: int) -> bool:
    """Whether this is a named parameter or slot, whose bounds are known now."""
    if not isinstance(address, Address) or not isinstance(address.base, Symbol):
        return False
    symbol = address.base
    if symbol.kind not in ("param", "slot"):
        return False
    params, slots = low.program.params, low.program.slots
    length = params[symbol.name].size if symbol.kind == "param" else slots[symbol.name].size
    start = symbol.offset + address.offset
    if start < 0 or start + size > length:
        raise low.now.unsupported(f"{size} bytes at {start} of {symbol.name} ({length} bytes)")
    return True


def _host(
    low: Lowering, address: Operand, space: str, size: int, action: str, values: Values = ()
) -> str:
    """Checked host pointer of an access. values: what a plain store writes."""
    fixed = _fixed(low, address, size)
    where = effective(low, address, space)
    host = where if fixed else guard(low, space, where, size, action, values)
    return low.value(f"inttoptr i64 {host} to ptr")


def _access(low: Lowering, ins: Instruction, kind: str) -> tuple[str, str, int, str]:
    """Parse modifiers of ld or st: (space, type, vector length, action)."""
    modifiers = Modifiers(ins)
    data = modifiers.type(DATA)
    vector = int(modifiers.choice(("v2", "v4", "v8"), "v1")[1:])
    space = SPACES.get(modifiers.choice(tuple(SPACES), "generic"), "generic")
    strong = modifiers.flag(*STRONG)
    modifiers.flag(*HINTS)
    modifiers.finish()
    if vector * BITS[data] > 256:
        raise ins.unsupported("vector wider than 32 bytes")
    return space, data, vector, f"strong_{kind}" if strong else kind


def _without_policy(ins: Instruction) -> int:
    """How many operands there are but for a cache policy, which has no effect."""
    return len(ins.operands) - ("L2::cache_hint" in ins.modifiers)


@lowers("createpolicy")
def createpolicy(low: Lowering, ins: Instruction) -> None:
    """A cache policy is opaque: here always 0."""
    if ins.modifiers[0] not in ("fractional", "range") or ins.modifiers[-1] != "b64":
        raise ins.unsupported("createpolicy.fractional and .range of type .b64 are supported")
    low.write(ins.operands[0], "0", 64)


@lowers("ld", "ldu")
def ld(low: Lowering, ins: Instruction) -> None:
    space, data, vector, action = _access(low, ins, "read")
    target, address = ins.operands[: _without_policy(ins)]
    width = BITS[data]
    items = low.items(target)
    if len(items) != vector:
        raise ins.unsupported(f"{len(items)} destinations for a vector of {vector}")
    if action == "strong_read" and ins.root == "ld":
        low.suspend(Yield.PAUSE, ())
    pointer = _host(low, address, space, vector * width // 8, action)
    values = [low.load(f"i{width}", pointer, i * width // 8, "memory") for i in range(vector)]
    for item, value in zip(items, values, strict=True):
        low.write(item, value, width, signed=data[0] == "s")


@lowers("st")
def st(low: Lowering, ins: Instruction) -> None:
    space, data, vector, action = _access(low, ins, "write")
    address, source = ins.operands[: _without_policy(ins)]
    width = BITS[data]
    items = low.items(source)
    if len(items) != vector:
        raise ins.unsupported(f"{len(items)} sources for a vector of {vector}")
    values = [low.read(item, width) for item in items]
    stored = [(width, value) for value in values] if action == "write" else []
    pointer = _host(low, address, space, vector * width // 8, action, stored)
    for position, value in enumerate(values):
        low.store(f"i{width}", value, pointer, position * width // 8, "memory")


@lowers("atom", "red")
def atom(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    data = modifiers.type(DATA)
    operation = modifiers.choice(tuple(_ATOMICS))
    space = SPACES.get(modifiers.choice(("global", "shared", "shared::cta"), "generic"), "generic")
    modifiers.flag("relaxed", "acquire", "release", "acq_rel", "cta", "gpu", "sys", "cluster")
    modifiers.flag("L2::cache_hint")
    noftz = modifiers.flag("noftz")
    modifiers.finish()
    if data not in _ATOMICS[operation] or noftz != (data in ("f16", "f16x2", "bf16", "bf16x2")):
        raise ins.unsupported(f"{operation} of type {data}")
    width = BITS[data]
    operands = ins.operands[: _without_policy(ins)]
    target, (address, *values) = (
        (operands[0], operands[1:]) if ins.root == "atom" else (None, operands)
    )
    if ins.root == "atom":
        low.suspend(Yield.PAUSE, ())
    arguments = [low.read(value, width) for value in values]
    pointer = _host(low, address, space, width // 8, "atomic")
    old = low.load(f"i{width}", pointer, 0, "memory")
    if operation == "add" and data in FLOATS:
        new = _atomic_float_add(low, data, old, arguments[0], pointer, space)
    else:
        new = _atomic_integer(low, operation, data, old, arguments)
    low.store(f"i{width}", new, pointer, 0, "memory")
    if target is not None:
        low.write(target, old, width)


def _atomic_float_add(
    low: Lowering, data: str, old: str, value: str, pointer: str, space: str
) -> str:
    if data.endswith("x2"):
        halves = []
        for shift in (0, 16):
            a, b = (
                low.value(f"trunc i32 {low.value(f'lshr i32 {x}, {shift}')} to i16")
                for x in (old, value)
            )
            halves.append(low.resize(scalar(low, "add", data[:-2], [a, b]), 16, 32))
        return low.value(f"or i32 {halves[0]}, {low.value(f'shl i32 {halves[1]}, 16')}")
    exact = scalar(low, "add", data, [old, value])
    if data != "f32" or space == "shared":
        return exact
    flushed = [flush(low, data, x) for x in (old, value)]
    flushed_sum = flush(low, data, scalar(low, "add", data, flushed))
    if space == "global" or not low.program.shared:
        return flushed_sum
    _, shared = in_shared(low, low.value(f"ptrtoint ptr {pointer} to i64"))
    return low.value(f"select i1 {shared}, i32 {exact}, i32 {flushed_sum}")


def _atomic_integer(
    low: Lowering, operation: str, data: str, old: str, arguments: list[str]
) -> str:
    kind = f"i{BITS[data]}"
    value = arguments[0]
    if operation in ("add", "and", "or", "xor"):
        return low.value(f"{operation} {kind} {old}, {value}")
    if operation in ("min", "max"):
        sign = "s" if data[0] == "s" else "u"
        return low.call(kind, f"llvm.{sign}{operation}.{kind}", (kind, old), (kind, value))
    if operation == "exch":
        return value
    if operation == "cas":
        same = low.value(f"icmp eq {kind} {old}, {value}")
        return low.value(f"select i1 {same}, {kind} {arguments[1]}, {kind} {old}")
    if operation == "inc":
        wrap = low.value(f"icmp uge {kind} {old}, {value}")
        return low.value(f"select i1 {wrap}, {kind} 0, {kind} {low.value(f'add {kind} {old}, 1')}")
    zero = low.value(f"icmp eq {kind} {old}, 0")
    above = low.value(f"icmp ugt {kind} {old}, {value}")
    wrap = low.value(f"or i1 {zero}, {above}")
    less = low.value(f"sub {kind} {old}, 1")
    return low.value(f"select i1 {wrap}, {kind} {value}, {kind} {less}")


@lowers("cvta")
def cvta(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    modifiers.type(("u64",))
    to = modifiers.flag("to")
    space = SPACES[modifiers.choice(tuple(SPACES))]
    modifiers.finish()
    target, source = ins.operands
    value = low.read(source, 64)
    if space == "shared":
        base = low.entry_load("shared", "i64")
        value = low.value(f"{'sub' if to else 'add'} i64 {value}, {base}")
    low.write(target, value, 64)


@lowers("isspacep")
def isspacep(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    space = modifiers.choice(("global", "shared", "shared::cta"))
    modifiers.finish()
    target, source = ins.operands
    _, shared = in_shared(low, low.read(source, 64))
    if space == "global":
        if low.slots_size:
            raise ins.unsupported("isspacep.global in a kernel with local memory")
        shared = low.value(f"xor i1 {shared}, true")
    low.write(target, shared, 1)


@lowers("membar", "fence", "prefetch", "prefetchu")
def fence(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    if ins.root in ("membar", "fence"):
        modifiers.flag("cta", "gl", "gpu", "sys", "cluster", "sc", "acq_rel", "acquire", "release")
        if modifiers.flag("proxy"):
            modifiers.choice(("async", "alias"))
            modifiers.flag("global", "shared::cta", "shared::cluster")
        note_fence(low)
    else:
        modifiers.flag("global", "local", "L1", "L2", "L2::evict_last", "L2::evict_normal")
    modifiers.finish()


@lowers("cp")
def cp(low: Lowering, ins: Instruction) -> None:
    modifiers = Modifiers(ins)
    if not modifiers.flag("async"):
        raise ins.unsupported("only cp.async is supported")
    if modifiers.flag("commit_group"):
        modifiers.finish()
        low.suspend(Yield.COPY_COMMIT, ())
        return
    if modifiers.flag("wait_all"):
        modifiers.finish()
        low.suspend(Yield.COPY_WAIT, ("-1",))
        return
    if modifiers.flag("wait_group"):
        modifiers.finish()
        low.suspend(Yield.COPY_WAIT, (low.read(ins.operands[0], 32),))
        return
    _cp_async(low, ins, modifiers)


def _cp_async(low: Lowering, ins: Instruction, modifiers: Modifiers) -> None:
    cache = modifiers.choice(("ca", "cg"))
    modifiers.choice(("shared", "shared::cta"))
    modifiers.choice(("global",))
    modifiers.flag("L2::64B", "L2::128B", "L2::256B", "L2::cache_hint")
    modifiers.finish()
    target, source, size, *rest = ins.operands[: _without_policy(ins)]
    count = size.bits(32) if isinstance(size, Imm) else None
    sizes = (16,) if cache == "cg" else (4, 8, 16)
    if count not in sizes or len(rest) > 1:
        raise ins.unsupported("cp.async copies 4, 8 or 16 bytes (.cg: 16)")
    used = str(count)
    if rest and isinstance(rest[0], Reg) and low.bits(rest[0]) == 1:  # ignore-src
        used = low.value(f"select i1 {low.read(rest[0], 1)}, i32 0, i32 {count}")
    elif rest:
        used = low.read(rest[0], 32)
    to = effective(low, target, "shared")
    origin = effective(low, source, "global")
    if low.trace:
        trace_value(low, origin, low.resize(used, 32, 16), 0)
        host = low.value(f"add i64 {low.entry_load('shared', 'i64')}, {to}")
        trace_value(low, host, str(count), 3)
    low_half = low.resize(origin, 64, 32)
    high_half = low.resize(low.value(f"lshr i64 {origin}, 32"), 64, 32)
    place = low.resize(to, 64, 32)
    low.suspend(Yield.COPY_ISSUE, (place, low_half, high_half, str(count), used))
