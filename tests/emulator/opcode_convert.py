"""Models of cvt and cvt.pack, with exact fractions (PTX ISA 9.7.9)."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from tests.emulator.opcode_case import Case
from tests.emulator.opcode_float import (
    BF16,
    F16,
    F32,
    F64,
    FORMATS,
    Format,
    exact,
    flushed,
    is_inf,
    is_nan,
    negative,
    pool,
    rounded,
    saturated,
)
from tests.emulator.opcode_integer import mask, signed, value
from tests.emulator.opcode_integer import pool as integer_pool

CASES: list[Case] = []
INTEGERS = ("u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64")
ROUND: dict[str, Callable[[Fraction], int]] = {
    "rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil,
}  # fmt: skip


def bounds(data: str) -> tuple[int, int]:
    width = int(data[1:])
    return (-(1 << (width - 1)), (1 << (width - 1)) - 1) if data[0] == "s" else (0, mask(width))


def clamp(number: int, data: str) -> int:
    least, most = bounds(data)
    return min(max(number, least), most)


def case(name: str, target: str, source: str, values: tuple[int, ...], model: Callable[..., int],
         arch: str = "sm_80", is_open: Callable[..., bool] | None = None) -> None:  # fmt: skip
    body = f"{name} {{d}}, {{a}};"
    CASES.append(Case(name, target, (source,), (values,), body, model, is_open, arch))


def register(data: str) -> str:
    """Array type of the register that holds `data`: the smallest register has 16 bits."""
    width = FORMATS[data].width if data in FORMATS else int(data[1:])
    return f"u{max(16, width)}"


def extended(number: int, data: str) -> int:
    """A result in its register: sign- or zero-extended to 16 bits at least."""
    return number & mask(max(16, int(data[1:])))


def _integers() -> None:
    for source in INTEGERS:
        for target in INTEGERS:
            if source == target:
                continue
            values = integer_pool(max(16, int(source[1:])))

            def plain(a: int, s: str = source, t: str = target) -> int:
                return extended(value(value(a, s) & mask(int(t[1:])), t), t)

            def sat(a: int, s: str = source, t: str = target) -> int:
                return extended(clamp(value(a, s), t), t)

            case(f"cvt.{target}.{source}", register(target), register(source), values, plain)
            (low, high), (least, most) = bounds(source), bounds(target)
            if low < least or high > most:
                case(f"cvt.sat.{target}.{source}", register(target), register(source), values, sat)


def to_integer(f: Format, bits: int, data: str, rounding: str) -> int:
    width = int(data[1:])
    if is_nan(f, bits):
        return 1 << (width - 1) if f is F64 or width == 64 else 0
    if is_inf(f, bits):
        return bounds(data)[0 if negative(f, bits) else 1]
    return clamp(ROUND[rounding](exact(f, bits)), data)


def _to_integers() -> None:
    for f in (F16, F32, F64, BF16):
        for data in INTEGERS:
            if f is BF16 and data not in ("s16", "s32", "u32"):
                continue
            width = int(data[1:])
            edges = {1 << (width - 1), 1 << width, (1 << (width - 1)) - 1, (1 << width) - 1}
            near = [Fraction(n) + Fraction(d, 4) for n in edges for d in range(-6, 7)]
            extra = tuple(rounded(f, n) | s for n in near for s in (0, f.sign))
            values = tuple(dict.fromkeys((*pool(f), *extra)))
            for rounding in ROUND:
                for form in ("", ".ftz", ".sat"):
                    if (form == ".ftz" and f is not F32) or (form == ".sat" and rounding != "rni"):
                        continue
                    if form == ".sat" and f is BF16:
                        continue

                    def model(a: int, f: Format = f, d: str = data, r: str = rounding,
                              z: bool = form == ".ftz") -> int:  # fmt: skip
                        bits = flushed(f, a) if z else a
                        w = int(d[1:])
                        return extended(value(to_integer(f, bits, d, r) & mask(w), d), d)

                    name = f"cvt.{rounding}{form}.{data}.{f.name}"
                    arch = "sm_90" if f is BF16 else "sm_80"
                    case(name, register(data), f.kind, values, model, arch)


def _from_integers() -> None:
    for f in (F16, BF16, F32, F64):
        for data in INTEGERS:
            if f is BF16 and int(data[1:]) in (8, 64):
                continue
            values = integer_pool(max(16, int(data[1:])))
            tie = [1 << k | 1 << max(0, k - f.mantissa - 1) for k in range(4, 64)]
            values = tuple(dict.fromkeys((*values, *(v + d for v in tie for d in (-1, 0, 1)))))
            width = max(16, int(data[1:]))
            values = tuple(dict.fromkeys(v & mask(width) for v in values))

            def model(a: int, f: Format = f, d: str = data) -> int:
                return rounded(f, Fraction(value(a, d)))

            arch = "sm_90" if f is BF16 else "sm_80"
            case(f"cvt.rn.{f.name}.{data}", f.kind, register(data), values, model, arch)


def convert(target: Format, source: Format, bits: int) -> int:
    """Round to nearest; NaN canonical, but bf16 to f32 and widening to f64 keep payloads."""
    if is_nan(source, bits):
        if target is F64:
            payload = (bits & mask(source.mantissa)) << (52 - source.mantissa)
            return negative(source, bits) << 63 | F64.top | 1 << 51 | payload
        return bits << 16 if (target, source) == (F32, BF16) else target.nan
    sign = target.sign if negative(source, bits) else 0
    if is_inf(source, bits):
        return sign | target.top
    return rounded(target, exact(source, bits), bool(sign))


def integral(f: Format, bits: int, rounding: str) -> int:
    if is_nan(f, bits):
        return f.nan
    if is_inf(f, bits):
        return bits
    return rounded(f, Fraction(ROUND[rounding](exact(f, bits))), negative(f, bits))


def _floats() -> None:
    narrowing = ((F16, F32), (BF16, F32), (F32, F64), (F16, F64), (BF16, F64))
    for target, source in narrowing:
        middle = [rounded(source, exact(target, v) + n * Fraction(2) ** (e))
                  for v in pool(target) if not is_nan(target, v) and not is_inf(target, v)
                  for e in (-25, -12, -134, -9) for n in (-1, 1)]  # fmt: skip
        values = tuple(dict.fromkeys((*pool(source), *middle)))
        arch = "sm_90" if target is BF16 and source is F64 else "sm_80"
        case(f"cvt.rn.{target.name}.{source.name}", target.kind, source.kind, values,
             lambda a, t=target, s=source: convert(t, s, a), arch)  # fmt: skip
    for target, source in ((F32, F16), (F32, BF16), (F64, F16), (F64, F32)):
        case(f"cvt.{target.name}.{source.name}", target.kind, source.kind, pool(source),
             lambda a, t=target, s=source: convert(t, s, a),
             "sm_90" if source is BF16 else "sm_80",
             is_open=lambda a, s=source: is_nan(s, a))  # fmt: skip
    for f in (F32, F16):

        def relu(a: int, f: Format = f) -> int:
            return (
                0
                if negative(F32, a) and not is_nan(F32, a) and a != F32.sign
                else convert(f, F32, a)
            )

        if f is not F32:
            case(f"cvt.rn.relu.{f.name}.f32", f.kind, "u32", pool(F32), relu,
                 is_open=lambda a: a == F32.sign)  # fmt: skip
            case(f"cvt.rn.sat.{f.name}.f32", f.kind, "u32", pool(F32),
                 lambda a, f=f: saturated(f, convert(f, F32, a)))  # fmt: skip
    for f in (F32, F64):
        for rounding in ROUND:
            if f is F64:
                values, open_nan = pool(f), (lambda a: is_nan(F64, a))
                case(f"cvt.{rounding}.f64.f64", "u64", "u64", values,
                     lambda a, r=rounding: a | 1 << 51 if is_nan(F64, a) else integral(F64, a, r),
                     is_open=open_nan)  # fmt: skip
                continue
            case(f"cvt.{rounding}.f32.f32", "u32", "u32", pool(f),
                 lambda a, r=rounding: integral(F32, a, r))  # fmt: skip
            case(f"cvt.{rounding}.ftz.f32.f32", "u32", "u32", pool(f),
                 lambda a, r=rounding: integral(F32, flushed(F32, a), r))  # fmt: skip
    case("cvt.sat.f32.f32", "u32", "u32", pool(F32), lambda a: saturated(F32, a))
    case("cvt.ftz.f32.f16", "u32", "u16", pool(F16), lambda a: convert(F32, F16, a))
    case(
        "cvt.rn.ftz.f16.f32", "u16", "u32", pool(F32), lambda a: convert(F16, F32, flushed(F32, a))
    )
    case(
        "cvt.rn.ftz.f32.f64", "u32", "u64", pool(F64), lambda a: flushed(F32, convert(F32, F64, a))
    )


def _packed() -> None:
    for f in (F16, BF16):
        name = f"cvt.rn.{f.name}x2.f32"

        def both(a: int, b: int, f: Format = f) -> int:
            return convert(f, F32, a) << 16 | convert(f, F32, b)

        body = f"{name} {{d}}, {{a}}, {{b}};"
        CASES.append(Case(name, "u32", ("u32", "u32"), (pool(F32),) * 2, body, both))
    for data in ("s8", "u8"):
        name = f"cvt.pack.sat.{data}.s32.b32"

        def pack(a: int, b: int, c: int, d: str = data) -> int:
            ta, tb = (clamp(signed(x, 32), d) & 255 for x in (a, b))
            return (c << 16 | ta << 8 | tb) & mask(32)

        CASES.append(Case(name, "u32", ("u32",) * 3, (integer_pool(32),) * 3,
                          f"{name} {{d}}, {{a}}, {{b}}, {{c}};", pack))  # fmt: skip
    for data in ("s16", "u16"):
        name = f"cvt.pack.sat.{data}.s32"

        def pack16(a: int, b: int, d: str = data) -> int:
            ta, tb = (clamp(signed(x, 32), d) & mask(16) for x in (a, b))
            return ta << 16 | tb

        CASES.append(Case(name, "u32", ("u32",) * 2, (integer_pool(32),) * 2,
                          f"{name} {{d}}, {{a}}, {{b}};", pack16))  # fmt: skip


_integers()
_to_integers()
_from_integers()
_floats()
_packed()
