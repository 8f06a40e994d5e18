"""Numba's own kernels: cuda.reduce, transpose, generated ufunc kernels, random numbers.

Contract: all data is exact (integers, or floats whose sums are); random numbers are compared with
our own xoroshiro128+ and SplitMix64 on uint64 (Blackman and Vigna), bit for bit.
"""

from __future__ import annotations

import types as python_types
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
from numba import cuda, types
from numba.cuda import dispatcher
from numba.cuda import random as numba_random
from numba.cuda.kernels import reduction, transpose
from numba.cuda.np.numpy_support import from_dtype

import emulator
from bench.foreign.case import Case, Tally

ORIGIN = "numba-cuda numba/cuda/"


def expanded(argument: Any) -> list[Any]:
    """A Numba array argument as the kernel's parameters (kernels_numba/launch.py has the order)."""
    if not isinstance(argument, np.ndarray):
        return [argument]
    sizes = [np.int64(n) for n in (*argument.shape, *argument.strides)]
    counts = [np.int64(argument.size), np.int64(argument.itemsize)]
    plain = argument.view(np.uint64) if argument.dtype.names else argument
    return [None, None, *counts, plain, *sizes]


def launch(
    tally: Tally, kernel: Any, arch: int, grid: Any, block: Any, arguments: Sequence[Any]
) -> None:
    """Compile for these arguments, and run."""
    signature = types.void(*(_type(argument) for argument in arguments))
    function, target = getattr(kernel, "py_func", kernel), divmod(arch, 10)
    device = python_types.SimpleNamespace(compute_capability=target)
    with mock.patch.object(dispatcher, "get_current_device", return_value=device):  # for callees
        ptx, _ = cuda.compile_ptx(function, signature, cc=target)
    name = next(iter(emulator.ptx.parse(ptx).entries))
    flat = [part for argument in arguments for part in expanded(argument)]
    tally.ran(emulator.compile(ptx).kernel(name).launch(grid, block, flat))


