"""exp, erf, silu and gelu: how far from exact, at the hostile points, and in all three rooms.

Contract under test: the head of reference/functions.py. bench/prove_functions.py tries all 2**32
inputs; here are a million and the special ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from kernels_cupy.launch import run as run_cuda
from kernels_numba import functions as of_numba
from kernels_numba import launch
from kernels_numba.device import cuda, uint64
from reference import functions
from reference.numerics import DTYPES

Array = Any
SOURCE = str(Path(__file__).with_name("functions.cu"))
UNIT = 2.0**-24
EXP_ULP, ERF_ULP = 0.90, 1.35
HOSTILE = np.array(
    [
        *(0.0, 2.0**-149, 2.0**-126, 1e-10, 2.0**-24, 0.34657359, 0.34657362, 0.5, 0.99999994, 1.0),
        *(1.0000001, 1.0295621, 2.46875, 3.9199998, 3.92, 5.848642, 17.0, 17.328, 80.0, 80.5),
        *(87.336, 87.34, 88.0, 88.37, 88.72283, 88.72284, 89.0, 103.2789, 103.97, 103.98, 104.0),
        *(1e4, 1e20, 3.4028235e38, np.inf),
    ],
    np.float32,
)


def erf_form(x: Array) -> Array:
    return functions.gelu(x, "erf")


def tanh_form(x: Array) -> Array:
    return functions.gelu(x, "tanh")


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "exp": functions.exp,
    "erf": functions.erf,
    "silu": functions.silu,
    "gelu_erf": erf_form,
    "gelu_tanh": tanh_form,
}


def sample(count: int, seed: int = 0) -> Array:
    """fp32: evenly over what matters, over the orders of magnitude, any bits, and the hostile."""
    rng = np.random.default_rng(seed)
    any_bits = rng.integers(0, 1 << 32, count // 4, np.uint32).view(np.float32)
    wide = np.ldexp(rng.uniform(-2, 2, count // 4), rng.integers(-30, 8, count // 4))
    even = rng.uniform(-104, 89, count // 4), rng.uniform(-6, 6, count // 4)
    numbers = np.concatenate([wide, *even]).astype(np.float32)
    return np.concatenate([numbers, any_bits, HOSTILE, -HOSTILE])


def ulps(got: Array, exact: Array) -> Array:
    """Distance in units of the exact value's last place, that of 2**-126 among the subnormals."""
    _, exponent = np.frexp(exact)
    return np.abs(got.astype(np.float64) - exact) / np.ldexp(1.0, np.maximum(exponent - 24, -149))


def test_exp_is_near() -> None:
    x = sample(1_000_000)
    x = x[~np.isnan(x)]
    got = functions.exp(x)
    with np.errstate(over="ignore", under="ignore"):
        exact = np.exp(x.astype(np.float64))
        rounded = exact.astype(np.float32)
    inside = np.isfinite(rounded) & (rounded > 0)
    assert inside.sum() > 500_000
    assert ulps(got[inside], exact[inside]).max() <= EXP_ULP
    assert got[~inside].tobytes() == rounded[~inside].tobytes()


def test_erf_is_near() -> None:
    x = sample(1_000_000)
    x = x[~np.isnan(x) & (x != 0)]
    assert ulps(functions.erf(x), special.erf(x.astype(np.float64))).max() <= ERF_ULP


def test_special_values_of_exp() -> None:
    x = np.array([0, -0.0, np.inf, -np.inf, 88.72283, 88.72284, -103.97, -103.98], np.float32)
    got = functions.exp(x)
    assert got[:4].tolist() == [1, 1, np.inf, 0]
    assert not np.signbit(got).any()
    assert np.isfinite(got[4])
    assert got[5] == np.inf
    assert got[6:].tolist() == [2.0**-149, 0]


def test_special_values_of_erf() -> None:
    x = sample(100_000)
    x = x[~np.isnan(x)]
    assert functions.erf(-x).tobytes() == (-functions.erf(x)).tobytes()
    got = functions.erf(np.array([-0.0, np.inf, -np.inf, 3.92], np.float32))
    assert got.tolist() == [0, 1, -1, 1]
    assert np.signbit(got[0])


def test_special_values_of_activations() -> None:
    x = np.array([np.inf, -np.inf, 0.0, -0.0, 32, -100], np.float32)
    for name in ("silu", "gelu_erf", "gelu_tanh"):
        got = FUNCTIONS[name](x)
        assert got[0] == np.inf
        assert got.view(np.uint32)[1] == 0x7FFFFFFF
        assert got[2:].tolist() == [0, 0, 32, 0]
        assert np.signbit(got[2:]).tolist() == [False, True, False, True]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_is_canonical(name: str) -> None:
    bits = np.array([0x7F800001, 0xFF800001, 0xFFC00000, 0x7FFFFFFF], np.uint32)
    assert set(FUNCTIONS[name](bits.view(np.float32)).view(np.uint32).tolist()) == {0x7FFFFFFF}


