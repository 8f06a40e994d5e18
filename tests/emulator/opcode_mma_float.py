"""Models of mma.sync on f16, bf16 and tf32 (PTX ISA 9.7.15.5, "Matrix Fragments for mma.m16n8k4",
"mma.m16n8k8" and "mma.m16n8k16"), by the figures' formulas for row and column of each element.

A thread holds A, B and C and stores one of its results, which its last source names. PTX leaves
order and intermediate rounding of the sums open, so a result is specified only where every partial
sum, in whatever order, is representable in f32, or where an operand is infinite or NaN. Elsewhere
the emulator's choice is pinned: C plus the products in the order of k, in f64, rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tests.emulator.opcode_case import LETTERS, WARP, WarpCase
from tests.emulator.opcode_float import BF16, F16, F32, Format, exact, is_inf, is_nan, pool, rounded

Matrix = list[list[int]]
TF32 = "tf32"


def _format(data: str) -> Format:
    return {"f16": F16, "bf16": BF16, "tf32": F32, "f32": F32}[data]


def elements(words: list[list[int]], lane: int, data: str) -> list[int]:
    """Bit patterns of the elements that a thread holds, in the order of the figures."""
    if data == "f32":
        return [word[lane] for word in words]
    if data == TF32:
        return [word[lane] & ~0x1FFF for word in words]
    return [word[lane] >> shift & 0xFFFF for word in words for shift in (0, 16)]


def matrices(words: list[list[int]], data: str, k: int, c_data: str) -> tuple[Matrix, ...]:
    """A (16, k), B (k, 8), C (16, 8) as bit patterns."""
    per_word = 1 if data == TF32 else 2
    count = 16 * k // WARP // per_word
    a, b, c = words[:count], words[count : count * 3 // 2], words[count * 3 // 2 :]
    left, right = [[0] * k for _ in range(16)], [[0] * 8 for _ in range(k)]
    start = [[0] * 8 for _ in range(16)]
    for lane in range(WARP):
        group, member = lane >> 2, lane % 4
        for i, bits in enumerate(elements(a, lane, data)):
            row = group + 8 * (i // per_word % 2)
            column = member * per_word + i % per_word + 4 * per_word * (i // (2 * per_word))
            left[row][column] = bits
        for i, bits in enumerate(elements(b, lane, data)):
            right[member * per_word + i % per_word + 4 * per_word * (i // per_word)][group] = bits
        for i, bits in enumerate(elements(c, lane, c_data)):
            start[group + 8 * (i // 2)][member * 2 + i % 2] = bits
    return left, right, start


def terms(matrix: tuple[Matrix, ...], row: int, column: int) -> list[tuple[int, ...]]:
    left, right, start = matrix
    return [(start[row][column],)] + [(x, right[k][column]) for k, x in enumerate(left[row])]


def special(factors: list[tuple[int, ...]], f: Format, c: Format) -> float | None:
    """The sum's value if an operand is infinite or NaN."""
    total, found = 0.0, False
    for i, factor in enumerate(factors):
        form, product = (f if i else c), 1.0
        for bits in factor:
            if is_nan(form, bits):
                return float("nan")
            infinite = is_inf(form, bits)
            found |= infinite
            sign = -1.0 if bits & form.sign else 1.0
            product *= sign * float("inf") if infinite else float(exact(form, bits))
        total += product
    return total if found else None


def add(factors: list[tuple[int, ...]], f: Format, c: Format) -> int:
    """Bits of the f32 result."""
    known = special(factors, f, c)
    if known is not None:
        return F32.nan if known != known else F32.top | (F32.sign if known < 0 else 0)
    numbers = [float(exact(c, factors[0][0]))]
    numbers += [float(exact(f, x)) * float(exact(f, y)) for x, y in factors[1:]]
    total = -0.0 if factors[0][0] & c.sign and numbers[0] == 0 else numbers[0]
    for (x, y), number in zip(factors[1:], numbers[1:], strict=True):
        negative = bool((x ^ y) & f.sign)
        total += -0.0 if number == 0 and negative else number
    return rounded(F32, Fraction(total), str(total)[0] == "-")


def is_exact(factors: list[tuple[int, ...]], f: Format, c: Format) -> bool:
    """Whether any order of summation gives the same result."""
    if special(factors, f, c) is not None:
        return True
    sizes = [abs(exact(c, factors[0][0]))]
    sizes += [abs(exact(f, x) * exact(f, y)) for x, y in factors[1:]]
    units = [Fraction(s.numerator & -s.numerator, s.denominator) for s in sizes if s]
    least = min(units, default=Fraction(1))
    total = sum(sizes)
    bits, smallest = (24, 126) if c is not F16 else (11, 14)  # in f16 sums may be rounded to f16
    return total / least < 1 << bits and least >= Fraction(1, 1 << smallest)


