"""Proof by exhaustion that the kernels' division-free quotient gives the code that division gives.

`divide_fast` in kernels_cupy/dialect.cuh replaces x / s by three fused operations. Its quotient is
within a few ulps of x / s, so a code can differ only where x lies within a few ulps of a threshold:
(k + 1/2) * s where codes are rounded to nearest, k * s where they are truncated. For every one of
the 2**23 significands of s, every half h = 1/2, 1, ... 512 (asymmetric codes go that far) and the 9
floats around each h * s this runs both and compares the quotients, bit for bit: 7.7e10 pairs.
Powers of two only shift exponents: the kernels use the form for 2**-64 <= s <= 2**64, where nothing
under- or overflows.

A dialect that rounds the quotient to fp16 first has other thresholds; there x and s are fp16
values, and the form gives x / s itself, to the bit, for every pair of their significands. Those of
bf16 are among them.

`scale_key` (the same file; kernels_numba/dialect.py) divides by 127 in three operations: right to
the bit for every significand.

    python -m bench.prove_division          # seconds; exit status 1 if any pair differs
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

SIGNIFICANDS = 1 << 23
HALVES = 1024
ULPS = 4


def _fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c with one rounding, in float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return types.float32(types.float32, types.float32, types.float32), generate


def _from_bits(typingctx: Any, bits: Any) -> Any:
    """The float32 with these bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


def _to_bits(typingctx: Any, value: Any) -> Any:
    """The bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), generate


fma: Any = intrinsic(_fma)
from_bits: Any = intrinsic(_from_bits)
to_bits: Any = intrinsic(_to_bits)


@njit(parallel=True)
def differing(first: int, last: int, broken: bool) -> int:
    """Pairs (x, s) whose quotients differ, for significands first..last. `broken` leaves out the
    last correction: the count must then not be zero.
    """
    wrong = 0
    for significand in prange(first, last):
        s = from_bits(np.int32(0x3F800000 + significand))
        inverse = np.float32(1.0) / s
        tail = fma(-s, inverse, np.float32(1.0)) * inverse
        for half in range(1, HALVES + 1):
            centre = to_bits(np.float32(np.float64(half) * 0.5 * np.float64(s)))
            for step in range(-ULPS, ULPS + 1):
                x = from_bits(np.int32(centre + step))
                q = fma(x, inverse, x * tail) if not broken else x * inverse
                if not broken:
                    q = fma(fma(-q, s, x), inverse, q)
                if to_bits(q) != to_bits(x / s):
                    wrong += 1
    return wrong


@njit
def differing_half() -> int:
    """Pairs of fp16 significands whose fast quotient is not RN(x / s) in float32."""
    wrong = 0
    for divisor in range(1024, 2048):
        s = np.float32(divisor)
        inverse = np.float32(1.0) / s
        tail = fma(-s, inverse, np.float32(1.0)) * inverse
        for dividend in range(1024, 2048):
            x = np.float32(dividend)
            q = fma(x, inverse, x * tail)
            if fma(fma(-q, s, x), inverse, q) != x / s:
                wrong += 1
    return wrong


@njit
def differing_127() -> int:
    """Significands x whose x / 127 by three operations is not RN(x / 127)."""
    wrong = 0
    d = np.float32(127.0)
    inverse = np.float32(1.0) / d
    for significand in range(SIGNIFICANDS):
        x = from_bits(np.int32(0x3F800000 + significand))
        q = x * inverse
        if fma(fma(-q, d, x), inverse, q) != x / d:
            wrong += 1
    return wrong


def main() -> int:
    start = time.perf_counter()
    caught = differing(0, 1 << 12, True)
    print(f"control: the quotient x * (1/s) differs on {caught} pairs of the first 4096 s")
    chunk, wrong = SIGNIFICANDS // 64, 0
    for number in range(64):
        wrong += differing(number * chunk, (number + 1) * chunk, False)
        print(f"\r{number + 1}/64, differing: {wrong}", end="", flush=True)
    pairs = SIGNIFICANDS * HALVES * (2 * ULPS + 1)
    print(f"\n{pairs:,} pairs, {wrong} differ, {time.perf_counter() - start:.0f} s")
    half = differing_half()
    print(f"{1024 * 1024:,} pairs of fp16 significands, {half} quotients differ")
    by_127 = differing_127()
    print(f"{SIGNIFICANDS:,} significands over 127, {by_127} quotients differ")
    return 1 if wrong or half or by_127 or not caught else 0


if __name__ == "__main__":
    sys.exit(main())
