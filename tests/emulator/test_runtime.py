"""The runtime's own parts: cache directory, shadow words, limits of the trace."""

from __future__ import annotations

import tempfile

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


def test_an_unwritable_cache_falls_back_to_a_private_one(monkeypatch, tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("QUANTASSAY_CACHE", str(in_the_way / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    found = native.cache_directory()
    assert found is not None
    assert found.parents[1] == tmp_path / "temporary"
    assert found.parent.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(tempfile, "tempdir", str(in_the_way))
    assert native.cache_directory() is None


def test_an_empty_variable_switches_the_cache_off(monkeypatch):
    monkeypatch.setenv("QUANTASSAY_CACHE", "")
    assert native.cache_directory() is None


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
