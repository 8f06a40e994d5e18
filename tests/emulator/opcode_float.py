"""Models of the floating-point instructions, with exact fractions (PTX ISA 9.7.3 to 9.7.6)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from tests.emulator.opcode_case import Case

CASES: list[Case] = []


@dataclass(frozen=True)
class Format:
    """An IEEE-like binary format: exponent and stored mantissa bits."""

    name: str
    exponent: int
    mantissa: int

    @property
    def width(self) -> int:
        return 1 + self.exponent + self.mantissa

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def top(self) -> int:
        """Bits of +inf."""
        return ((1 << self.exponent) - 1) << self.mantissa

    @property
    def sign(self) -> int:
        return 1 << (self.width - 1)

    @property
    def nan(self) -> int:
        """Canonical NaN."""
        return self.sign - 1

    @property
    def kind(self) -> str:
        return f"u{self.width}"


F16, BF16 = Format("f16", 5, 10), Format("bf16", 8, 7)
F32, F64 = Format("f32", 8, 23), Format("f64", 11, 52)
FORMATS = {f.name: f for f in (F16, BF16, F32, F64)}


def is_nan(f: Format, bits: int) -> bool:
    return bits & ~f.sign > f.top


def is_inf(f: Format, bits: int) -> bool:
    return bits & ~f.sign == f.top


def negative(f: Format, bits: int) -> bool:
    return bool(bits & f.sign)


def exact(f: Format, bits: int) -> Fraction:
    """The number that finite bits stand for."""
    size = bits & ~f.sign
    exponent, mantissa = size >> f.mantissa, size & ((1 << f.mantissa) - 1)
    if exponent == 0:
        exponent = 1
    else:
        mantissa |= 1 << f.mantissa
    power = exponent - f.bias - f.mantissa
    number = Fraction(mantissa) * (Fraction(2) ** power)
    return -number if negative(f, bits) else number


def rounded(f: Format, number: Fraction, zero_sign: bool = False) -> int:
    """Nearest bits, ties to even; overflow to infinity; an exact zero gets `zero_sign`."""
    if number == 0:
        return f.sign if zero_sign else 0
    sign, size = (f.sign, -number) if number < 0 else (0, number)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    exponent = max(exponent, 1 - f.bias)
    unit = Fraction(2) ** (exponent - f.mantissa)
    count = round(size / unit)  # Python rounds halves to even
    # count << ... : adding the mantissa carries into the exponent by itself.
    bits = ((exponent + f.bias - 1) << f.mantissa) + count
    return sign | min(bits, f.top)


def flushed(f: Format, bits: int) -> int:
    return bits & f.sign if bits & f.top == 0 else bits


def root(f: Format, number: Fraction) -> int:
    """Correctly rounded square root of a positive number."""
    # Scale so that the integer root has some 20 bits to spare, then mark what is left over.
    shift = 2 * (f.mantissa + 20 + f.bias)
    scaled = number.numerator * (1 << (2 * shift)) // number.denominator
    whole = math.isqrt(scaled)
    sticky = whole * whole != scaled or number.numerator * (1 << (2 * shift)) % number.denominator
    return rounded(f, Fraction(2 * whole + bool(sticky), 1 << (shift + 1)))


def pool(f: Format) -> tuple[int, ...]:
    """Zeros, subnormals, normals at every edge, halves, quantization limits, infinities, NaNs."""
    one = f.bias << f.mantissa
    numbers = [Fraction(n, 2) for n in (1, 3, 5, 7, 253, 254, 255, 256, 257)]
    sizes = [0, 1, 2, (1 << f.mantissa) - 1, 1 << f.mantissa, (1 << f.mantissa) + 1]
    sizes += [one - 1, one, one + 1, f.top - 1, f.top, f.top + 1]
    sizes += [f.nan, f.top | (1 << (f.mantissa - 1)), (f.bias // 2) << f.mantissa]
    sizes += [rounded(f, n) for n in numbers]
    return tuple(dict.fromkeys(s | sign for s in sizes for sign in (0, f.sign)))


def invalid(f: Format, *operands: int) -> int:
    """The NaN of a result: canonical; f64 passes its first NaN operand on, quieted."""
    if f is F64:
        for bits in operands:
            if is_nan(f, bits):
                return bits | 1 << 51
        return 0xFFF8000000000000
    return f.nan


def fadd(f: Format, a: int, b: int) -> int:
    if is_nan(f, a) or is_nan(f, b):
        return invalid(f, a, b)
    if is_inf(f, a) or is_inf(f, b):
        if is_inf(f, a) and is_inf(f, b) and a != b:
            return invalid(f, a, b)
        return a if is_inf(f, a) else b
    both_negative = negative(f, a) and negative(f, b)
    return rounded(f, exact(f, a) + exact(f, b), both_negative)


def fmul(f: Format, a: int, b: int) -> int:
    sign = (a ^ b) & f.sign
    if is_nan(f, a) or is_nan(f, b):
        return invalid(f, a, b)
    if is_inf(f, a) or is_inf(f, b):
        zero = (a & ~f.sign) == 0 or (b & ~f.sign) == 0
        return invalid(f, a, b) if zero else sign | f.top
    return rounded(f, exact(f, a) * exact(f, b), bool(sign))


def fdiv(f: Format, a: int, b: int) -> int:
    sign = (a ^ b) & f.sign
    a_zero, b_zero = (x & ~f.sign == 0 for x in (a, b))
    if is_nan(f, a) or is_nan(f, b):
        return invalid(f, a, b)
    if (is_inf(f, a) and is_inf(f, b)) or (a_zero and b_zero):
        return invalid(f, a, b)
    if is_inf(f, a) or b_zero:
        return sign | f.top
    if is_inf(f, b):
        return sign
    return rounded(f, exact(f, a) / exact(f, b), bool(sign))


def ffma(f: Format, a: int, b: int, c: int) -> int:
    if any(is_nan(f, x) for x in (a, b, c)):
        return invalid(f, a, b, c)
    sign = (a ^ b) & f.sign
    if is_inf(f, a) or is_inf(f, b):
        zero = (a & ~f.sign) == 0 or (b & ~f.sign) == 0
        clash = is_inf(f, c) and (c & f.sign) != sign
        return invalid(f, a, b, c) if zero or clash else sign | f.top
    if is_inf(f, c):
        return c
    product = exact(f, a) * exact(f, b)
    both = bool(sign) and negative(f, c)
    if product == 0 and exact(f, c) == 0:
        return f.sign if both else 0
    return rounded(f, product + exact(f, c))


def fsqrt(f: Format, a: int) -> int:
    if is_nan(f, a):
        return invalid(f, a)
    if a & ~f.sign == 0 or a == f.top:
        return a
    return invalid(f, a) if negative(f, a) else root(f, exact(f, a))


def order(f: Format, a: int) -> tuple[Fraction | float, int]:
    """Sort key: the value, then -0 below +0."""
    if is_inf(f, a):
        return (-math.inf if negative(f, a) else math.inf), 0
    return exact(f, a), 0 if negative(f, a) else 1


def fminmax(f: Format, a: int, b: int, pick: Callable[..., int], nan: bool) -> int:
    if is_nan(f, a) or is_nan(f, b):
        if nan or (is_nan(f, a) and is_nan(f, b)):
            return f.nan
        return b if is_nan(f, a) else a
    return pick(a, b, key=lambda bits: order(f, bits))


def saturated(f: Format, bits: int) -> int:
    """.sat: [+0, 1], NaN gives +0."""
    one = f.bias << f.mantissa
    if is_nan(f, bits) or negative(f, bits) or bits == 0:
        return 0
    return min(bits, one)


def with_modifiers(
    f: Format, function: Callable[..., int], *, ftz: bool = False, sat: bool = False
) -> Callable[..., int]:
    def model(*operands: int) -> int:
        if ftz:
            operands = tuple(flushed(f, x) for x in operands)
        result = function(f, *operands)
        result = saturated(f, result) if sat else result
        return flushed(f, result) if ftz else result

    return model


def packed(model: Callable[..., int]) -> Callable[..., int]:
    """The model on both halves of words."""

    def both(*words: int) -> int:
        low = model(*(w & 0xFFFF for w in words))
        return model(*(w >> 16 for w in words)) << 16 | low

    return both


def packed_pool(f: Format) -> tuple[int, ...]:
    """Each special value in one half, another one in the other."""
    values = pool(f)
    return tuple(v << 16 | values[(7 * i + 3) % len(values)] for i, v in enumerate(values))


def add_case(
    name: str, f: Format, count: int, model: Callable[..., int], *, arch: str = "sm_80",
    is_open: Callable[..., bool] | None = None,
) -> None:  # fmt: skip
    double = name.endswith("x2")
    kind = "u32" if double else f.kind
    values = packed_pool(f) if double else pool(f)
    letters = ", ".join("{" + "abc"[i] + "}" for i in range(count))
    body = f"{name} {{d}}, {letters};"
    function = packed(model) if double else model
    CASES.append(
        Case(name, kind, (kind,) * count, (values,) * count, body, function, is_open, arch)
    )


def _has_nan(f: Format) -> Callable[..., bool]:
    return lambda *operands: any(is_nan(f, x) for x in operands)


def _sub(f: Format, a: int, b: int) -> int:
    if is_nan(f, b):  # the sign of a NaN stays
        return invalid(f, a, b)
    return fadd(f, a, b ^ f.sign)


def _rcp(f: Format, a: int) -> int:
    return invalid(f, a) if is_nan(f, a) else fdiv(f, f.bias << f.mantissa, a)


def _arithmetic() -> None:
    table: list[tuple[str, int, Callable[..., int]]] = [
        ("add", 2, fadd), ("sub", 2, _sub), ("mul", 2, fmul), ("fma.rn", 3, ffma),
    ]  # fmt: skip
    for name, count, function in table:
        for f in (F32, F64):
            add_case(f"{name}.{f.name}", f, count, with_modifiers(f, function))
        if "rn" not in name:
            add_case(f"{name}.rn.f32", F32, count, with_modifiers(F32, function))
        for modifiers in ("ftz", "sat", "ftz.sat"):
            flags = {"ftz": "ftz" in modifiers, "sat": "sat" in modifiers}
            model = with_modifiers(F32, function, **flags)
            add_case(f"{name}.{modifiers}.f32", F32, count, model)
            model = with_modifiers(F16, function, **flags)
            add_case(f"{name}.{modifiers}.f16", F16, count, model)
        for f in (F16, BF16):
            arch = "sm_80" if f is F16 or "fma" in name else "sm_90"
            model = with_modifiers(f, function)
            add_case(f"{name}.{f.name}", f, count, model, arch=arch)
            add_case(f"{name}.{f.name}x2", f, count, model, arch=arch)
    for name, count, function in (("div", 2, fdiv), ("rcp", 1, _rcp), ("sqrt", 1, fsqrt)):
        for f in (F32, F64):
            add_case(f"{name}.rn.{f.name}", f, count, with_modifiers(f, function))
        add_case(f"{name}.rn.ftz.f32", F32, count, with_modifiers(F32, function, ftz=True))
    add_case("mad.rn.f32", F32, 3, with_modifiers(F32, ffma))


def _order() -> None:
    for name, pick in (("min", min), ("max", max)):
        for f in (F16, BF16, F32, F64):
            for nan in (False, True):
                if nan and f is F64:
                    continue

                def model(f: Format, a: int, b: int, p: object = pick, n: bool = nan) -> int:
                    return fminmax(f, a, b, p, n)  # type: ignore[arg-type]

                stem = f"{name}.NaN" if nan else name
                plain = with_modifiers(f, model)
                add_case(f"{stem}.{f.name}", f, 2, plain, is_open=_both_nan64 if f is F64 else None)
                if f in (F16, BF16):
                    add_case(f"{stem}.{f.name}x2", f, 2, plain)
                if f in (F16, F32):
                    ftz = f"{name}.ftz.NaN" if nan else f"{name}.ftz"
                    add_case(f"{ftz}.{f.name}", f, 2, with_modifiers(f, model, ftz=True))


def _both_nan64(a: int, b: int) -> bool:
    return is_nan(F64, a) and is_nan(F64, b)


def _signs() -> None:
    for f in (F16, BF16, F32, F64):
        for name in ("abs", "neg"):

            def model(f: Format, a: int, name: str = name) -> int:
                if is_nan(f, a) and f is not F64:
                    return f.nan
                return a & ~f.sign if name == "abs" else a ^ f.sign

            add_case(f"{name}.{f.name}", f, 1, with_modifiers(f, model), is_open=_has_nan(f))
            if f in (F16, BF16):

                def either(a: int, f: Format = f) -> bool:
                    return is_nan(f, a & 0xFFFF) or is_nan(f, a >> 16)

                model_of_both = with_modifiers(f, model)
                add_case(f"{name}.{f.name}x2", f, 1, model_of_both, is_open=either)
            if f in (F16, F32):
                add_case(f"{name}.ftz.{f.name}", f, 1, with_modifiers(f, model, ftz=True),
                         is_open=_has_nan(f))  # fmt: skip
    for f in (F32, F64):
        add_case(f"copysign.{f.name}", f, 2,
                 lambda a, b, g=f: a & g.sign | b & ~g.sign)  # fmt: skip


_ORDERED: dict[str, Callable[[object, object], bool]] = {
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,  # type: ignore
    "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,  # type: ignore
}  # fmt: skip


def compare(f: Format, how: str, a: int, b: int) -> bool:
    unordered = is_nan(f, a) or is_nan(f, b)
    if how in ("num", "nan"):
        return unordered == (how == "nan")
    if unordered:
        return how.endswith("u")
    return _ORDERED[how[:2]](order(f, a)[0], order(f, b)[0])


def _comparison() -> None:
    names = (*_ORDERED, *(f"{how}u" for how in _ORDERED), "num", "nan")
    for f in (F16, BF16, F32, F64):
        for how in names:
            for ftz in (False, True) if f is F32 else (False,):

                def model(a: int, b: int, f: Format = f, how: str = how, z: bool = ftz) -> int:
                    a, b = (flushed(f, x) if z else x for x in (a, b))
                    return int(compare(f, how, a, b))

                name = f"setp.{how}{'.ftz' if ftz else ''}.{f.name}"
                arch = "sm_90" if f is BF16 else "sm_80"
                body = f"{name} {{d}}, {{a}}, {{b}};"
                pools = (pool(f), pool(f))
                CASES.append(Case(name, "pred", (f.kind, f.kind), pools, body, model, None, arch))
    tests: dict[str, Callable[[Format, int], bool]] = {
        "finite": lambda f, a: a & ~f.sign < f.top,
        "infinite": is_inf,
        "number": lambda f, a: not is_nan(f, a),
        "notanumber": is_nan,
        "normal": lambda f, a: 0 < (a & f.top) < f.top or a & ~f.sign == 0,  # zeros too
        "subnormal": lambda f, a: a & f.top == 0 and a & ~f.sign != 0,
    }
    for f in (F32, F64):
        for name, test in tests.items():
            opcode = f"testp.{name}.{f.name}"
            CASES.append(Case(opcode, "pred", (f.kind,), (pool(f),), f"{opcode} {{d}}, {{a}};",
                              lambda a, f=f, test=test: int(test(f, a))))  # fmt: skip
    CASES.append(Case("slct.u32.f32", "u32", ("u32", "u32", "u32"), (pool(F32),) * 3,
                      "mov.b32 f1, {c}; slct.u32.f32 {d}, {a}, {b}, f1;",
                      lambda a, b, c: a if compare(F32, "ge", c, 0) else b))  # fmt: skip
    CASES.append(Case("set.le.u32.f32", "u32", ("u32", "u32"), (pool(F32),) * 2,
                      "set.le.u32.f32 {d}, {a}, {b};",
                      lambda a, b: 0xFFFFFFFF if compare(F32, "le", a, b) else 0))  # fmt: skip


_arithmetic()
_order()
_signs()
_comparison()
