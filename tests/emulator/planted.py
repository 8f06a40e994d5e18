"""Planted bugs: what a test needs to say about one, and how it is caught.

In every source the comment BUG marks the line that the error must name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

import emulator
from emulator import EmulatorError, Fault


@dataclass
class Bug:
    source: str
    kind: Fault
    message: str
    thread: int = 0
    block: int = 0
    threads: int = 32
    blocks: int = 1
    args: tuple[Any, ...] = field(default_factory=tuple)
    shared_bytes: int = 0
    options: dict[str, Any] = field(default_factory=dict)  # of Kernel.launch

    def ready(self) -> Bug:
        """With arguments of its own.

        "empty" stands for memory that nobody has written, "same" for one array of 65 ints.
        """
        same = np.zeros(65, np.int32)
        args = (same if isinstance(arg, str) and arg == "same" else _own(arg) for arg in self.args)
        return replace(self, args=tuple(args))


def _own(arg: Any) -> Any:
    if isinstance(arg, str):
        return emulator.empty(32, np.float32)
    if not isinstance(arg, np.ndarray):
        return arg
    residue = arg.ctypes.data % 16 // arg.itemsize  # a slice stays as misaligned as it is
    room = np.zeros(arg.size + 32, arg.dtype)
    first = (residue - room.ctypes.data % 16 // arg.itemsize) % (16 // arg.itemsize)
    copy = room[first : first + arg.size].reshape(arg.shape)
    copy[...] = arg
    return copy


@dataclass(frozen=True)
class Entry:
    """One planted bug of the catalogue. fix: (old, new) texts that make the source right."""

    group: str
    name: str
    bug: Bug
    fix: tuple[tuple[str, str], ...]

    @property
    def right(self) -> str:
        source = self.bug.source
        for old, new in self.fix:
            assert old in source, f"{self.name}: no {old!r} to replace"
            source = source.replace(old, new)
        return source


def launch(kernel, bug: Bug, **options) -> None:
    options = {"shared_bytes": bug.shared_bytes, **bug.options, **options}
    kernel.launch(bug.blocks, bug.threads, bug.args, **options)


def expect(cuda, bug: Bug, **options) -> EmulatorError:
    kernel = cuda(bug.source)
    with pytest.raises(EmulatorError, match=bug.message) as caught:
        launch(kernel, bug, **options)
    error = caught.value
    assert error.kind == bug.kind
    assert error.kernel == "k"
    lines = [n for n, line in enumerate(bug.source.splitlines(), 1) if "BUG" in line]
    assert lines, "the source marks no line"
    named = re.findall(r"test\.cu:(\d+)", error.source)  # with the place it was inlined at
    assert {int(n) for n in named} & {*lines}
    assert error.thread == (bug.thread, 0, 0)
    assert error.block == (bug.block, 0, 0)
    assert f"PTX line {error.ptx_line}: {error.ptx_text}" in str(error)
    return error


# Device functions of the cp.async tests.
COPY = """
        __device__ void copy(void* to, const void* from) {
          unsigned where = __cvta_generic_to_shared(to);
          asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" :: "r"(where), "l"(from));
        }
        __device__ void commit() { asm volatile("cp.async.commit_group;"); }
        template <int N> __device__ void wait() {
          asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
        }
"""
