"""Models of mma.sync on 8-bit integers (PTX ISA 9.7.15.5, "Matrix Fragments for mma.m16n8k16" and
"mma.m16n8k32" with .u8/.s8), by the figures' formulas for row and column of each element.

A thread holds A (4 or 2 registers), B (2 or 1), C (4) and stores the one of its four results that
its last source names.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.emulator.opcode_case import LETTERS, WARP, WarpCase
from tests.emulator.opcode_integer import value

EXTREMES = (0, 0xFFFFFFFF, 0x80808080, 0x7F7F7F7F, 0x01010101, 0x80FF7F00, 0x7FFFFFFF, 0x80000000)


def bytes_of(words: list[list[int]], lane: int, data: str) -> list[int]:
    """Elements a0, a1, ... of a thread: four to a register, the lowest byte first."""
    return [value(word[lane] >> shift, data) for word in words for shift in (0, 8, 16, 24)]


def matrices(
    a: list[list[int]], b: list[list[int]], a_type: str, b_type: str
) -> tuple[list[list[int]], list[list[int]]]:
    """A (16, k) and B (k, 8) from a warp's registers."""
    k = 8 * len(a)
    left, right = [[0] * k for _ in range(16)], [[0] * 8 for _ in range(k)]
    for lane in range(WARP):
        group, member = lane >> 2, lane % 4
        for i, element in enumerate(bytes_of(a, lane, a_type)):
            row = group if i < 4 or 8 <= i < 12 else group + 8
            left[row][member * 4 + (i & 3) + (0 if i < 8 else 16)] = element
        for i, element in enumerate(bytes_of(b, lane, b_type)):
            right[member * 4 + (i & 3) + (0 if i < 4 else 16)][group] = element
    return left, right


def model(
    registers: int, a_type: str, b_type: str, clamped: bool = False
) -> Callable[..., list[int]]:
    """registers: of A. clamped: .satfinite."""

    def product(*sources: list[int]) -> list[int]:
        a, b = list(sources[:registers]), list(sources[registers : registers * 3 // 2])
        c, choice = sources[-5:-1], sources[-1]
        left, right = matrices(a, b, a_type, b_type)
        found = []
        for lane in range(WARP):
            i = choice[lane] & 3
            row = (lane >> 2) + (8 if i >= 2 else 0)
            column = lane % 4 * 2 + (i & 1)
            total = sum(x * right[k][column] for k, x in enumerate(left[row]))
            start = c[i][lane]
            if clamped:
                total += start - (1 << 32) * (start >> 31)
                found.append(min(max(total, -(1 << 31)), (1 << 31) - 1) % (1 << 32))
            else:
                found.append((total + start) % (1 << 32))
        return found

    return product


def case(k: int, a_type: str, b_type: str, clamped: bool = False) -> WarpCase:
    """mma.sync.aligned.m16n8k{k}.row.col{.satfinite}.s32.{a_type}.{b_type}.s32."""
    registers, form = k // 8, ".satfinite" if clamped else ""
    count = registers * 3 // 2 + 5
    names = ["{" + letter + "}" for letter in LETTERS[:count]]
    groups = (names[:registers], names[registers:-5], names[-5:-1])
    fragments = ", ".join("{{" + ", ".join(group) + "}}" for group in groups)
    body = (
        f"mma.sync.aligned.m16n8k{k}.row.col{form}.s32.{a_type}.{b_type}.s32 "
        f"{{{{r20, r21, r22, r23}}}}, {fragments};\n"
        f"and.b32 r24, {names[-1]}, 3;\n"
        "setp.eq.u32 p1, r24, 1; setp.eq.u32 p2, r24, 2; setp.eq.u32 p3, r24, 3;\n"
        "selp.b32 r20, r21, r20, p1; selp.b32 r20, r22, r20, p2; selp.b32 {d}, r23, r20, p3;"
    )
    name = f"mma.m16n8k{k}{form}.s32.{a_type}.{b_type}.s32"
    pools = (EXTREMES,) * count
    made = model(registers, a_type, b_type, clamped)
    return WarpCase(name, "u32", ("u32",) * count, pools, body, made)


CASES = [case(k, a, b) for k in (16, 32) for a in ("s8", "u8") for b in ("s8", "u8")]
CASES += [case(k, a, b, clamped=True) for k in (16, 32) for a, b in (("s8", "s8"), ("u8", "u8"))]
