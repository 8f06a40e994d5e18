"""Models of integer, logic, comparison and selection instructions (PTX ISA 9.7.1, 2, 6, 8, 9)."""

from __future__ import annotations

from collections.abc import Callable

from tests.emulator.opcode_case import Case

CASES: list[Case] = []


def mask(width: int) -> int:
    return (1 << width) - 1


def signed(value: int, width: int) -> int:
    value &= mask(width)
    return value - (1 << width) if value >> (width - 1) else value


def pool(width: int) -> tuple[int, ...]:
    top = 1 << (width - 1)
    values = [0, 1, 2, 3, 7, 8, 100, width - 1, width, width + 1, top - 1, top, top + 1]
    values += [mask(width), mask(width) - 1, mask(width) - 99, mask(width // 2), 1 << (width // 2)]
    return tuple(dict.fromkeys(v & mask(width) for v in values))


COUNTS = (0, 1, 2, 7, 8, 15, 16, 17, 30, 31, 32, 33, 47, 63, 64, 65, 127, 255, 256, 257, 1 << 31,
          (1 << 32) - 1)  # fmt: skip


def add(
    name: str,
    target: str,
    sources: str,
    model: Callable[..., int],
    *,
    body: str = "",
    pools: dict[int, tuple[int, ...]] | None = None,
    is_open: Callable[..., bool] | None = None,
    suffix: str = "",
) -> None:
    """Register a case; `sources` are types split by spaces, no body means one instruction."""
    kinds = tuple(sources.split())
    letters = ", ".join("{" + "abce"[i] + "}" for i in range(len(kinds)))
    width = {"u8": 8, "u16": 16, "u32": 32, "u64": 64}
    values = tuple((pools or {}).get(i, pool(width[kind])) for i, kind in enumerate(kinds))
    text = body or f"{name} {{d}}, {letters};"
    CASES.append(Case(name + suffix, target, kinds, values, text, model, is_open))


def value(bits: int, data: str) -> int:
    """A register's bits as the number that the type says."""
    width = int(data[1:])
    return signed(bits, width) if data[0] == "s" else bits & mask(width)


def _arithmetic(data: str) -> None:
    width = int(data[1:])
    kind, wide, m = f"u{width}", f"u{2 * width}", mask(width)

    def v(x: int) -> int:
        return value(x, data)

    add(f"add.{data}", kind, f"{kind} {kind}", lambda a, b: (a + b) & m)
    add(f"sub.{data}", kind, f"{kind} {kind}", lambda a, b: (a - b) & m)
    add(f"mul.lo.{data}", kind, f"{kind} {kind}", lambda a, b: (a * b) & m)
    add(f"mul.hi.{data}", kind, f"{kind} {kind}", lambda a, b: (v(a) * v(b) >> width) & m)
    three = f"{kind} {kind} {kind}"
    add(f"mad.lo.{data}", kind, three, lambda a, b, c: (a * b + c) & m)
    add(f"mad.hi.{data}", kind, three, lambda a, b, c: ((v(a) * v(b) >> width) + c) & m)
    if width < 64:
        m2 = mask(2 * width)
        add(f"mul.wide.{data}", wide, f"{kind} {kind}", lambda a, b: (v(a) * v(b)) & m2)
        add(f"mad.wide.{data}", wide, f"{kind} {kind} {wide}",
            lambda a, b, c: (v(a) * v(b) + c) & m2)  # fmt: skip

    def quotient(a: int, b: int) -> int:
        x, y = v(a), v(b)
        if y == 0:
            return m
        return (abs(x) // abs(y) * (-1 if (x < 0) != (y < 0) else 1)) & m

    def remainder(a: int, b: int) -> int:
        x, y = v(a), v(b)
        return m if y == 0 else (abs(x) % abs(y) * (-1 if x < 0 else 1)) & m

    def zero(a: int, b: int) -> bool:
        return b == 0

    add(f"div.{data}", kind, f"{kind} {kind}", quotient, is_open=zero)
    add(f"rem.{data}", kind, f"{kind} {kind}", remainder, is_open=zero)
    add(f"min.{data}", kind, f"{kind} {kind}", lambda a, b: min(v(a), v(b)) & m)
    add(f"max.{data}", kind, f"{kind} {kind}", lambda a, b: max(v(a), v(b)) & m)
    add(f"sad.{data}", kind, three, lambda a, b, c: (abs(v(a) - v(b)) + c) & m)
    if data[0] == "s":
        add(f"abs.{data}", kind, kind, lambda a: abs(v(a)) & m)
        add(f"neg.{data}", kind, kind, lambda a: -v(a) & m)


def _clamp32(x: int) -> int:
    return min(max(x, -(1 << 31)), (1 << 31) - 1) & mask(32)


def _special_arithmetic() -> None:
    def s(x: int) -> int:
        return signed(x, 32)

    add("add.sat.s32", "u32", "u32 u32", lambda a, b: _clamp32(s(a) + s(b)))
    add("sub.sat.s32", "u32", "u32 u32", lambda a, b: _clamp32(s(a) - s(b)))
    add(
        "mad.hi.sat.s32", "u32", "u32 u32 u32", lambda a, b, c: _clamp32((s(a) * s(b) >> 32) + s(c))
    )
    for data in ("u32", "s32"):

        def low24(x: int, data: str = data) -> int:
            return signed(x, 24) if data == "s32" else x & mask(24)

        for part, down in (("lo", 0), ("hi", 16)):
            add(f"mul24.{part}.{data}", "u32", "u32 u32",
                lambda a, b, f=low24, n=down: (f(a) * f(b) >> n) & mask(32))  # fmt: skip
            add(f"mad24.{part}.{data}", "u32", "u32 u32 u32",
                lambda a, b, c, f=low24, n=down: ((f(a) * f(b) >> n) + c) & mask(32))  # fmt: skip
    for ta in ("u32", "s32"):
        for tb in ("u32", "s32"):

            def part(x: int, i: int, bits: int, t: str) -> int:
                piece = x >> (bits * i) & mask(bits)
                return signed(piece, bits) if t == "s32" else piece

            def dp4a(a: int, b: int, c: int, ta: str = ta, tb: str = tb) -> int:
                return (c + sum(part(a, i, 8, ta) * part(b, i, 8, tb) for i in range(4))) & mask(32)

            add(f"dp4a.{ta}.{tb}", "u32", "u32 u32 u32", dp4a)
            for half, first in (("lo", 0), ("hi", 2)):

                def dp2a(a: int, b: int, c: int, ta: str = ta, tb: str = tb, n: int = first) -> int:
                    terms = (part(a, i, 16, ta) * part(b, i + n, 8, tb) for i in range(2))
                    return (c + sum(terms)) & mask(32)

                add(f"dp2a.{half}.{ta}.{tb}", "u32", "u32 u32 u32", dp2a)


def _carries() -> None:
    """Chains: 64-bit sums and products from 32-bit halves, and a third word from the carry."""
    split = "mov.b64 {{r10, r11}}, {a}; mov.b64 {{r12, r13}}, {b};"
    join = "mov.b64 {d}, {{r14, r15}};"
    for root, first, sign in (("add", "addc", 1), ("sub", "subc", -1)):
        body = f"{split} {root}.cc.u32 r14, r10, r12; {first}.u32 r15, r11, r13; {join}"
        add(
            f"{root}.cc.u32",
            "u64",
            "u64 u64",
            lambda a, b, k=sign: (a + k * b) & mask(64),
            body=body,
        )
        body = (
            f"{root}.cc.u64 w10, {{a}}, {{b}}; {first}.cc.u64 w11, {{c}}, {{a}}; "
            f"{first}.u32 {{d}}, 0, 0;"
        )

        def third(a: int, b: int, c: int, k: int = sign) -> int:
            low = a + k * b
            carry = 1 if (low >> 64) != 0 else 0
            high = c + k * a + k * carry
            return k * (1 if (high >> 64) != 0 else 0) & mask(32)

        add(f"{first}.cc.u64", "u32", "u64 u64 u64", third, body=body)
    body = "mad.lo.cc.u32 r14, {a}, {b}, {c}; madc.hi.u32 r15, {a}, {b}, 0;" + join
    add("mad.lo.cc.u32", "u64", "u32 u32 u32", lambda a, b, c: a * b + c, body=body)
    body = "mad.lo.cc.u32 r14, {a}, {b}, {c}; madc.hi.cc.s32 r15, {a}, {b}, {c};" + join

    def mixed(a: int, b: int, c: int) -> int:
        low = (a * b & mask(32)) + c
        high = (signed(a, 32) * signed(b, 32) >> 32) + c + (low >> 32)
        return (low & mask(32)) | (high & mask(32)) << 32

    add("madc.hi.cc.s32", "u64", "u32 u32 u32", mixed, body=body)


def _logic(width: int) -> None:
    kind, m = f"u{width}", mask(width)
    add(f"and.b{width}", kind, f"{kind} {kind}", lambda a, b: a & b)
    add(f"or.b{width}", kind, f"{kind} {kind}", lambda a, b: a | b)
    add(f"xor.b{width}", kind, f"{kind} {kind}", lambda a, b: a ^ b)
    add(f"not.b{width}", kind, kind, lambda a: a ^ m)
    add(f"cnot.b{width}", kind, kind, lambda a: int(a == 0))
    counts = {1: COUNTS}
    add(f"shl.b{width}", kind, f"{kind} u32", lambda a, n: (a << min(n, 64)) & m, pools=counts)
    for t in ("b", "u"):
        add(f"shr.{t}{width}", kind, f"{kind} u32", lambda a, n: a >> min(n, 64), pools=counts)
    add(f"shr.s{width}", kind, f"{kind} u32", lambda a, n: (signed(a, width) >> min(n, 64)) & m,
        pools=counts)  # fmt: skip
    if width < 32:
        return
    add(f"popc.b{width}", "u32", kind, lambda a: bin(a).count("1"))
    add(f"clz.b{width}", "u32", kind, lambda a: width - a.bit_length())
    add(f"brev.b{width}", kind, kind, lambda a: int(f"{a:0{width}b}"[::-1], 2))
    for t in ("u", "s"):
        data = f"{t}{width}"

        def find(a: int, data: str = data) -> int:
            if data[0] == "s" and a >> (width - 1):
                a ^= m
            return a.bit_length() - 1

        add(f"bfind.{data}", "u32", kind, lambda a, f=find: f(a) & mask(32))
        add(f"bfind.shiftamt.{data}", "u32", kind,
            lambda a, f=find: mask(32) if f(a) < 0 else width - 1 - f(a))  # fmt: skip
        add(f"bfe.{data}", kind, f"{kind} u32 u32", lambda a, p, n, d=data: _bfe(a, p, n, d),
            pools={1: COUNTS, 2: COUNTS})  # fmt: skip

    def bfi(a: int, b: int, p: int, n: int) -> int:
        p, n = p & 255, n & 255
        for i in range(n):
            if p + i < width:
                b = b & ~(1 << (p + i)) | (a >> i & 1 if i < width else 0) << (p + i)
        return b

    add(f"bfi.b{width}", kind, f"{kind} {kind} u32 u32", bfi, pools={2: COUNTS, 3: COUNTS})


def _bfe(a: int, p: int, n: int, data: str) -> int:
    """The ISA's loop, bit by bit."""
    width = int(data[1:])
    p, n, msb = p & 255, n & 255, width - 1
    sign = 0 if data[0] == "u" or n == 0 else a >> min(p + n - 1, msb) & 1
    result = 0
    for i in range(width):
        bit = a >> (p + i) & 1 if i < n and p + i <= msb else sign
        result |= bit << i
    return result


def _bits32() -> None:
    counts = {1: COUNTS}
    for direction in ("l", "r"):
        for mode in ("clamp", "wrap"):

            def shf(a: int, b: int, c: int, left: bool = direction == "l", m: str = mode) -> int:
                n = min(c, 32) if m == "clamp" else c & 31
                both = b << 32 | a
                return (both << n >> 32 if left else both >> n) & mask(32)

            add(f"shf.{direction}.{mode}.b32", "u32", "u32 u32 u32", shf, pools={2: COUNTS})
    for mode in ("clamp", "wrap"):

        def limited(n: int, m: str = mode) -> int:
            return n & 31 if m == "wrap" else n

        add(f"bmsk.{mode}.b32", "u32", "u32 u32",
            lambda p, n, f=limited: mask(min(f(n), 64)) << min(f(p), 64) & mask(32),
            pools={0: COUNTS, 1: COUNTS})  # fmt: skip

        def zext(a: int, n: int, f: Callable[[int], int] = limited) -> int:
            return a & mask(min(f(n), 32))

        def sext(a: int, n: int, f: Callable[[int], int] = limited) -> int:
            n = min(f(n), 32)
            return signed(a, n) & mask(32) if n else 0

        add(f"szext.{mode}.u32", "u32", "u32 u32", zext, pools=counts)
        add(f"szext.{mode}.s32", "u32", "u32 u32", sext, pools=counts)
    for table in (0x00, 0xFF, 0x80, 0xFE, 0x96, 0xE8, 0xCA, 0xB8, 0x3C, 0x6A, 0x1D):

        def lop3(a: int, b: int, c: int, table: int = table) -> int:
            result = 0
            for i in range(32):
                row = (a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1)
                result |= (table >> row & 1) << i
            return result

        add("lop3.b32", "u32", "u32 u32 u32", lop3, suffix=f".{table:#04x}",
            body=f"lop3.b32 {{d}}, {{a}}, {{b}}, {{c}}, {table:#x};")  # fmt: skip
    for mode in ("", "f4e", "b4e", "rc8", "ecl", "ecr", "rc16"):
        name = "prmt.b32" + ("." + mode if mode else "")
        selectors = (0, 0x3210, 0x7654, 0x0123, 0xFEDC, 0x8888, 0x5410, 0x7632, 1, 2, 3, 0xFFFFFFFF)
        add(name, "u32", "u32 u32 u32", lambda a, b, c, m=mode: _prmt(a, b, c, m),
            pools={2: selectors})  # fmt: skip


def _prmt(a: int, b: int, c: int, mode: str) -> int:
    both = (b << 32 | a).to_bytes(8, "little")
    # The ISA's tables, selectors of bytes d.b0 to d.b3.
    tables = {
        "f4e": [(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)],
        "b4e": [(0, 7, 6, 5), (1, 0, 7, 6), (2, 1, 0, 7), (3, 2, 1, 0)],
        "rc8": [(0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)],
        "ecl": [(0, 1, 2, 3), (1, 1, 2, 3), (2, 2, 2, 3), (3, 3, 3, 3)],
        "ecr": [(0, 0, 0, 0), (0, 1, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3)],
        "rc16": [(0, 1, 0, 1), (2, 3, 2, 3), (0, 1, 0, 1), (2, 3, 2, 3)],
    }
    if mode:
        return int.from_bytes(bytes(both[i] for i in tables[mode][c & 3]), "little")
    out = []
    for i in range(4):
        selector = c >> (4 * i) & 15
        byte = both[selector & 7]
        out.append((0xFF if byte >> 7 else 0) if selector & 8 else byte)
    return int.from_bytes(bytes(out), "little")


_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    "lo": lambda a, b: a < b, "ls": lambda a, b: a <= b, "hi": lambda a, b: a > b,
    "hs": lambda a, b: a >= b,
}  # fmt: skip


def _comparison() -> None:
    for width in (16, 32, 64):
        kind = f"u{width}"
        for t in "bus":
            data = f"{t}{width}"
            allowed = {"b": ("eq", "ne"), "s": tuple(_COMPARE)[:6], "u": tuple(_COMPARE)}[t]
            for how in allowed:

                def test(a: int, b: int, how: str = how, data: str = data) -> int:
                    return int(_COMPARE[how](value(a, data), value(b, data)))

                add(f"setp.{how}.{data}", "pred", f"{kind} {kind}", test)
        add(f"selp.b{width}", kind, f"{kind} {kind} u32", lambda a, b, c: a if c & 1 else b,
            body="and.b32 r9, {c}, 1; setp.ne.u32 p3, r9, 0; "
            f"selp.b{width} {{d}}, {{a}}, {{b}}, p3;")  # fmt: skip
        add(f"slct.u{width}.s32", kind, f"{kind} {kind} u32",
            lambda a, b, c: a if signed(c, 32) >= 0 else b)  # fmt: skip
    for join in ("and", "or", "xor"):
        body = (
            "and.b32 r9, {c}, 1; setp.ne.u32 p3, r9, 0; "
            f"setp.lt.{join}.s32 p4|p5, {{a}}, {{b}}, !p3; "
            "selp.u32 r10, 1, 0, p4; selp.u32 r11, 2, 0, p5; or.b32 {d}, r10, r11;"
        )

        def both(a: int, b: int, c: int, join: str = join) -> int:
            less, other = signed(a, 32) < signed(b, 32), not c & 1
            apply = {"and": bool.__and__, "or": bool.__or__, "xor": bool.__xor__}[join]
            return int(apply(less, other)) | 2 * int(apply(not less, other))

        add(f"setp.lt.{join}.s32", "u32", "u32 u32 u32", both, body=body)
    add("set.lt.u32.s32", "u32", "u32 u32",
        lambda a, b: mask(32) if signed(a, 32) < signed(b, 32) else 0)  # fmt: skip
    add("set.ge.f32.u32", "u32", "u32 u32", lambda a, b: 0x3F800000 if a >= b else 0)


def _moves() -> None:
    add("mov.b64", "u64", "u32 u32", lambda a, b: b << 32 | a, suffix=".pack",
        body="mov.b64 {d}, {{{a}, {b}}};")  # fmt: skip
    add("mov.b64", "u32", "u64", lambda a: (a & mask(32)) ^ (a >> 32), suffix=".unpack",
        body="mov.b64 {{r10, r11}}, {a}; xor.b32 {d}, r10, r11;")  # fmt: skip
    add("mov.b64", "u64", "u16 u16", lambda a, b: b << 48 | a << 32 | a << 16 | b, suffix=".pack4",
        body="mov.b64 {d}, {{{b}, {a}, {a}, {b}}};")  # fmt: skip
    add("mov.b32", "u16", "u32", lambda a: a >> 16, suffix=".sink",
        body="mov.b32 {{_, {d}}}, {a};")  # fmt: skip
    add("min.relu.s32", "u32", "u32 u32",
        lambda a, b: max(0, min(signed(a, 32), signed(b, 32))))  # fmt: skip
    CASES[-1] = Case(**{**CASES[-1].__dict__, "arch": "sm_90"})


for _data in ("u16", "s16", "u32", "s32", "u64", "s64"):
    _arithmetic(_data)
for _width in (16, 32, 64):
    _logic(_width)
_special_arithmetic()
_carries()
_bits32()
_comparison()
_moves()