@dataclass(frozen=True)
class FloatCase(WarpCase):
    """mma.sync.aligned.m16n8k{k}.row.col.{accumulators}.{data}.{data}.{accumulators}."""

    k: int = 16
    data: str = "f16"
    accumulators: str = "f32"

    def results(self, warp: int) -> list[list[tuple[int, ...]]]:
        """The terms of the chosen result of each thread."""
        words = [array[warp : warp + WARP].tolist() for array in self.inputs]
        matrix = matrices(words[:-1], self.data, self.k, self.accumulators)
        found = []
        for lane, choice in enumerate(words[-1]):
            row = (lane >> 2) + (8 if choice & 2 else 0)
            found.append(terms(matrix, row, lane % 4 * 2 + (choice & 1)))
        return found

    def expected(self) -> np.ndarray:
        """Bits of the results, an f16 in the lower half."""
        f, c = _format(self.data), _format(self.accumulators)
        found = []
        for warp in range(0, self.count, WARP):
            for factors in self.results(warp):
                bits = add(factors, f, c)
                found.append(bits if self.accumulators == "f32" else to_half(bits))
        return np.array(found, dtype=self.output_dtype)

    def open_mask(self) -> np.ndarray:
        f, c = _format(self.data), _format(self.accumulators)
        rows = [r for warp in range(0, self.count, WARP) for r in self.results(warp)]
        return np.array([not is_exact(row, f, c) for row in rows])


def to_half(bits: int) -> int:
    """f32 bits rounded to f16."""
    if is_nan(F32, bits):
        return F16.nan
    if is_inf(F32, bits):
        return F16.top | (F16.sign if bits & F32.sign else 0)
    return rounded(F16, exact(F32, bits), bool(bits & F32.sign))


def words_of(data: str) -> tuple[int, ...]:
    """Registers: small whole numbers and halves, then the edges of the format."""
    f = _format(data)
    small = [rounded(f, Fraction(n, 2)) for n in (0, 1, -1, 2, -3, 4, 5, -8, 14, 16)]
    edges = [bits for bits in pool(f) if not is_nan(f, bits)][::5]
    values = small * 3 + edges
    if f.width == 32:
        return tuple(values)
    return tuple(x | y << 16 for x, y in zip(values, values[3:] + values[:3], strict=True))


def case(k: int, data: str, accumulators: str) -> FloatCase:
    a = 16 * k // WARP // (1 if data == TF32 else 2)
    c = 4 if accumulators == "f32" else 2
    count = a * 3 // 2 + c + 1
    names = ["{" + letter + "}" for letter in LETTERS[:count]]
    groups = (names[:a], names[a : a * 3 // 2], names[a * 3 // 2 : -1])
    fragments = ", ".join("{{" + ", ".join(group) + "}}" for group in groups)
    results = ", ".join(f"r{20 + i}" for i in range(c))
    opcode = f"mma.sync.aligned.m16n8k{k}.row.col.{accumulators}.{data}.{data}.{accumulators}"
    body = f"{opcode} {{{{{results}}}}}, {fragments};\nand.b32 r24, {names[-1]}, 3;\n"
    if accumulators == "f16":
        body += (
            "setp.ge.u32 p1, r24, 2; selp.b32 r20, r21, r20, p1; and.b32 r25, r24, 1;\n"
            "shl.b32 r25, r25, 4; shr.u32 r20, r20, r25; and.b32 {d}, r20, 65535;"
        )
    else:
        body += (
            "setp.eq.u32 p1, r24, 1; setp.eq.u32 p2, r24, 2; setp.eq.u32 p3, r24, 3;\n"
            "selp.b32 r20, r21, r20, p1; selp.b32 r20, r22, r20, p2; selp.b32 {d}, r23, r20, p3;"
        )
    pools = (words_of(data),) * (a * 3 // 2) + (words_of(accumulators),) * c + ((0, 1, 2, 3),)
    return FloatCase(
        opcode.replace("sync.aligned.", "").replace("row.col.", ""), "u32", ("u32",) * count,
        pools, body, lambda *_: [], k=k, data=data, accumulators=accumulators,
    )  # fmt: skip


SHAPES = [
    *[(k, data, "f32") for k in (8, 16) for data in ("f16", "bf16")],
    *[(k, TF32, "f32") for k in (4, 8)],
    *[(k, "f16", "f16") for k in (8, 16)],
]
CASES = [case(*shape) for shape in SHAPES]
ALLOWED = {case.name: case.body.split()[0] for case in CASES}
