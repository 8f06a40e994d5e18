"""Models of directed rounding (.rz, .rm, .rp), with exact fractions (PTX ISA 9.7.3, 9.7.9)."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from tests.emulator import opcode_float as nearest
from tests.emulator.opcode_case import Case
from tests.emulator.opcode_convert import INTEGERS, convert, register
from tests.emulator.opcode_float import (
    BF16,
    F16,
    F32,
    F64,
    Format,
    exact,
    flushed,
    is_inf,
    is_nan,
    negative,
    pool,
    saturated,
    with_modifiers,
)
from tests.emulator.opcode_integer import mask, value
from tests.emulator.opcode_integer import pool as integer_pool

CASES: list[Case] = []
ROUNDINGS = ("rz", "rm", "rp")
Model = Callable[..., int]


def directed(f: Format, number: Fraction, rounding: str, zero_sign: bool = False) -> int:
    """Bits of `number`, rounded toward zero, down or up; an exact zero gets `zero_sign`."""
    if number == 0:
        return f.sign if zero_sign else 0
    sign, size = (f.sign, -number) if number < 0 else (0, number)
    away = rounding == ("rm" if sign else "rp")
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    exponent = max(exponent, 1 - f.bias)
    units = size / Fraction(2) ** (exponent - f.mantissa)
    count = math.ceil(units) if away else math.floor(units)
    bits = ((exponent + f.bias - 1) << f.mantissa) + count
    return sign | min(bits, f.top if away else f.top - 1)


def _ordinary(f: Format, *operands: int) -> bool:
    return not any(is_nan(f, x) or is_inf(f, x) for x in operands)


def _sum_zero(f: Format, a: int, b: int, rounding: str) -> bool:
    """Sign of an exactly zero sum of a and b (bits that tell their signs)."""
    same = negative(f, a) == negative(f, b)
    return negative(f, a) if same else rounding == "rm"


def fadd(f: Format, rounding: str, a: int, b: int) -> int:
    if not _ordinary(f, a, b):
        return nearest.fadd(f, a, b)
    return directed(f, exact(f, a) + exact(f, b), rounding, _sum_zero(f, a, b, rounding))


def fsub(f: Format, rounding: str, a: int, b: int) -> int:
    return nearest.invalid(f, a, b) if is_nan(f, b) else fadd(f, rounding, a, b ^ f.sign)


def fmul(f: Format, rounding: str, a: int, b: int) -> int:
    if not _ordinary(f, a, b):
        return nearest.fmul(f, a, b)
    return directed(f, exact(f, a) * exact(f, b), rounding, bool((a ^ b) & f.sign))


def fdiv(f: Format, rounding: str, a: int, b: int) -> int:
    if not _ordinary(f, a, b) or b & ~f.sign == 0:
        return nearest.fdiv(f, a, b)
    return directed(f, exact(f, a) / exact(f, b), rounding, bool((a ^ b) & f.sign))


def frcp(f: Format, rounding: str, a: int) -> int:
    return nearest.invalid(f, a) if is_nan(f, a) else fdiv(f, rounding, f.bias << f.mantissa, a)


def ffma(f: Format, rounding: str, a: int, b: int, c: int) -> int:
    if not _ordinary(f, a, b, c):
        return nearest.ffma(f, a, b, c)
    number = exact(f, a) * exact(f, b) + exact(f, c)
    return directed(f, number, rounding, _sum_zero(f, a ^ b, c, rounding))


def fsqrt(f: Format, rounding: str, a: int) -> int:
    if not _ordinary(f, a) or negative(f, a) or a == 0:
        return nearest.fsqrt(f, a)
    number, shift = exact(f, a), 2 * (f.mantissa + f.bias)
    scaled = number.numerator << 2 * shift
    whole = math.isqrt(scaled // number.denominator)
    sticky = whole * whole * number.denominator != scaled
    return directed(f, Fraction(2 * whole + sticky, 2 << shift), rounding)


def _arithmetic() -> None:
    table: list[tuple[str, int, Model]] = [
        ("add", 2, fadd), ("sub", 2, fsub), ("mul", 2, fmul), ("fma", 3, ffma), ("mad", 3, ffma),
        ("div", 2, fdiv), ("rcp", 1, frcp), ("sqrt", 1, fsqrt),
    ]  # fmt: skip
    for rounding in ROUNDINGS:
        for name, count, function in table:

            def model(f: Format, *operands: int, g: Model = function, r: str = rounding) -> int:
                return g(f, r, *operands)

            _case(f"{name}.{rounding}.f32", F32, count, with_modifiers(F32, model))
            ftz = with_modifiers(F32, model, ftz=True)
            _case(f"{name}.{rounding}.ftz.f32", F32, count, ftz)
            if name in ("add", "sub", "mul", "fma"):
                sat = with_modifiers(F32, model, sat=True)
                _case(f"{name}.{rounding}.sat.f32", F32, count, sat)
            if name in ("add", "sub", "mul"):
                _case(f"{name}.{rounding}.f64", F64, count, with_modifiers(F64, model))


def _edges(f: Format) -> tuple[int, ...]:
    """Powers of two, one unit beside them, and full mantissas, over all exponents."""
    step = max(1, f.bias // 6)
    exponents = range(1, 2 * f.bias, step)
    sizes = [(e << f.mantissa) + d for e in exponents for d in (-1, 0, 1, mask(f.mantissa) // 3)]
    return tuple(s | sign for s in sizes for sign in (0, f.sign))


def _case(name: str, f: Format, count: int, model: Model) -> None:
    """As add_case of opcode_float, with more exponents, into the list of this file."""
    values = tuple(dict.fromkeys((*pool(f), *_edges(f))))
    letters = ", ".join("{" + "abc"[i] + "}" for i in range(count))
    CASES.append(
        Case(name, f.kind, (f.kind,) * count, (values,) * count, f"{name} {{d}}, {letters};", model)
    )


def narrowed(target: Format, source: Format, bits: int, rounding: str) -> int:
    if not _ordinary(source, bits):
        return convert(target, source, bits)
    return directed(target, exact(source, bits), rounding, negative(source, bits))


def _floats() -> None:
    pairs = ((F16, F32), (BF16, F32), (F32, F64), (F16, F64), (BF16, F64), (BF16, F16), (F16, BF16))
    for target, source in pairs:
        near = [
            nearest.rounded(source, exact(target, v) * (1 + Fraction(n, 1 << 30)))
            for v in pool(target)
            for n in (-64, -1, 0, 1, 64)
            if _ordinary(target, v)
        ]
        values = tuple(dict.fromkeys((*pool(source), *_edges(source), *near)))
        for rounding in ROUNDINGS:
            plain = rounding == "rz" and (target, source) in ((BF16, F32), (F16, F32))
            arch = "sm_90" if BF16 in (target, source) and not plain else "sm_80"

            def model(a: int, t: Format = target, s: Format = source, r: str = rounding) -> int:
                return narrowed(t, s, a, r)

            name = f"cvt.{rounding}.{target.name}.{source.name}"
            _convert(name, target.kind, source.kind, values, model, arch)
            if plain:
                relu = _relu(model)
                name = f"cvt.rz.relu.{target.name}.f32"
                _convert(name, target.kind, "u32", values, relu, arch, _minus_zero)
    for rounding in ROUNDINGS:
        _convert(f"cvt.{rounding}.ftz.f16.f32", "u16", "u32", pool(F32) + _edges(F32),
                 lambda a, r=rounding: narrowed(F16, F32, flushed(F32, a), r))  # fmt: skip
        _convert(f"cvt.{rounding}.ftz.f32.f64", "u32", "u64", pool(F64) + _edges(F64),
                 lambda a, r=rounding: flushed(F32, narrowed(F32, F64, a, r)))  # fmt: skip
        _convert(f"cvt.{rounding}.sat.f16.f32", "u16", "u32", pool(F32) + _edges(F32),
                 lambda a, r=rounding: saturated(F16, narrowed(F16, F32, a, r)))  # fmt: skip


def _minus_zero(a: int) -> bool:
    return a == F32.sign


def _relu(model: Model) -> Model:
    """Negative numbers become +0; -0 stays (PTX leaves that open)."""

    def relu(a: int) -> int:
        drop = negative(F32, a) and not is_nan(F32, a) and not _minus_zero(a)
        return 0 if drop else model(a)

    return relu


def _convert(name: str, target: str, source: str, values: tuple[int, ...], model: Model,
             arch: str = "sm_80", is_open: Callable[..., bool] | None = None) -> None:  # fmt: skip
    body = f"{name} {{d}}, {{a}};"
    CASES.append(Case(name, target, (source,), (values,), body, model, is_open, arch))


def _integers() -> None:
    for f in (F16, BF16, F32, F64):
        for data in INTEGERS:
            bits = int(data[1:])
            if f is BF16 and bits in (8, 64):
                continue
            width = max(16, bits)
            powers = [1 << k | 1 << max(0, k - f.mantissa - j) for k in range(64) for j in (0, 1)]
            ends = [mask(k) ^ mask(max(0, k - f.mantissa - 1)) for k in range(4, 65)]
            near = [n + d for n in (*powers, *ends) for d in (-1, 0, 1)]
            values = (*integer_pool(width), *(n & mask(width) for n in near))
            values = tuple(dict.fromkeys((*values, *(-n & mask(width) for n in near))))
            for rounding in ROUNDINGS:

                def model(a: int, f: Format = f, d: str = data, r: str = rounding) -> int:
                    return directed(f, Fraction(value(a, d)), r)

                arch = "sm_90" if f is BF16 else "sm_80"
                name = f"cvt.{rounding}.{f.name}.{data}"
                _convert(name, f.kind, register(data), values, model, arch)


def _packed() -> None:
    values = tuple(dict.fromkeys((*pool(F32), *_edges(F32))))
    for f in (F16, BF16):

        def one(a: int, f: Format = f) -> int:
            return narrowed(f, F32, a, "rz")

        for relu, half in (("", one), (".relu", _relu(one))):
            name = f"cvt.rz{relu}.{f.name}x2.f32"

            def both(a: int, b: int, half: Model = half) -> int:
                return half(a) << 16 | half(b)

            def is_open(a: int, b: int) -> bool:
                return _minus_zero(a) or _minus_zero(b)

            body = f"{name} {{d}}, {{a}}, {{b}};"
            CASES.append(Case(name, "u32", ("u32", "u32"), (values, values), body, both,
                              is_open if relu else None))  # fmt: skip


_arithmetic()
_floats()
_integers()
_packed()