def _type(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        return types.Array(from_dtype(argument.dtype), argument.ndim, "C")
    return from_dtype(argument.dtype)


def reduce(arch: int, dtype: type, function: Callable[[Any, Any], Any]) -> Tally:
    """Full blocks of 128, then one partial block over their results, as Reduce.__call__ does."""
    kernel = reduction._gpu_reduce_factory(function, from_dtype(np.dtype(dtype)))
    random, tally = np.random.default_rng(31), Tally()
    values: np.ndarray = random.integers(-1000, 1000, 128 * 9).astype(dtype)
    blocks, zero, no, yes = 5, dtype(0), np.bool_(False), np.bool_(True)
    partials: np.ndarray = np.zeros(blocks, dtype)
    result: np.ndarray = np.zeros(1, dtype)
    launch(tally, kernel, arch, blocks, 128, [values, partials, zero, no])
    launch(tally, kernel, arch, 1, blocks, [partials, result, dtype(17), yes])
    expected = dtype(17)
    for value in values:
        expected = dtype(function(expected, value))
    tally.compare("result", result, np.array([expected], dtype))
    return tally


def add(x: Any, y: Any) -> Any:
    return x + y


def largest(x: Any, y: Any) -> Any:
    return x if x > y else y


def transposed(arch: int, dtype: type) -> Tally:
    """The kernel that numba.cuda.kernels.transpose defines inside its function."""
    found: list[Any] = []

    class Recorder:
        def __init__(self, function: Any) -> None:
            found.append(function)

        def __getitem__(self, geometry: Any) -> Any:
            found.append(geometry)
            return lambda *_: None

    device = python_types.SimpleNamespace(MAX_THREADS_PER_BLOCK=256)
    driver = python_types.SimpleNamespace(get_device=lambda: device)
    a: np.ndarray = np.random.default_rng(32).integers(0, 100, (45, 70)).astype(dtype)
    b: np.ndarray = np.zeros((70, 45), dtype)
    # `if not b` asks for the truth of b: an object that holds what is needed of it
    stand_in = python_types.SimpleNamespace(shape=b.shape)
    fake = python_types.SimpleNamespace(jit=Recorder)
    with mock.patch.object(transpose, "driver", driver), mock.patch.object(transpose, "cuda", fake):
        transpose.transpose(a, stand_in)
    kernel, (grid, block, _) = found
    tally = Tally()
    launch(tally, kernel, arch, grid, block, [a, b])
    tally.compare("b", b, np.ascontiguousarray(a.T))
    return tally


def ufunc(arch: int) -> Tally:
    """The kernel text that cuda.vectorize generates, around a function of ours."""
    from numba.cuda.vectorizers import vectorizer_stager_source

    text = vectorizer_stager_source.format(
        name="f",
        args="a, b",
        argitems="a[__tid__], b[__tid__]",
        __out__="__out__",
        __tid__="__tid__",
    )
    space: dict[str, Any] = {"__cuda__": cuda, "__core__": cuda.jit(_clamped_product, device=True)}
    exec(text, space)
    random, tally = np.random.default_rng(33), Tally()
    a, b = random.standard_normal((2, 1000)).astype(np.float32)
    out = np.zeros(1000, np.float32)
    launch(tally, space["__vectorized_f"], arch, 8, 128, [a, b, out])
    tally.compare("out", out, np.clip(a * b, np.float32(-1), np.float32(1)))
    return tally


def _clamped_product(a: Any, b: Any) -> Any:
    return min(max(a * b, np.float32(-1)), np.float32(1))


class Xoroshiro:
    """xoroshiro128+ of many streams, on uint64."""

    def __init__(self, seed: int, count: int) -> None:
        mask = (1 << 64) - 1
        z = (seed + 0x9E3779B97F4A7C15) & mask  # SplitMix64
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        self.s0 = self.s1 = z ^ z >> 31
        states = []
        for _ in range(count):
            states.append((self.s0, self.s1))
            self.jump()
        self.states = np.array(states, np.uint64)

    def next(self) -> int:
        mask = (1 << 64) - 1
        a, b = self.s0, self.s1
        result = (a + b) & mask
        b ^= a
        self.s0 = (((a << 55) | (a >> 9)) & mask) ^ b ^ ((b << 14) & mask)
        self.s1 = ((b << 36) | (b >> 28)) & mask
        return result

    def jump(self) -> None:
        """2^64 steps."""
        total = [0, 0]
        for word in (0xBEAC0467EBA5FACB, 0xD86B048B86AA9922):
            for bit in range(64):
                if word >> bit & 1:
                    total[0] ^= self.s0
                    total[1] ^= self.s1
                self.next()
        self.s0, self.s1 = total


def random_numbers(arch: int, width: int) -> Tally:
    """Three uniform numbers of each of 70 streams."""
    draw = getattr(numba_random, f"xoroshiro128p_uniform_float{width}")

    def kernel(states: Any, out: Any) -> None:
        i: Any = cuda.grid(1)  # type: ignore[call-arg]
        if i < out.shape[1]:
            for turn in range(out.shape[0]):
                out[turn, i] = draw(states, i)

    model, tally, count = Xoroshiro(1234, 70), Tally(), 70
    states = np.zeros(count, numba_random.xoroshiro128p_dtype)
    numba_random.init_xoroshiro128p_states_cpu(states, 1234, 0)
    tally.compare("states", states.view(np.uint64).reshape(count, 2), model.states)
    out = np.zeros((3, count), f"float{width}")
    launch(tally, kernel, arch, 2, 64, [states, out])
    for i, (s0, s1) in enumerate(model.states.tolist()):
        model.s0, model.s1 = s0, s1
        bits = np.array([model.next() for _ in range(3)], np.uint64)
        want = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
        tally.compare("out", np.ascontiguousarray(out[:, i]), want.astype(out.dtype))
    return tally


def cases() -> list[Case]:
    kernels: tuple[tuple[str, str, Callable[..., Tally]], ...] = (
        ("kernels/reduction.py", "reduce, int64 sum",
         partial(reduce, dtype=np.int64, function=add)),
        ("kernels/reduction.py", "reduce, float32 sum",
         partial(reduce, dtype=np.float32, function=add)),
        ("kernels/reduction.py", "reduce, float64 maximum",
         partial(reduce, dtype=np.float64, function=largest)),
        ("kernels/transpose.py", "transpose, float32", partial(transposed, dtype=np.float32)),
        ("kernels/transpose.py", "transpose, int8", partial(transposed, dtype=np.int8)),
        ("vectorizers.py", "vectorize, float32", ufunc),
        ("random.py", "xoroshiro128p_uniform_float32", partial(random_numbers, width=32)),
        ("random.py", "xoroshiro128p_uniform_float64", partial(random_numbers, width=64)),
    )  # fmt: skip
    return [Case(name, ORIGIN + file, "sm_80", partial(run, 80)) for file, name, run in kernels]
