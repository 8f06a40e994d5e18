"""The runtime's own parts: cache directory, shadow words, limits of the trace."""

from __future__ import annotations

import numpy as np
import pytest

import emulator
from emulator import native, shadow, trace


def test_the_cache_directory_is_named_by_content(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTASSAY_CACHE", str(tmp_path))
    first = native.cache_directory()
    assert first is not None
    assert first.parent == tmp_path
    assert first == native.cache_directory()
    monkeypatch.setattr(native, "RUNTIME_SOURCES", native.RUNTIME_SOURCES[:-1])
    assert native.cache_directory() != first


def test_an_unwritable_cache_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QUANTASSAY_CACHE", str(tmp_path / "file" / "cache"))
    assert native.cache_directory() is None
    assert native.entry(lambda a: a + 1)(1) == 2


def test_every_module_with_compiled_code_is_hashed():
    here = native.Path(native.__file__).parent
    compiled = {path.name for path in here.glob("*.py") if "@jit" in path.read_text()}
    assert compiled <= {*native.RUNTIME_SOURCES}


def word(epoch: int, warp_epoch: int, warp: int, lane: int) -> int:
    return epoch | warp_epoch << 11 | lane << 20 | warp << 25


@pytest.mark.parametrize(
    ("theirs", "mine", "clash"),
    [
        (0, word(5, 0, 0, 0), False),  # never touched
        (word(5, 0, 0, 0), word(5, 0, 0, 0), False),  # myself
        (word(5, 0, 0, 1), word(5, 0, 0, 0), True),  # a lane of my warp
        (word(5, 1, 0, 1), word(5, 2, 0, 0), False),  # ... before __syncwarp
        (word(4, 0, 0, 1), word(5, 0, 0, 0), False),  # ... before __syncthreads
        (word(5, 1, 1, 0), word(5, 2, 0, 0), True),  # another warp
        (word(4, 2, 1, 0), word(5, 2, 0, 0), False),
        (word(5, 2, 0, 0) | shadow.SEVERAL_LANES, word(5, 2, 0, 0), True),
        (word(5, 1, 0, 0) | shadow.SEVERAL_LANES, word(5, 2, 0, 0), False),
        (word(5, 1, 0, 0) | shadow.SEVERAL_WARPS, word(5, 2, 0, 0), True),
        (word(4, 1, 0, 0) | shadow.SEVERAL_WARPS, word(5, 2, 0, 0), False),
    ],
)
def test_conflicts(theirs, mine, clash):
    assert shadow.conflicts.py_func(theirs, mine) == clash


def test_a_trace_that_does_not_fit_is_an_error(cuda, monkeypatch):
    source = """
    extern "C" __global__ void k(int* y) { y[threadIdx.x] = 1; y[threadIdx.x + 32] = 2; }
    """
    y = emulator.empty(64, np.int32)
    monkeypatch.setattr(trace, "CAPACITY", 64)
    assert cuda(source).launch(1, 32, (y,), trace=True).global_requests == 2
    monkeypatch.setattr(trace, "CAPACITY", 63)
    with pytest.raises(MemoryError, match=r"64 accesses of one block.*allowed: 63"):
        cuda(source).launch(1, 32, (y,), trace=True)
    assert cuda(source).launch(1, 32, (y,)).instructions > 0
