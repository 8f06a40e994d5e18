"""Proof by exhaustion of what reference/functions.py says of exp and erf, over all 2**32 inputs.

The same steps, compiled for the CPU, are held against the NumPy oracle on a sample, bit for bit,
and then run on every float: their distance in ulp (of the exact value's binade; 2**-149 among the
subnormals) from exp and erf in float64, which is far below the distances found. Two more facts
over all inputs: erf(-x) is -erf(x), and 1 + exp(x) as the kernels form it, without the subnormal
results of exp, is 1 + exp(x).

    python -m bench.prove_functions        # a minute; exit status 1 where a bound is passed
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange

from bench.prove_division import fma, from_bits, to_bits
from reference import functions

BOUNDS = {"exp": 0.90, "erf": 1.35}
CHUNKS = 4096  # of work, for the threads

E0, E1, E2, E3, E4, E5, E6 = functions.EXP
N0, N1, N2, N3, N4, N5, N6 = functions.ERF_NEAR
F0, F1, F2, F3, F4, F5, F6, F7, F8, F9, F10, F11, F12 = functions.ERF_FAR
INVERSE_LN2, LN2_HIGH, LN2_LOW = functions.INVERSE_LN2, functions.LN2_HIGH, functions.LN2_LOW
TO_INTEGER, LOWEST, HIGHEST = functions.TO_INTEGER, functions.EXP_LOWEST, functions.EXP_HIGHEST
EDGE, CENTRE, SATURATED = functions.ERF_EDGE, functions.ERF_CENTRE, functions.ERF_SATURATED
ONE, TWO, NOTHING_TO_ONE = np.float32(1), np.float32(2), np.float32(-80)
SIGN, INFINITY = np.int32(-(1 << 31)), 0x7F800000
OVERFLOW = float.fromhex("0x1.ffffffp+127")  # from here on the nearest float32 is infinite


@njit
def exponential(bounded: Any) -> Any:
    """(mantissa, k): e**bounded = mantissa * 2**k."""
    shifted = fma(bounded, INVERSE_LN2, TO_INTEGER)
    k = shifted - TO_INTEGER
    r = fma(-k, LN2_LOW, fma(-k, LN2_HIGH, bounded))
    p = fma(fma(fma(E6, r, E5), r, E4), r, E3)
    p = fma(fma(fma(p, r, E2), r, E1), r, E0)
    return p, np.int32(to_bits(shifted) - to_bits(TO_INTEGER))


@njit
def power_of_two(k: Any) -> Any:
    return from_bits(np.int32((k + 127) << 23))


@njit
def exp(x: Any) -> Any:
    mantissa, k = exponential(min(max(x, LOWEST), HIGHEST))
    half = np.int32(k >> 1)
    return np.float32(mantissa * power_of_two(half)) * power_of_two(np.int32(k - half))


@njit
def one_plus_exp(x: Any) -> Any:
    """As functions.cuh and kernels_numba/functions.py form it."""
    mantissa, k = exponential(min(max(x, NOTHING_TO_ONE), HIGHEST))
    return fma(from_bits(np.int32(to_bits(mantissa) + np.int32((k - 1) << 23))), TWO, ONE)


@njit
def with_sign(size: Any, x: Any) -> Any:
    return from_bits(np.int32(to_bits(size) | (to_bits(x) & SIGN)))


@njit
def erf(x: Any) -> Any:
    size = abs(x)
    if size < EDGE:
        t = x * x
        p = fma(fma(fma(N6, t, N5), t, N4), t, N3)
        return fma(fma(fma(fma(p, t, N2), t, N1), t, N0), x, x)
    if size >= SATURATED:
        return with_sign(ONE, x)
    u = size - CENTRE
    p = fma(fma(fma(fma(F12, u, F11), u, F10), u, F9), u, F8)
    p = fma(fma(fma(fma(p, u, F7), u, F6), u, F5), u, F4)
    return with_sign(fma(fma(fma(fma(p, u, F3), u, F2), u, F1), u, F0), x)


@njit
def ulps(got: Any, exact: Any) -> Any:
    """Distance of a float32 from a float64 that is not 0."""
    _, exponent = math.frexp(exact)
    return abs(np.float64(got) - exact) * math.ldexp(1.0, min(24 - exponent, 149))


@njit
def exp_distance(x: Any) -> Any:
    """In ulp, or infinite where a value out of float32's range is not 0 or infinite."""
    got = exp(x)
    if x <= LOWEST:
        return 0.0 if got == 0 else np.inf
    exact = math.exp(np.float64(x)) if x < HIGHEST else np.inf
    if exact >= OVERFLOW:
        return 0.0 if got == np.inf else np.inf
    return ulps(got, exact)