def test_silu_is_within_its_bound() -> None:
    """exp 1.8 u of its share e / (1 + e), one addition, one division, one u each."""
    x = sample(400_000)
    x = x[np.isfinite(x)]
    wide, got = x.astype(np.float64), functions.silu(x)
    with np.errstate(over="ignore", under="ignore"):
        exact = wide / (1 + np.exp(-wide))
    inside = x >= np.float32(-88.72283)
    error = np.abs(got[inside].astype(np.float64) - exact[inside])
    assert (error <= 4 * UNIT * np.abs(exact[inside]) + 2.0**-149).all()
    assert (got[~inside] == 0).all()
    assert exact[~inside].min() > -2.7e-37


def test_gelu_erf_is_within_its_bound() -> None:
    """Of 1 + erf: 2 u from erf's argument times |u erf'(u)| <= 0.49, 2.7 u from erf, 2 u from the
    sum; 2 u from the product; times |x| / 2.
    """
    x = sample(400_000)
    x = x[np.isfinite(x)]
    wide = x.astype(np.float64)
    exact = wide / 2 * special.erfc(-wide / np.sqrt(2))
    error = np.abs(functions.gelu(x, "erf").astype(np.float64) - exact)
    assert (error <= 4 * UNIT * np.abs(wide) + 2.0**-149).all()


def test_gelu_tanh_is_within_its_bound() -> None:
    """t = 2 y is 4 u off, relatively; what that and exp make of 1 + exp(-t); then as silu."""
    x = sample(400_000)
    x = x[np.isfinite(x)]
    wide, got = x.astype(np.float64), functions.gelu(x, "tanh")
    y = np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)
    with np.errstate(over="ignore", under="ignore"):
        exact = wide / (1 + np.exp(-2 * y))
        share = 1 / (1 + np.exp(2 * y))
        bound = ((8 * np.abs(np.clip(y, -1e3, 1e3)) + 2) * share + 2) * UNIT * np.abs(exact)
    inside = 2 * y > -88.722  # t is 2e-5 off there
    assert (np.abs(got[inside] - exact[inside]) <= bound[inside] + 2.0**-149).all()
    assert (got[2 * y < -88.723] == 0).all()
    # Both fp64 formulas are one function of the same y: two ulps of tanh (glibc's bound on x86-64),
    # which is below 1, times |x| / 2; then 5 u of exp, sum and quotient, 3 u of sum and products.
    near, u = np.abs(wide) < 4, 2.0**-53
    apart = np.abs(exact - 0.5 * wide * (1 + np.tanh(y)))
    assert (apart <= u * np.abs(wide) + 8 * u * np.abs(exact))[near].all()


def _kernel_of(name: str) -> Any:
    function = getattr(of_numba, name)

    def each(x: Any, out: Any) -> None:
        i, step = uint64(cuda.grid(1)), uint64(cuda.gridsize(1))
        while i < uint64(x.shape[0]):
            out[i] = function(x[i])
            i += step

    return each


def in_numba(name: str, x: Array) -> Array:
    out = launch.empty(x, x.shape, "fp32")
    launch.run(_kernel_of, (name,), (32,), (128,), x, out)
    return np.asarray(out)


def in_cuda(name: str, x: Array) -> Array:
    out, which = np.empty_like(x), list(FUNCTIONS).index(name)
    arguments = x, out, np.int32(x.size), np.int32(which)
    run_cuda(SOURCE, "each", {}, (-(-x.size // 128),), (128,), arguments)
    return out


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("wing", [in_cuda, in_numba])
def test_both_wings_give_the_same_bits(wing: Any, name: str) -> None:
    narrow = [np.arange(1 << 16, dtype=np.uint16).view(DTYPES[d]) for d in ("fp16", "bf16")]
    x = np.concatenate([sample(200_000, 1), *(one.astype(np.float32) for one in narrow)])
    got, expected = wing(name, x).view(np.uint32), FUNCTIONS[name](x).view(np.uint32)
    different = np.flatnonzero(got != expected)
    assert not different.size, (x[different[:4]], got[different[:4]], expected[different[:4]])


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_the_table_changes_nothing(dtype: str) -> None:
    patterns = np.arange(1 << 16, dtype=np.uint16).view(DTYPES[dtype])
    x = np.concatenate([patterns, patterns[::-1]]).reshape(2, -1)
    by_table = functions.each(functions.silu, x)
    assert by_table[0].tobytes() == functions.each(functions.silu, x[0]).tobytes()
    assert by_table[1].tobytes() == by_table[0, ::-1].tobytes()