@njit
def erf_distance(x: Any) -> Any:
    """In ulp; infinite where erf is not odd."""
    got = erf(x)
    if to_bits(erf(-x)) != to_bits(-got):
        return np.inf
    if x == 0:
        return 0.0 if to_bits(got) == to_bits(x) else np.inf
    exact = math.erf(np.float64(x)) if x < SATURATED else 1.0
    return ulps(got, exact)


@njit
def sum_distance(x: Any) -> Any:
    """0 where the two forms of 1 + exp(x) have the same bits."""
    return 0.0 if to_bits(one_plus_exp(x)) == to_bits(ONE + exp(x)) else np.inf


def scanner(distance: Any) -> Callable[[int, int], tuple[float, int]]:
    """Function (first bits, last bits): the largest distance among those floats, and where."""

    @njit(parallel=True)
    def scan(first: int, last: int) -> Any:
        worst, where = np.zeros(CHUNKS), np.zeros(CHUNKS, np.int64)
        size = (last - first) // CHUNKS + 1
        for chunk in prange(CHUNKS):
            for bits in range(first + chunk * size, min(first + (chunk + 1) * size, last)):
                found = distance(from_bits(np.int32(bits)))
                if found > worst[chunk]:
                    worst[chunk], where[chunk] = found, bits
        return worst.max(), where[worst.argmax()]

    return scan


@njit
def each(function: Any, x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = function(x[i])


def agrees(compiled: Any, oracle: Callable[[Any], Any]) -> bool:
    """Whether the compiled steps and the oracle give the same bits on a million floats."""
    rng = np.random.default_rng(0)
    some = rng.integers(0, 1 << 32, 700_000, np.uint32).view(np.float32)
    x = np.concatenate([some, rng.uniform(-110, 95, 300_000).astype(np.float32)])
    x = x[~np.isnan(x)]
    out = np.empty_like(x)
    each(compiled, x, out)
    return out.tobytes() == oracle(x).tobytes()


def main() -> int:
    """Prints what was found; returns the exit status."""
    failed = False
    for name, compiled in (("exp", exp), ("erf", erf)):
        same = agrees(compiled, getattr(functions, name))
        print(f"{name}: the compiled steps {'agree' if same else 'DIFFER'} with the oracle's")
        failed |= not same
    both, positive = ((0, INFINITY + 1), (1 << 31, (1 << 31) + INFINITY + 1)), ((0, INFINITY + 1),)
    for name, distance, bound, ranges in (
        ("exp", exp_distance, BOUNDS["exp"], both),
        ("erf", erf_distance, BOUNDS["erf"], positive),
        ("1 + exp", sum_distance, 0.0, both),
    ):
        start, scan = time.perf_counter(), scanner(distance)
        worst, bits = max(scan(first, last) for first, last in ranges)
        x = np.array([bits], np.uint32).view(np.float32)[0]
        count, seconds = sum(last - first for first, last in ranges), time.perf_counter() - start
        verdict = "ok" if worst <= bound else "PASSES ITS BOUND"
        print(f"{name}: {count:,} inputs, at most {worst:.4f} ulp (x = {x!s}), {seconds:.0f} s, "
              f"bound {bound}: {verdict}")  # fmt: skip
        failed |= worst > bound
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
